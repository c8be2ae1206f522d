// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzForwarded checks that without a trusted peer the headers are ignored, and that with one the client is the last
// address that is not a proxy, whatever precedes it.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{
		"", "1.2.3.4", "6.6.6.6, 1.2.3.4", "1.2.3.4, 10.0.0.2", "10.0.0.3, 10.0.0.2", "unknown", "1.2.3.4:5678", "[2001:db8::1]:5678", "[2001:db8::1]", "::ffff:1.2.3.4",
		"fe80::1%eth0", ",", " , ,", "1.2.3.4,", strings.Repeat("10.0.0.2,", 100), "1.2.3.4, \x00", "0x7f.1", "1.2.3.4;proto=https", "[[::1]]",
	} {
		f.Add(seed, "10.0.0.1:80")
		f.Add(seed, "203.0.113.9:80")
	}
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, header, peer string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {header}, "X-Forwarded-Proto": {header}}}
		got, https := trusted.client(r)
		from := parseAddr(peer)
		if !from.IsValid() || !trusted.trust(from) {
			if got != from || https {
				t.Fatalf("%q of %q gives %s, %t", header, peer, got, https)
			}
			return
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%q returns %s: one client has two forms", header, got)
		}
		r.Header.Set("X-Forwarded-For", "192.0.2.1, "+header)
		if before, _ := trusted.client(r); before != got && !trusted.trust(got) {
			t.Fatalf("%q returns %s, with an address before it %s", header, got, before)
		}
		r.Header.Set("X-Forwarded-For", header+", 198.51.100.7")
		if last, _ := trusted.client(r); last != netip.MustParseAddr("198.51.100.7") {
			t.Fatalf("the client that the proxy saw is reported as %s", last)
		}
	})
}

// FuzzRequest checks that a request that reaches a handler has a clean path, a query and headers that logs and a database
// can store.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][4]string{
		{"/things/1", "a=b", "curl", "id-1"}, {"/a/../ip", "", "", ""}, {"//ip", "", "", ""}, {"//", "", "", ""}, {"/a%2F..%2Fb", "", "", ""}, {"/a%00", "", "", ""}, {"/%0d%0aSet-Cookie:x", "", "", ""},
		{"/", "a=%00", "", ""}, {"/", "a=%ff", "", ""}, {"/", "a=%zz", "", ""}, {"/", "a;b", "", ""}, {"/%ff", "", "\xff", "\xff"}, {"/.", "", "", "../id"}, {"*", "", "", ""}, {"/a/", "a=%0d%0a", "", "a b"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	s := New(options(&logs{}))
	s.Mount(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, text := range []string{r.URL.Path, r.UserAgent(), r.Referer(), RequestID(r.Context())} {
			if !utf8.ValidString(text) {
				w.Header().Set("X-Broken", "UTF-8")
			}
		}
		if strings.ContainsAny(r.URL.Path, "\x00\r\n") || strings.Contains(r.URL.EscapedPath()+"/", "/../") || strings.Contains(r.URL.EscapedPath(), "//") {
			w.Header().Set("X-Broken", "path")
		}
		for _, values := range r.URL.Query() {
			for _, value := range values {
				if strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
					w.Header().Set("X-Broken", "query")
				}
			}
		}
	}))
	f.Fuzz(func(t *testing.T, path, query, agent, id string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		parsed, err := r.URL.Parse(path)
		if err != nil || parsed.Host != "" || parsed.Scheme != "" {
			return
		}
		// As net/http parses the request line: Parse would resolve the dots.
		if r.URL.Path, err = url.PathUnescape(path); err != nil {
			return
		}
		r.URL.RawPath, r.URL.RawQuery = path, query
		r.Header.Set("User-Agent", agent)
		r.Header.Set("Referer", agent)
		r.Header.Set("X-Request-Id", id)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if broken := w.Header().Get("X-Broken"); broken != "" {
			t.Fatalf("a broken %s reaches the handler: %q %q %q", broken, path, query, agent)
		}
		if w.Code >= 500 || !wellFormed(w.Header().Get("X-Request-Id")) {
			t.Fatalf("status %d, id %q", w.Code, w.Header().Get("X-Request-Id"))
		}
	})
}
