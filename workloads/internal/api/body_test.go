// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// spaces is an endless body that might become JSON.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestLargeBodies(t *testing.T) {
	s := serve(t, idempotent(t, failing{}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, c := range map[string]struct {
		path   string
		size   int64
		length bool // Content-Length, else chunks
		key    string
		status int
	}{
		"over the operation's limit":            {"/api/v1/notes/a", 1<<20 + 1, true, "", 413},
		"over the operation's limit, in chunks": {"/api/v1/notes/a", 100 << 20, false, "", 413},
		"over the server's limit":               {"/api/v1/large", 100 << 20, true, "", 413},
		"over the server's limit, in chunks":    {"/api/v1/large", 100 << 20, false, "", 413},
		"over the server's limit, with a key":   {"/api/v1/notes", 100 << 20, false, "k", 413},
		"within the limits":                     {"/api/v1/large", 1 << 20, false, "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			method := http.MethodPut
			if c.key != "" {
				method = http.MethodPost
			}
			req, err := http.NewRequestWithContext(t.Context(), method, s.URL+c.path, io.LimitReader(spaces{}, c.size))
			if err != nil {
				t.Fatal(err)
			}
			if c.length {
				req.ContentLength = c.size
			}
			req.Header.Set("Content-Type", "application/json")
			if c.key != "" {
				req.Header.Set(key, c.key)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("got %d, want %d", resp.StatusCode, c.status)
			}
		})
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestBodiesThatEndEarly(t *testing.T) {
	s := serve(t, nil)
	for name, c := range map[string]struct {
		path   string
		end    bool
		status int
	}{
		"cut":  {"large", true, http.StatusBadRequest},
		"slow": {"hasty", false, http.StatusRequestTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "PUT /api/v1/"+c.path+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"canary\":"); err != nil {
				t.Fatal(err)
			}
			if c.end {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || strings.Contains(string(body), "canary") {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, c.status)
			}
		})
	}
}
