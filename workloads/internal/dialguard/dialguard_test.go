// SPDX-License-Identifier: Apache-2.0

package dialguard_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/dialguard"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		address            string
		public, allPrivate bool
	}{
		{"93.184.216.34", true, true}, {"2606:2800:220:1::1", true, true},
		{"127.0.0.1", false, true}, {"::1", false, true}, {"10.1.2.3", false, true}, {"172.31.0.1", false, true}, {"192.168.1.1", false, true},
		{"100.64.0.1", false, true}, {"fd12::1", false, true}, {"::ffff:10.0.0.1", false, true}, {"64:ff9b::10.0.0.1", false, true}, {"2002:0a00:0001::", false, true},
		{"169.254.169.254", false, false}, {"::ffff:169.254.169.254", false, false}, {"64:ff9b::a9fe:a9fe", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false},
		{"fd00:ec2::254", false, false}, {"0.0.0.0", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"2001:0:1::1", false, false},
	} {
		address := netip.MustParseAddr(test.address)
		if err := (dialguard.Guard{}).Check(address); (err == nil) != test.public {
			t.Errorf("%s: %v, want allowed %v", test.address, err, test.public)
		}
		if err := (dialguard.Guard{AllowPrivate: true}).Check(address); (err == nil) != test.allPrivate {
			t.Errorf("%s with private addresses: %v, want allowed %v", test.address, err, test.allPrivate)
		}
	}
}

// TestPrivate checks that a list allows its own addresses and no others, and never those that are always refused.
func TestPrivate(t *testing.T) {
	guard := dialguard.Guard{Private: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd12::/64")}}
	for address, allowed := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "fd12::1": true, "93.184.216.34": true,
		"10.2.0.1": false, "127.0.0.1": false, "fd13::1": false, "169.254.169.254": false, "::ffff:169.254.169.254": false,
	} {
		if err := guard.Check(netip.MustParseAddr(address)); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %v", address, err, allowed)
		}
	}
}

func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	get := func(g dialguard.Guard, host string) error {
		client := &http.Client{Transport: g.Transport()}
		response, err := client.Get("http://" + host + server.URL[len("http://127.0.0.1"):])
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if err := get(dialguard.Guard{}, host); !errors.Is(err, dialguard.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", host, err)
		}
		if err := get(dialguard.Guard{AllowPrivate: true}, host); err != nil {
			t.Errorf("%s with private addresses: %v", host, err)
		}
	}
}
