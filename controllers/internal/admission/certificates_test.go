// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
)

var (
	hosts = []string{"itechsmart-webhook.itechsmart-system.svc", "127.0.0.1"}
	begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
)

func TestIssue(t *testing.T) {
	g := NewWithT(t)
	data, err := issue(begin, hosts, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(data).To(HaveLen(3))
	current, err := read(data, begin, hosts)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(current.renew).To(BeTemporally("~", begin.Add(60*24*time.Hour), 12*time.Hour))
	g.Expect(certificates(current.authorities)).To(HaveLen(1))
	g.Expect(certificates(current.authorities)[0].KeyUsage).NotTo(BeZero())

	_, err = read(data, begin.Add(-2*time.Hour), hosts)
	g.Expect(err).To(MatchError(ContainSubstring("not yet valid")), "the clock is behind by more than the skew")
	_, err = read(data, begin.Add(validity+time.Minute), hosts)
	g.Expect(err).To(MatchError(ContainSubstring("expired")))
	_, err = read(data, begin, append(hosts, "other.svc"))
	g.Expect(err).To(MatchError(ContainSubstring("other.svc")))
}

// TestRenew: who still serves with the last certificate is trusted as long as that holds, and no longer.
func TestRenew(t *testing.T) {
	g := NewWithT(t)
	first, err := issue(begin, hosts, nil)
	g.Expect(err).NotTo(HaveOccurred())
	later := begin.Add(61 * 24 * time.Hour)
	second, err := issue(later, hosts, first[keyAuthorities])
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(certificates(second[keyAuthorities])).To(HaveLen(2))
	first[keyAuthorities] = second[keyAuthorities]
	_, err = read(first, later, hosts)
	g.Expect(err).NotTo(HaveOccurred(), "the last one under the new bundle")
	third, err := issue(later.Add(61*24*time.Hour), hosts, second[keyAuthorities])
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(certificates(third[keyAuthorities])).To(HaveLen(2), "the first authority's time is over")
}

func TestReadRefuses(t *testing.T) {
	good, err := issue(begin, hosts, nil)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	other, err := issue(begin, hosts, nil)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for name, change := range map[string]func(map[string][]byte){
		"nothing":             func(d map[string][]byte) { clear(d) },
		"no key":              func(d map[string][]byte) { delete(d, corev1.TLSPrivateKeyKey) },
		"another's key":       func(d map[string][]byte) { d[corev1.TLSPrivateKeyKey] = other[corev1.TLSPrivateKeyKey] },
		"another's authority": func(d map[string][]byte) { d[keyAuthorities] = other[keyAuthorities] },
		"no authority": func(d map[string][]byte) {
			d[keyAuthorities] = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			data := map[string][]byte{}
			for key, value := range good {
				data[key] = value
			}
			change(data)
			_, err := read(data, begin, hosts)
			g.Expect(err).To(HaveOccurred())
			if key := strings.Split(string(good[corev1.TLSPrivateKeyKey]), "\n")[1]; strings.Contains(err.Error(), key) {
				t.Error("the error quotes the key")
			}
		})
	}
}
