// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/config"
)

// TestPayloads checks that a value that is too large for a row is stored in a bucket of the Platform's object storage,
// and read back unchanged.
func TestPayloads(t *testing.T) {
	f := connect(t).workflows()
	binding := servers.Bucket(t, servers.StartMinIO(t).Binding)
	bucket, err := s3.Open(binding)
	f.Expect(err).NotTo(HaveOccurred())
	defer bucket.Close() //nolint:errcheck // the test ends

	external := binding
	external.URI = ""
	external.Host, external.Port, err = net.SplitHostPort(f.forwarded(binding.Address()))
	f.Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "e2e-objects", Namespace: namespace}, StringData: external.Data()}
	_ = f.client.Delete(f.ctx, secret.DeepCopy()) // an earlier run may have left it
	f.Expect(f.client.Create(f.ctx, secret)).To(Succeed())
	f.after(func(c *cluster) { _ = c.client.Delete(c.ctx, secret) })
	f.changeServices(func(s *platformv1alpha1.PlatformSpec) {
		s.Backends.ObjectStorage = &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: secret.Name}}}
	}, func(s *config.Service) bool { return s.Product != workflowv1alpha1.Product || len(s.Objects) > 0 })
	f.changeWorkflow(func(s *workflowv1alpha1.WorkflowServiceSpec) { s.MaxOutputBytes = 16 << 20 })

	const size = 5 << 20
	f.define("e2e-large", `triggers: [{name: hand, type: Manual}]
steps:
- {name: make, type: script, with: {source: "def main(inputs):\n  return \"x\" * 5242880"}}
- {name: pass, needs: [make], type: transform, with: {value: "${{ steps.make.output.result }}"}}
- {name: size, needs: [pass], type: transform, with: {value: "${{ size(steps.pass.output) }}"}}
outputs: {size: "${{ steps.size.output }}"}`)
	r := f.ended(f.start("e2e-large", nil), "Succeeded")
	f.Expect(r.Outputs).To(HaveKeyWithValue("size", BeNumerically("==", size)))
	folders, _, err := bucket.Folders(f.ctx, "", 10)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(folders).To(ContainElement(HaveSuffix("." + r.ID)))

	request, err := http.NewRequestWithContext(f.ctx, http.MethodGet, f.address+"/runs/"+r.ID+"/steps/pass/output", nil)
	f.Expect(err).NotTo(HaveOccurred())
	request.Header.Set("Authorization", "Bearer "+f.token)
	response, err := http.DefaultClient.Do(request)
	f.Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(response.StatusCode).To(Equal(http.StatusOK))
	f.Expect(string(text) == `"`+strings.Repeat("x", size)+`"`).To(BeTrue(), "%d bytes", len(text))
}

// forwarded makes an address of this machine reachable from Pods, until the end of the test.
func (c *cluster) forwarded(address string) string {
	c.t.Helper()
	var nodes corev1.NodeList
	c.Expect(c.client.List(c.ctx, &nodes)).To(Succeed())
	var host string
	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			host = a.Address
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	c.Expect(err).NotTo(HaveOccurred())
	var group sync.WaitGroup
	c.t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	group.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go pipe(from, address)
		}
	})
	return listener.Addr().String()
}

// pipe copies in both directions until one side ends.
func pipe(from net.Conn, address string) {
	defer from.Close() //nolint:errcheck // the copy has ended
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // the copy has ended
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
}
