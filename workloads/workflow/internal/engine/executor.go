// SPDX-License-Identifier: Apache-2.0

// Package engine executes runs: it takes tasks from the queue, executes steps by an Executor that it is given, and records
// what came of them in the store. It names no step type.
package engine

import (
	"context"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Call is one attempt of one step.
type Call struct {
	// Type is the step's type; Config is its `with`, rendered.
	Type   string
	Config map[string]any
	// Key is the idempotency key: <run>/<step>/<item>/<attempt>. It is the same when an attempt is executed again, since the
	// worker died before the outcome was recorded or since the step waited, and another one for the next attempt.
	Key string
	// Attempt counts from 1.
	Attempt             int
	Run, Workflow, Step string
	// Item is the index within forEach, -1 without.
	Item  int
	Scope *definition.Scope
	// Resume tells how the wait ended that this attempt asked for; nil when it has not waited.
	Resume *Resume
}

// Result is the output of a step, or what it waits for.
type Result struct {
	Output any
	Wait   *Wait
}

// Wait ends the execution without an end of the step: until a time, or until somebody resumes it (approval, callback), or
// both, whichever comes first. Then the same attempt is executed again, with Call.Resume.
type Wait struct {
	// Until is when to continue; zero: only when it is resumed.
	Until time.Time
	// Event lets somebody resume it.
	Event bool
	// Detail is shown while it waits, and given back in Resume.
	Detail map[string]any
}

// Resume is the outcome of a wait.
type Resume struct {
	// Event: somebody resumed it, with Data. Otherwise its time came.
	Event bool
	Data  any
	// Detail is the Detail of the Wait.
	Detail map[string]any
}

// Executor executes steps. It returns soon after ctx is done. A *Permanent error is not tried again.
type Executor interface {
	Execute(ctx context.Context, call Call) (Result, error)
}

// Permanent is an error that another attempt would meet again.
type Permanent struct{ Err error }

func (p *Permanent) Error() string { return p.Err.Error() }

func (p *Permanent) Unwrap() error { return p.Err }
