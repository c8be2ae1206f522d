// SPDX-License-Identifier: Apache-2.0

// Package auditlog ensures that no operation of a service happens without its event in the audit log, and serves the log
// to administrators over REST.
package auditlog

import (
	"context"
	"log/slog"
	"time"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Trail records the actions of a service's callers.
type Trail struct {
	Product, Namespace string
	Log                *audit.Log
	Cursors            *api.Cursors
	Logger             *slog.Logger
	// Answer returns the response to an operation's error.
	Answer func(error) error
}

// Event returns the event of a request.
func (t *Trail) Event(ctx context.Context, action, object, outcome string) audit.Event {
	e := audit.Event{
		Time: time.Now(), Product: t.Product, Namespace: t.Namespace, Action: action, Object: object, Outcome: outcome,
		RequestID: server.RequestID(ctx), UserAgent: api.UserAgent(ctx),
	}
	if ip := server.ClientIP(ctx); ip.IsValid() {
		e.IP = ip.String()
	}
	if p := auth.From(ctx); p != nil {
		e.User, e.UserID = p.Name, p.ID
	}
	return e
}

// Done returns the event of an action, or of its failure with err: the reason is a code of the API, never the client's
// text.
func (t *Trail) Done(ctx context.Context, action, object string, err error) audit.Event {
	if err == nil {
		return t.Event(ctx, action, object, audit.Allowed)
	}
	e := t.Event(ctx, action, object, audit.Failed)
	e.Details = map[string]string{"reason": problem.From(t.Answer(err)).Code}
	return e
}

// Record writes an event. If the log is full, the error is the response.
func (t *Trail) Record(ctx context.Context, e audit.Event) error {
	if err := t.Log.Record(ctx, e); err != nil {
		return full(err)
	}
	return nil
}

// Denied records a refusal, and returns it as the response.
func (t *Trail) Denied(ctx context.Context, action, object string, refusal error) error {
	if err := t.Record(ctx, t.Event(ctx, action, object, audit.Denied)); err != nil {
		return err
	}
	return refusal
}

// Require checks that the caller has a role on the product, and records a refusal.
func (t *Trail) Require(ctx context.Context, role auth.Role, action, object string) error {
	if err := auth.Require(ctx, t.Product, t.Namespace, role); err != nil {
		return t.Denied(ctx, action, object, err)
	}
	return nil
}

// Result is the part of an event that the operation adds.
type Result struct {
	Object  string // replaces the object, such as by one with a version, unless it is empty
	Details map[string]string
	Silent  bool // nothing was done: there is no event
}

// Do runs an operation that must not happen without its event: space in the log is reserved before it, and the event is
// recorded before Do returns the response to its error.
func (t *Trail) Do(ctx context.Context, action, object string, operation func() (Result, error)) error {
	room, err := t.Log.Reserve()
	if err != nil {
		return full(err)
	}
	defer room.Release()
	r, err := operation()
	if err == nil && r.Silent {
		return nil
	}
	if err == nil && r.Object != "" {
		object = r.Object
	}
	e := t.Done(ctx, action, object, err)
	if err == nil {
		e.Details = r.Details
	}
	if lost := room.Record(ctx, e); lost != nil {
		return full(lost)
	}
	return t.Answer(err)
}

// full returns the response when an event cannot be recorded.
func full(cause error) error {
	return api.Because(api.Unavailable(5*time.Second, "the audit log is full; nothing was returned"), cause)
}
