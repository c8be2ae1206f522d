// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// observe is the outermost middleware: it records each request in metrics, log and trace.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		info := &request{id: requestID(r.Header.Get("X-Request-Id"))}
		info.client, info.https = s.proxies.client(r)
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, info))
		w.Header()["X-Request-Id"] = []string{info.id}
		if s.draining() {
			// The client's next connection then reaches another replica.
			w.Header()["Connection"] = []string{"close"}
		}
		out := &response{ResponseWriter: w}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			s.finish(r, info, out, start)
		}()
		defer s.recovered(out, r)
		next.ServeHTTP(out, r)
	})
}

// recovered responds with 500 to a panic, or closes the connection if the response has begun.
func (s *Server) recovered(w *response, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(cause)
	}
	s.metrics.panics.Inc()
	// The value of a panic may contain the client's input: its type and the stack are enough.
	s.log.ErrorContext(r.Context(), "a handler panicked", "type", fmt.Sprintf("%T", cause), "value", clip(panicText(cause)), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	problem.Write(w, r, problem.New(http.StatusInternalServerError, "internal", "an internal error; the log has the details under the request's id"))
}

// panicText returns the text of the runtime's own errors; any other value may contain anything.
func panicText(cause any) string {
	if err, ok := cause.(runtime.Error); ok {
		return err.Error()
	}
	return ""
}

// finish writes the request's metrics, log line and span.
func (s *Server) finish(r *http.Request, info *request, w *response, start time.Time) {
	took := time.Since(start)
	status := w.status
	if status == 0 { // a handler that wrote nothing responded with 200
		status = http.StatusOK
	}
	info.mu.Lock()
	defer info.mu.Unlock()
	if info.route = cmp.Or(info.route, r.Pattern); info.route == "" {
		info.route = cmp.Or(s.mounted.Load().route(r), unmatched)
	}
	s.metrics.observe(info.route, r.Method, status, took)
	ctx := r.Context()
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetName(info.route)
		span.SetAttributes(attribute.String("http.route", info.route), attribute.String("request.id", info.id))
	}
	level := slog.LevelInfo
	switch {
	case info.probe() && status >= 500:
		level = slog.LevelWarn // it starts, drains or waits: no request failed
	case info.probe():
		level = slog.LevelDebug
	case status >= 500:
		level = slog.LevelError
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("method", clip(r.Method)), slog.String("route", info.route),
		// Without the query, which may contain a code or a token.
		slog.String("path", clip(r.URL.EscapedPath())), slog.Int("status", status), slog.Int64("bytes", w.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("ip", info.client.String()),
		slog.String("userAgent", clip(r.UserAgent())))
	attrs = append(attrs, info.attrs...)
	if info.err != nil {
		attrs = append(attrs, slog.String("error", info.err.Error()))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// probe reports whether the path is one of the server's own, which are polled every few seconds.
func (r *request) probe() bool {
	return r.route == routeHealth || r.route == routeLive || r.route == routeReady
}

// response records the response.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(data)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController use flushing, hijacking and deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher, which some libraries use without a ResponseController.
func (w *response) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}
