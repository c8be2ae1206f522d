// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// BenchmarkREST measures a request through the whole kit, except the network, authentication and the rate limit.
func BenchmarkREST(b *testing.B) {
	n := &notes{cursors: api.NewCursors([]byte(testKey)), stored: map[string]note{"a": {Name: "a", Text: "hello", Version: 1}}}
	mux := http.NewServeMux()
	n.register(api.New(mux, "Notes", "1"))
	kit := server.New(server.Options{Name: "bench", Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
	kit.Mount(server.Routes(mux))
	handler := kit.Handler()
	for name, c := range map[string]struct{ method, path, body string }{
		"read":  {http.MethodGet, "/api/v1/notes/a", ""},
		"write": {http.MethodPut, "/api/v1/notes/a", `{"name":"a","text":"` + strings.Repeat("x", 256) + `","labels":{"team":"a"}}`},
		"error": {http.MethodGet, "/api/v1/notes/b", ""},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
					if c.body != "" {
						r.Header.Set("Content-Type", "application/json")
					}
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code >= http.StatusInternalServerError {
						b.Fatal(w.Body)
					}
				}
			})
		})
	}
}
