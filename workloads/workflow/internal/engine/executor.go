// SPDX-License-Identifier: Apache-2.0

// Package engine executes runs: it takes tasks from the queue, runs steps with the given Executor, and records the outcomes in the
// store. It does not know any step type.
package engine

import (
	"context"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Call is one attempt of one step.
type Call struct {
	// Type is the step's type. Config is its evaluated `with`.
	Type   string
	Config map[string]any
	// Key is the idempotency key: <run>/<step>/<item>/<attempt>. An attempt that is executed again, after a crash of the worker or
	// after a wait, has the same key; the next attempt has another one.
	Key string
	// Attempt counts from 1.
	Attempt             int
	Run, Workflow, Step string
	// Item is the index within forEach, -1 without.
	Item  int
	Scope *definition.Scope
	// Resume is the outcome of this attempt's wait, or nil if it has not waited.
	Resume *Resume
}

// Result is the output of a step, or its Wait.
type Result struct {
	Output any
	Wait   *Wait
}

// Wait suspends the step: until a time, until it is resumed (by an approval or a callback), or until either. Then the same attempt
// is executed again, with Call.Resume.
type Wait struct {
	// Until is when to continue. If zero, only Resume continues the step.
	Until time.Time
	// Event allows Resume to continue the step.
	Event bool
	// Detail is visible while the step waits, and is returned in Resume.
	Detail map[string]any
}

// Resume is the outcome of a wait.
type Resume struct {
	// Event is true if the step was resumed, with Data. Otherwise the wait reached its time.
	Event bool
	Data  any
	// Detail is the Detail of the Wait.
	Detail map[string]any
}

// Executor executes steps. It must return soon after ctx is done. A *Permanent error is not retried.
type Executor interface {
	Execute(ctx context.Context, call Call) (Result, error)
}

// Permanent is an error that a retry cannot fix.
type Permanent struct{ Err error }

func (p *Permanent) Error() string { return p.Err.Error() }

func (p *Permanent) Unwrap() error { return p.Err }
