// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// maxText limits a client's input in a log line, in bytes.
const maxText = 256

// request is the server's state of a request in flight.
type request struct {
	id     string
	client netip.Addr
	https  bool // as seen by the client

	mu    sync.Mutex
	route string
	attrs []slog.Attr
	err   error
}

type requestKey struct{}

func requestFrom(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID returns the id of a context's request; empty outside a request.
func RequestID(ctx context.Context) string {
	if r := requestFrom(ctx); r != nil {
		return r.id
	}
	return ""
}

// ClientIP returns the address of the client: the peer's, or that of X-Forwarded-For if the peer is a trusted proxy. It
// is the zero Addr outside a request.
func ClientIP(ctx context.Context) netip.Addr {
	if r := requestFrom(ctx); r != nil {
		return r.client
	}
	return netip.Addr{}
}

// SetRoute names the route of a request, for metrics and logs: "GET /api/v1/secrets/{path}".
func SetRoute(ctx context.Context, pattern string) {
	if r := requestFrom(ctx); r != nil {
		r.mu.Lock()
		r.route = pattern
		r.mu.Unlock()
	}
}

// Annotate adds to the request's line in the access log. The values must not be secrets.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if r := requestFrom(ctx); r != nil {
		r.mu.Lock()
		r.attrs = append(r.attrs, attrs...)
		r.mu.Unlock()
	}
}

// Fail adds the cause of a failure to the access log; the client never sees it.
func Fail(ctx context.Context, err error) {
	if r := requestFrom(ctx); r != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
}

// NewLogger returns a logger of JSON lines to the standard error. A line with the context of a request has its id, and
// that of its trace if there is one. An unknown level is info.
func NewLogger(level string) *slog.Logger {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		threshold = slog.LevelInfo
	}
	return slog.New(contextual{slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: threshold})})
}

// contextual adds the attributes of the context.
type contextual struct{ slog.Handler }

func (c contextual) Handle(ctx context.Context, record slog.Record) error {
	if id := RequestID(ctx); id != "" {
		record.AddAttrs(slog.String("requestID", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("traceID", span.TraceID().String()))
	}
	return c.Handler.Handle(ctx, record)
}

func (c contextual) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextual{c.Handler.WithAttrs(attrs)}
}

func (c contextual) WithGroup(name string) slog.Handler {
	return contextual{c.Handler.WithGroup(name)}
}

// requestID returns the client's id if it is well formed, otherwise a new one.
func requestID(given string) string {
	if wellFormed(given) {
		return given
	}
	return rand.Text()
}

func wellFormed(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// clip truncates a client's text.
func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}
