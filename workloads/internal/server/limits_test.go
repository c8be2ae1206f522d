// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/config"
)

// send writes bytes and reads one response; nil if the server closed without one.
func send(t *testing.T, r *running, text string, body io.Reader) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if body != nil {
		// The server may refuse before it has read everything.
		go func() { _, _ = io.Copy(conn, body) }()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the server neither answered nor closed")
		}
		return nil
	}
	return resp
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBadInput(t *testing.T) {
	o := options(&logs{})
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(zip, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	const hundredMB = 100 << 20
	chunks := func() io.Reader {
		return io.MultiReader(strings.NewReader(fmt.Sprintf("%x\r\n", hundredMB)), io.LimitReader(zeros{}, hundredMB))
	}
	for name, c := range map[string]struct {
		text   string
		body   io.Reader
		status int // 0: closed
	}{
		"100 MB":                {"POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n", io.LimitReader(zeros{}, hundredMB), 413},
		"100 MB in chunks":      {"POST /things/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunks(), 413},
		"gzip bomb":             {fmt.Sprintf("POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len()), &bomb, 415},
		"other encoding":        {"POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: 0\r\n\r\n", nil, 415},
		"large headers":         {"GET /ip HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", nil, 431},
		"smuggling":             {"POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", nil, 400},
		"CRLF in a header":      {"GET /ip HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\rb\r\n\r\n", nil, 400},
		"NUL in a header":       {"GET /ip HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\x00b\r\n\r\n", nil, 400},
		"CRLF in a path":        {"GET /things/a%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: a\r\n\r\n", nil, 400},
		"no host":               {"GET /ip HTTP/1.1\r\n\r\n", nil, 400},
		"no HTTP":               {"canary\r\n\r\n", nil, 400},
		"dot segments":          {"GET /a/../ip HTTP/1.1\r\nHost: a\r\n\r\n", nil, 400},
		"empty segments":        {"GET //ip HTTP/1.1\r\nHost: a\r\n\r\n", nil, 400},
		"OPTIONS of all":        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", nil, 200},
		"broken UTF-8 of agent": {"GET /ip HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\r\n\r\n", nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			resp := send(t, r, c.text, c.body)
			status := 0
			if resp != nil {
				status = resp.StatusCode
				if resp.Header.Get("Set-Cookie") != "" {
					t.Error("a header was injected")
				}
			}
			if status != c.status {
				t.Errorf("got %d, want %d", status, c.status)
			}
			if grown := int64(heap()) - int64(before); grown > 16<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
		})
	}
	if alive := fetch(t, http.MethodGet, r.url+"/ip", ""); alive.status != http.StatusOK {
		t.Errorf("afterwards: %d", alive.status)
	}
}

// A route with a stream may allow more than the others; a path that only looks like it may not.
func TestLargeBodies(t *testing.T) {
	o := options(&logs{})
	o.MaxBodyBytes, o.LargeBodies = 1000, map[string]int64{"PUT /files/{name}/content": 5000}
	s := New(o)
	s.Mount(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
	r := run(t, s)
	for name, c := range map[string]struct {
		method, path string
		size, status int
	}{
		"a stream":           {"PUT", "/files/a/content", 5000, 200},
		"an escaped slash":   {"PUT", "/files/a%2Fb/content", 5000, 200},
		"over its limit":     {"PUT", "/files/a/content", 5001, 413},
		"another route":      {"PUT", "/files/a", 1001, 413},
		"another method":     {"POST", "/files/a/content", 1001, 413},
		"one segment":        {"PUT", "/files/a%2Fcontent", 1001, 413},
		"within the general": {"PUT", "/files/a", 1000, 200},
	} {
		for _, announced := range []bool{true, false} {
			head := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", c.size, strings.Repeat("x", c.size))
			if !announced {
				head = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", c.size, strings.Repeat("x", c.size))
			}
			resp := send(t, r, c.method+" "+c.path+" HTTP/1.1\r\nHost: a\r\n"+head, nil)
			if resp == nil || resp.StatusCode != c.status {
				t.Errorf("%s, length sent: %v: %v, want %d", name, announced, resp, c.status)
			}
		}
	}
}

// heap returns the number of allocated bytes that are not freed yet.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestSlowHeaders(t *testing.T) {
	o := options(&logs{})
	o.ReadHeaderTimeout, o.ReadTimeout = 200*time.Millisecond, 400*time.Millisecond
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	for name, text := range map[string]string{
		"no header":     "",
		"half a header": "GET /ip HTTP/1.1\r\nHost: a\r\nX-A: ",
		"half a body":   "POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			// It closes, or refuses: send fails if it does neither.
			if resp := send(t, r, text, nil); resp != nil && (resp.StatusCode < 400 || resp.StatusCode > 499) {
				t.Errorf("status %d", resp.StatusCode)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestClientIP(t *testing.T) {
	prefix := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	trusted := prefix("10.0.0.0/8", "fd00::/8")
	for name, c := range map[string]struct {
		peer    string
		forward []string
		want    string
	}{
		"no proxy":               {"203.0.113.9:1", nil, "203.0.113.9"},
		"forged, no proxy":       {"203.0.113.9:1", []string{"1.2.3.4"}, "203.0.113.9"},
		"one proxy":              {"10.0.0.1:1", []string{"1.2.3.4"}, "1.2.3.4"},
		"two proxies":            {"10.0.0.1:1", []string{"1.2.3.4, 10.0.0.2"}, "1.2.3.4"},
		"forged before a proxy":  {"10.0.0.1:1", []string{"6.6.6.6, 1.2.3.4"}, "1.2.3.4"},
		"forged trusted address": {"10.0.0.1:1", []string{"10.9.9.9, 1.2.3.4"}, "1.2.3.4"},
		"several headers":        {"10.0.0.1:1", []string{"6.6.6.6", "1.2.3.4"}, "1.2.3.4"},
		"only proxies":           {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"no address":             {"10.0.0.1:1", []string{"1.2.3.4, unknown"}, "10.0.0.1"},
		"empty":                  {"10.0.0.1:1", []string{""}, "10.0.0.1"},
		"with a port":            {"10.0.0.1:1", []string{"1.2.3.4:5678"}, "1.2.3.4"},
		"IPv6":                   {"[fd00::1]:1", []string{"[2001:db8::1]:5678"}, "2001:db8::1"},
		"IPv6 in brackets":       {"[fd00::1]:1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"mapped IPv4":            {"[::ffff:10.0.0.1]:1", []string{"::ffff:1.2.3.4"}, "1.2.3.4"},
		"too many hops":          {"10.0.0.1:1", []string{"1.2.3.4" + strings.Repeat(", 10.0.0.2", 100)}, "10.0.0.2"},
		"no peer":                {"@", []string{"1.2.3.4"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.forward != nil {
			r.Header["X-Forwarded-For"] = c.forward
		}
		if addr, _ := proxies(trusted).client(r); addr.String() != c.want {
			t.Errorf("%s: %s, want %s", name, addr, c.want)
		}
	}
	o := options(&logs{})
	o.TrustedProxies = local
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	g := fetch(t, http.MethodGet, r.url+"/ip", "", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Proto", "https")
	if g.body != "1.2.3.4" || g.header.Get("Strict-Transport-Security") == "" {
		t.Errorf("behind a trusted proxy: %s %v", g.body, g.header)
	}
}

func TestOrigins(t *testing.T) {
	o := options(&logs{})
	o.CORS = config.CORS{Origins: []string{"https://console.example.com"}}
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	for name, c := range map[string]struct {
		method, origin string
		headers        []string
		status         int
		allowed        string
	}{
		"preflight":                      {"OPTIONS", "https://console.example.com", []string{"Access-Control-Request-Method", "POST"}, 204, "https://console.example.com"},
		"preflight from another site":    {"OPTIONS", "https://evil.example", []string{"Access-Control-Request-Method", "POST"}, 403, ""},
		"a suffix":                       {"OPTIONS", "https://console.example.com.evil.example", []string{"Access-Control-Request-Method", "POST"}, 403, ""},
		"another scheme":                 {"OPTIONS", "http://console.example.com", []string{"Access-Control-Request-Method", "POST"}, 403, ""},
		"write":                          {"POST", "https://console.example.com", []string{"Cookie", "a=b", "Sec-Fetch-Site", "same-site"}, 201, "https://console.example.com"},
		"write from another site":        {"POST", "https://evil.example", []string{"Cookie", "a=b"}, 403, ""},
		"write without a site":           {"POST", "null", []string{"Cookie", "a=b"}, 403, ""},
		"write, as a browser reports it": {"POST", "", []string{"Cookie", "a=b", "Sec-Fetch-Site", "cross-site"}, 403, ""},
		"a sibling's site":               {"POST", "", []string{"Cookie", "a=b", "Sec-Fetch-Site", "same-site"}, 403, ""},
		"write of our own page":          {"POST", "", []string{"Cookie", "a=b", "Sec-Fetch-Site", "same-origin"}, 201, ""},
		"write without a browser":        {"POST", "", []string{"Cookie", "a=b"}, 201, ""},
		"write with a token":             {"POST", "https://other.example", []string{"Authorization", "Bearer a"}, 201, ""},
		"login from another site":        {"POST", "https://evil.example", nil, 403, ""},
		"read from another site":         {"GET", "https://evil.example", []string{"Cookie", "a=b"}, 405, ""},
	} {
		headers := c.headers
		if c.origin != "" {
			headers = append(headers, "Origin", c.origin)
		}
		g := fetch(t, c.method, r.url+"/things/1", "", headers...)
		if g.status != c.status || g.header.Get("Access-Control-Allow-Origin") != c.allowed || g.header.Get("Vary") != "Origin" {
			t.Errorf("%s: %d %q %q, want %d %q", name, g.status, g.header.Get("Access-Control-Allow-Origin"), g.header.Get("Vary"), c.status, c.allowed)
		}
		if credentials := g.header.Get("Access-Control-Allow-Credentials"); (credentials == "true") != (c.allowed != "") {
			t.Errorf("%s: credentials %q", name, credentials)
		}
	}
}
