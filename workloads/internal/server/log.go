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

// maxText bounds what a client chooses in a log line, in bytes.
const maxText = 256

// request is the state of a request in flight.
type request struct {
	id     string
	client netip.Addr
	https  bool // from the client's view

	mu    sync.Mutex
	route string
	attrs []slog.Attr
	err   error
}

type requestKey struct{}

func of(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID returns the id of the request that a context belongs to; empty outside of one.
func RequestID(ctx context.Context) string {
	if r := of(ctx); r != nil {
		return r.id
	}
	return ""
}

// ClientIP returns the address of the client: the peer's, or what X-Forwarded-For
// says when the peer is a trusted proxy. It is the zero Addr outside of a request.
func ClientIP(ctx context.Context) netip.Addr {
	if r := of(ctx); r != nil {
		return r.client
	}
	return netip.Addr{}
}

// SetRoute names the route of a request, for metrics and logs: "GET /api/v1/secrets/{path}".
func SetRoute(ctx context.Context, pattern string) {
	if r := of(ctx); r != nil {
		r.mu.Lock()
		r.route = pattern
		r.mu.Unlock()
	}
}

// Annotate adds to the request's line in the access log. The values must be no secrets.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if r := of(ctx); r != nil {
		r.mu.Lock()
		r.attrs = append(r.attrs, attrs...)
		r.mu.Unlock()
	}
}

// Fail tells the access log why a request failed; the client never sees it.
func Fail(ctx context.Context, err error) {
	if r := of(ctx); r != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
}

// NewLogger writes JSON lines to the standard error. A line that is written
// with the context of a request has its id, and its trace's when there is one.
// An unknown level is info.
func NewLogger(level string) *slog.Logger {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		threshold = slog.LevelInfo
	}
	return slog.New(contextual{slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: threshold})})
}

// contextual adds what the context knows.
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

// requestID takes the client's id when it is well formed, and makes one otherwise.
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

// clip bounds a text that a client chose.
func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}
