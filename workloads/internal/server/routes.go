// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

const (
	routeHealth = "GET " + config.HealthPath
	routeLive   = "GET " + config.LivePath
	routeReady  = "GET " + config.ReadyPath
)

// dispatch serves the server's own paths, and passes the rest to the mounted handler.
func (s *Server) dispatch() http.Handler {
	own := http.NewServeMux()
	own.HandleFunc(routeHealth, func(w http.ResponseWriter, _ *http.Request) {
		status, report := s.health.report()
		writeJSON(w, status, report)
	})
	own.HandleFunc(routeLive, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": StatusUp})
	})
	own.HandleFunc(routeReady, func(w http.ResponseWriter, r *http.Request) {
		if err := s.readiness(); err != nil {
			Fail(r.Context(), err)
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready"})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	router := Routes(own)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case config.HealthPath, config.LivePath, config.ReadyPath:
			router.ServeHTTP(w, r)
			return
		}
		mounted := s.mounted.Load()
		if mounted == nil {
			e := problem.New(http.StatusServiceUnavailable, "starting", "the service is starting")
			e.Headers = http.Header{"Retry-After": {"1"}}
			problem.Write(w, r, e)
			return
		}
		mounted.handler.ServeHTTP(w, r)
	})
}

// Routes returns a handler of a mux whose matched pattern is the route in metrics and logs, whatever is between it and
// the server, and whose 404 and 405 have the common form of errors.
func Routes(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		routed := &routing{ResponseWriter: w, request: r}
		// Also if the handler panics.
		defer func() { SetRoute(r.Context(), r.Pattern) }()
		mux.ServeHTTP(routed, r)
	})
}

// routing replaces a ServeMux's responses when no pattern matches.
type routing struct {
	http.ResponseWriter
	request  *http.Request
	replaced bool
}

// WriteHeader implements http.ResponseWriter.
func (w *routing) WriteHeader(status int) {
	if w.request.Pattern == "" && !w.replaced {
		switch status {
		case http.StatusNotFound:
			w.replace(problem.New(status, "not_found", "there is nothing at this path"))
			return
		case http.StatusMethodNotAllowed:
			w.replace(problem.New(status, "method_not_allowed", "the path does not support this method; header Allow lists those it supports"))
			return
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *routing) replace(e *problem.Error) {
	w.replaced = true
	problem.Write(w.ResponseWriter, w.request, e)
}

// Write implements http.ResponseWriter.
func (w *routing) Write(data []byte) (int, error) {
	if w.replaced {
		return len(data), nil
	}
	return w.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach flushing, hijacking and deadlines.
func (w *routing) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *routing) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }
