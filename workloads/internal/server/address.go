// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops limits how many proxies of X-Forwarded-For are checked.
const maxHops = 32

// proxies are the addresses whose X-Forwarded-* headers are trusted.
type proxies []netip.Prefix

func (p proxies) trust(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// client returns the sender of a request, and whether it used HTTPS. X-Forwarded-For is read from its end: every trusted
// proxy appended its peer, so the first address that is not a trusted proxy is the client; what precedes it is the
// client's claim.
func (p proxies) client(r *http.Request) (addr netip.Addr, https bool) {
	addr, https = parseAddr(r.RemoteAddr), r.TLS != nil
	if !addr.IsValid() || !p.trust(addr) {
		return addr, https
	}
	https = https || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	lines := r.Header["X-Forwarded-For"]
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; hops++ {
			if hops == maxHops {
				return addr, https
			}
			var hop string
			rest, hop, more = cutLast(rest)
			next := parseAddr(strings.TrimSpace(hop))
			if !next.IsValid() {
				return addr, https
			}
			if addr = next; !p.trust(addr) {
				return addr, https
			}
		}
	}
	return addr, https
}

// cutLast splits a list at its last comma.
func cutLast(list string) (rest, last string, more bool) {
	if i := strings.LastIndexByte(list, ','); i >= 0 {
		return list[:i], list[i+1:], true
	}
	return "", list, false
}

// parseAddr parses an address with or without a port; it returns the zero Addr for anything else.
func parseAddr(text string) netip.Addr {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
