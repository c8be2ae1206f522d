// SPDX-License-Identifier: Apache-2.0

// Package live streams events to clients: one-way WebSockets with a JSON value per message. The caller is authenticated
// as for any request; a browser sends its token as a subprotocol, "bearer.<token>", next to Protocol.
//
//	streams := live.New(live.Options{Origins: c.CORS.Origins, Draining: parts.Draining, Log: log})
//	if err := streams.Check(request); err != nil { … } // the response
//	streams.Serve(writer, request, func(ctx context.Context, send live.Send) error { … })
package live

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// Protocol is the agreed subprotocol. A client that sends a token as a subprotocol must offer it too, because the
// response must not contain the token.
const Protocol = "itechsmart.v1"

// Defaults of Options.
const (
	DefaultMax   = 1000
	DefaultPing  = 30 * time.Second
	DefaultWrite = 10 * time.Second

	// maxRead limits what a client may send, which is only control frames.
	maxRead = 1 << 10
)

// Options of Streams. All but Draining have a default.
type Options struct {
	// Origins are the web origins that may connect, besides the service's own.
	Origins []string
	// Max is the maximum number of open streams.
	Max int
	// Ping is how often a client is pinged; Write is how long it may take to respond, or to receive a message.
	Ping, Write time.Duration
	// Draining is closed when the service ends, which closes all streams.
	Draining <-chan struct{}
	Log      *slog.Logger
}

// Streams are the WebSockets of one service.
type Streams struct {
	options Options
	slots   chan struct{}
	open    sync.WaitGroup
}

// Send sends one message. It waits for a slow client, at most Options.Write, so that nothing accumulates in memory.
type Send func(message any) error

// New returns streams.
func New(o Options) *Streams {
	o.Max, o.Ping, o.Write = cmp.Or(o.Max, DefaultMax), cmp.Or(o.Ping, DefaultPing), cmp.Or(o.Write, DefaultWrite)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Streams{options: o, slots: make(chan struct{}, o.Max)}
}

// Open returns the number of open streams.
func (s *Streams) Open() int { return len(s.slots) }

// Wait returns once all are closed; call it when there are no more requests.
func (s *Streams) Wait() { s.open.Wait() }

// Check returns the response to a request that is not an acceptable upgrade to a WebSocket: 426, 400, 403 or 503; nil: it
// is.
func (s *Streams) Check(r *http.Request) error {
	switch key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key"))); {
	case !has(r.Header, "Connection", "upgrade") || !has(r.Header, "Upgrade", "websocket"):
		e := problem.New(http.StatusUpgradeRequired, "upgrade_required", "this is a WebSocket: connect with its protocol")
		e.Headers = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
		return e
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		e := problem.New(http.StatusUpgradeRequired, "upgrade_required", "the WebSocket's version must be 13")
		e.Headers = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}}
		return e
	case err != nil || len(key) != 16 || len(r.Header.Values("Sec-WebSocket-Key")) != 1:
		return malformed("header.Sec-WebSocket-Key", "must be the base64 of 16 bytes, once")
	case offersToken(r) && !has(r.Header, "Sec-WebSocket-Protocol", Protocol):
		return malformed("header.Sec-WebSocket-Protocol", "next to the token it must offer "+Protocol)
	case !s.known(r):
		return problem.New(http.StatusForbidden, "origin", "this origin may not connect")
	}
	select {
	case <-s.options.Draining:
		return unavailable("the service is shutting down; connect again, to another replica")
	default:
		return nil
	}
}

func malformed(field, message string) error {
	return problem.New(http.StatusBadRequest, "bad_request", "the request is malformed", problem.Detail{Field: field, Message: message})
}

func unavailable(message string) error {
	e := problem.New(http.StatusServiceUnavailable, "unavailable", message)
	e.Headers = http.Header{"Retry-After": {"1"}}
	return e
}

// has reports whether a list header contains a token, ignoring case.
func has(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

func offersToken(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		if strings.Contains(line, auth.SubprotocolPrefix) {
			return true
		}
	}
	return false
}

// known reports whether a browser may connect: other programs send no Origin.
func (s *Streams) known(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(s.options.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// Reasons why a stream ends.
var (
	errDraining = errors.New("the service is shutting down")
	errTalks    = errors.New("the client has sent a message")
)

// Serve handles a request that Check has accepted: stream sends messages, until it returns, the client disconnects or is
// too slow, or the service ends; its ctx is done then. If stream returns nil the client sees a normal closure.
func (s *Streams) Serve(w http.ResponseWriter, r *http.Request, stream func(ctx context.Context, send Send) error) {
	select {
	case s.slots <- struct{}{}:
	default:
		problem.Write(w, r, unavailable("too many clients are connected; try again later"))
		return
	}
	s.open.Add(1)
	defer func() {
		<-s.slots
		s.open.Done()
	}()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Protocol}, InsecureSkipVerify: true}) // Check knows the origins
	if err != nil {
		s.options.Log.DebugContext(r.Context(), "a WebSocket could not be opened", "error", err)
		return
	}
	conn.SetReadLimit(maxRead)
	// The context of a hijacked request does not end with its connection.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	var beside sync.WaitGroup
	beside.Go(func() { listen(ctx, cancel, conn) })
	beside.Go(func() { s.keepAlive(ctx, cancel, conn) })
	err = stream(ctx, func(message any) error { return s.send(ctx, conn, message) })
	cause := context.Cause(ctx)
	cancel(nil)
	s.close(conn, err, cause)
	beside.Wait()
}

// listen reads, which answers control frames and detects that the client has disconnected. It ends with the connection: a
// context that is done would cut that. The library's CloseRead would hold a client that sends for 15 s.
func listen(ctx context.Context, cancel context.CancelCauseFunc, conn *websocket.Conn) {
	_, _, err := conn.Read(context.WithoutCancel(ctx))
	if err == nil {
		err = errTalks
	}
	cancel(err)
}

// keepAlive pings the client, and ends the stream if it does not respond or the service ends.
func (s *Streams) keepAlive(ctx context.Context, cancel context.CancelCauseFunc, conn *websocket.Conn) {
	ticker := time.NewTicker(s.options.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.options.Draining:
			cancel(errDraining)
			return
		case <-ticker.C:
		}
		limited, stop := context.WithTimeout(ctx, s.options.Write)
		err := conn.Ping(limited)
		stop()
		if err != nil {
			cancel(err)
			return
		}
	}
}

func (s *Streams) send(ctx context.Context, conn *websocket.Conn, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("message: %w", err)
	}
	limited, stop := context.WithTimeout(ctx, s.options.Write)
	defer stop()
	return conn.Write(limited, websocket.MessageText, data)
}

// close sends the reason, if the client can still receive it.
func (s *Streams) close(conn *websocket.Conn, err, cause error) {
	code, reason := websocket.StatusNormalClosure, ""
	switch {
	case errors.Is(cause, errDraining):
		code, reason = websocket.StatusGoingAway, "the service is shutting down; connect again"
	case errors.Is(cause, errTalks):
		code, reason = websocket.StatusPolicyViolation, "messages are not accepted"
	case cause != nil: // the client has disconnected, or does not respond
		_ = conn.CloseNow()
		return
	case err != nil:
		s.options.Log.Warn("a WebSocket was cut", "error", err)
		code, reason = websocket.StatusInternalError, "it was cut; connect again"
	}
	_ = conn.Close(code, reason) // it waits for the client's half, 5 s at most
}
