// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// Waiting is the error of a step that cannot continue before something else has
// happened. The resource is Reconciling, and not Ready.
type Waiting struct {
	Reason, Message string
	// After is when to reconcile again; zero: a watch event ends the wait.
	After time.Duration
}

func (w *Waiting) Error() string { return w.Reason + ": " + w.Message }

// Wait returns a Waiting error that a watch event ends.
func Wait(reason, format string, args ...any) error {
	return &Waiting{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Terminal is the error of a step that needs an edit, of the resource or of
// something that it refers to. The resource is Stalled, and not Ready.
type Terminal struct {
	Reason, Message string
	// After is when to reconcile again, for causes outside of Kubernetes that no watch reports; zero: a watch event is enough.
	After time.Duration
}

func (t *Terminal) Error() string { return t.Reason + ": " + t.Message }

// Stall returns a Terminal error.
func Stall(reason, format string, args ...any) error {
	return &Terminal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// maxInvalid limits the length of a message about invalid fields, so that it fits into an event.
const maxInvalid = 900

// Invalid returns a Terminal error that lists invalid fields, or nil for none. Of a long list the last fields have no message.
func Invalid(list field.ErrorList) error {
	if len(list) == 0 {
		return nil
	}
	var out strings.Builder
	for i, problem := range list {
		text := problem.Field
		if out.Len() < maxInvalid/2 || i == 0 {
			text += ": " + problem.Detail
		}
		if i > 0 {
			text = "; " + text
		}
		if i > 0 && out.Len()+len(text) > maxInvalid {
			fmt.Fprintf(&out, "; and %d more", len(list)-i)
			break
		}
		out.WriteString(text)
	}
	return &Terminal{Reason: common.ReasonInvalidSpec, Message: out.String()}
}

// Failed is the error of a step whose cause is outside of Kubernetes and may
// be temporary: the pass is retried with back-off, and the reason is shown.
type Failed struct {
	Reason string
	Err    error
}

func (f *Failed) Error() string { return f.Reason + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Failed) Unwrap() error { return f.Err }

// Fail returns a Failed error, or nil for nil.
func Fail(reason string, err error) error {
	if err == nil {
		return nil
	}
	return &Failed{Reason: reason, Err: err}
}

// Classify returns the reason and message that conditions have for an error.
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
