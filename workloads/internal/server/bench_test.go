// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkChain measures what the server adds to a request: everything around a handler that does nothing, including the
// access log.
func BenchmarkChain(b *testing.B) {
	s := New(Options{Name: "bench", Log: slog.New(contextual{slog.NewJSONHandler(io.Discard, nil)}), TrustedProxies: local})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/things/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.Mount(Routes(mux))
	handler := s.Handler()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req := httptest.NewRequest(http.MethodGet, "/api/v1/things/7", nil)
		req.RemoteAddr = "127.0.0.1:5555"
		req.Header.Set("X-Forwarded-For", "203.0.113.9, 127.0.0.2")
		req.Header.Set("User-Agent", "bench")
		req.Header.Set("Authorization", "Bearer x")
		for pb.Next() {
			handler.ServeHTTP(&discard{header: make(http.Header, 16)}, req)
		}
	})
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header       { return d.header }
func (*discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) WriteHeader(int)             {}
