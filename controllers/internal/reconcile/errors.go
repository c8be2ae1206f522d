// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"time"
)

// Waiting is the error of a step that can go on only when something else has
// happened. The resource is not Ready, and Reconciling.
type Waiting struct {
	Reason, Message string
	// After is when to look again; zero: a watch tells.
	After time.Duration
}

func (w *Waiting) Error() string { return w.Reason + ": " + w.Message }

// Wait makes a Waiting error that a watch ends.
func Wait(reason, format string, args ...any) error {
	return &Waiting{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Terminal is the error of a step that only an edit can help: of the resource
// or of something that it refers to. The resource is not Ready, and Stalled.
type Terminal struct {
	Reason, Message string
	// After is when to look again, for causes outside of Kubernetes that no watch reports; zero: a watch tells.
	After time.Duration
}

func (t *Terminal) Error() string { return t.Reason + ": " + t.Message }

// Stall makes a Terminal error.
func Stall(reason, format string, args ...any) error {
	return &Terminal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Failed is the error of a step whose cause is outside of Kubernetes and may
// pass: the pass is repeated with back-off and the reason is shown.
type Failed struct {
	Reason string
	Err    error
}

func (f *Failed) Error() string { return f.Reason + ": " + f.Err.Error() }

// Unwrap gives the cause.
func (f *Failed) Unwrap() error { return f.Err }

// Fail makes a Failed error; nil stays nil.
func Fail(reason string, err error) error {
	if err == nil {
		return nil
	}
	return &Failed{Reason: reason, Err: err}
}

// Classify tells what an error means for the conditions: its reason and message.
func Classify(err error) (reason, message string) {
	var waiting *Waiting
	var terminal *Terminal
	var failed *Failed
	switch {
	case errors.As(err, &waiting):
		return waiting.Reason, waiting.Message
	case errors.As(err, &terminal):
		return terminal.Reason, terminal.Message
	case errors.As(err, &failed):
		return failed.Reason, failed.Err.Error()
	default:
		return "ReconcileError", err.Error()
	}
}
