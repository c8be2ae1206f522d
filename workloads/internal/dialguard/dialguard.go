// SPDX-License-Identifier: Apache-2.0

// Package dialguard keeps requests to URLs from a tenant away from what only the cluster should reach. The address is
// checked when the connection is made, after the name was resolved, so that a name which resolves differently the second
// time gains nothing.
package dialguard

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Variable allows private addresses for the whole process if it is "true". A tenant has no such switch.
const Variable = "ITECHSMART_ALLOW_PRIVATE_ADDRESSES"

// ErrRefused is the error of a refused address: an edit or an administrator may help.
var ErrRefused = errors.New("address is not allowed")

// Guard decides which addresses may be dialled. The zero value allows only public ones.
type Guard struct {
	// AllowPrivate allows loopback, private and cluster-internal addresses. Link-local ones,
	// where clouds serve their metadata, stay refused.
	AllowPrivate bool
	// Private are the allowed private addresses, if not all of them are.
	Private []netip.Prefix
}

// FromEnv reads Variable.
func FromEnv() Guard { return Guard{AllowPrivate: os.Getenv(Variable) == "true"} }

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, text := range list {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

var (
	// never: link-local, metadata services, and addresses that are not a single host.
	never = prefixes("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "::/128", "100.100.100.200/32", "168.63.129.16/32")
	// private: networks that are not the Internet (IANA's special-purpose registries).
	private = prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "::1/128", "fc00::/7", "fec0::/10", "2001:db8::/32", "100::/64")
)

// Check returns an error unless an address may be dialled. IPv6 forms that embed an IPv4 address are checked by that.
func (g Guard) Check(address netip.Addr) error {
	address = embedded(address.WithZone("").Unmap())
	for _, prefix := range never {
		if prefix.Contains(address) {
			return fmt.Errorf("%w: %s is link-local or reserved", ErrRefused, address)
		}
	}
	if g.AllowPrivate {
		return nil
	}
	for _, prefix := range g.Private {
		if prefix.Contains(address) {
			return nil
		}
	}
	for _, prefix := range private {
		if prefix.Contains(address) {
			return fmt.Errorf("%w: %s is private", ErrRefused, address)
		}
	}
	return nil
}

var (
	nat64    = netip.MustParsePrefix("64:ff9b::/96")
	nat64own = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToIV  = netip.MustParsePrefix("2002::/16")
	teredo   = netip.MustParsePrefix("2001::/32")
	compat   = netip.MustParsePrefix("::/96")
)

func embedded(address netip.Addr) netip.Addr {
	if !address.Is6() || address.IsLoopback() || address.IsUnspecified() {
		return address
	}
	b := address.As16()
	switch {
	case nat64.Contains(address), compat.Contains(address):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToIV.Contains(address):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case nat64own.Contains(address), teredo.Contains(address):
		return netip.AddrFrom4([4]byte{}) // its meaning depends on local setup: refuse
	}
	return address
}

// Control is for net.Dialer: it runs with the resolved address before the connection is made.
func (g Guard) Control(_, address string, _ syscall.RawConn) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is not an address", ErrRefused, address)
	}
	return g.Check(parsed.Addr())
}

// Transport returns an HTTP transport that dials only allowed addresses. It uses no proxy, because a proxy would resolve
// the names itself.
func (g Guard) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: g.Control}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        60 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
	}
}
