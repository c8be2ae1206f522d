// SPDX-License-Identifier: Apache-2.0

// Package audit records who did what: hash-chained in the database and as JSON lines.
package audit

import (
	"context"
	"errors"
	"time"
)

// ErrFull means that neither the database nor the spill has space for another event: the request is refused with 503.
var ErrFull = errors.New("the audit log is full")

// Event is one action of a principal. It never contains a secret's value.
type Event struct {
	Time      time.Time         `json:"time"`
	Product   string            `json:"product"`
	Namespace string            `json:"namespace"`
	User      string            `json:"user"`   // the principal's name; "anonymous"
	UserID    string            `json:"userID"` // the principal's stable id
	Action    string            `json:"action"` // secret.read, secret.write, policy.delete, login, …
	Object    string            `json:"object"` // the object of the action: "secret/db/password@3"
	Outcome   string            `json:"outcome"`
	IP        string            `json:"ip"`
	UserAgent string            `json:"userAgent"`
	RequestID string            `json:"requestID"`
	Details   map[string]string `json:"details,omitempty"`
}

// Outcomes of an Event.
const (
	Allowed = "allowed"
	Denied  = "denied"
	Failed  = "failed"
)

// Recorder records events. Record returns once the event survives a crash of the process, or ErrFull; it never hangs.
type Recorder interface {
	Record(ctx context.Context, event Event) error
}
