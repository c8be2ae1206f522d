// SPDX-License-Identifier: Apache-2.0

// Package steps is the list of all step types, one line per type. No other package refers to a type.
package steps

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/approval"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/http"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/notify"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/publish"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/script"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/sql"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/transform"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/wait"
)

// All lists every type, ordered by name.
func All() []step.Spec {
	return []step.Spec{
		approval.Spec(),
		http.Spec(),
		delegated.Job(),
		notify.Spec(),
		delegated.Pipeline(),
		publish.Spec(),
		script.Spec(),
		sql.Spec(),
		transform.Spec(),
		wait.Spec(),
		delegated.Workflow(),
	}
}

// defaultOutput bounds a step's output, in bytes.
const defaultOutput = 256 << 10

// Set executes the steps of all types.
type Set struct {
	env       step.Env
	executors map[string]engine.Executor
}

// New creates the executors of all types.
func New(env step.Env) *Set {
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.MaxOutput <= 0 {
		env.MaxOutput = defaultOutput
	}
	s := &Set{env: env, executors: map[string]engine.Executor{}}
	for _, spec := range All() {
		s.executors[spec.Type] = spec.New(env)
	}
	return s
}

// Execute implements engine.Executor for steps of all types. A panic of a type fails the step.
func (s *Set) Execute(ctx context.Context, call engine.Call) (result engine.Result, err error) {
	executor := s.executors[call.Type]
	if executor == nil {
		return engine.Result{}, step.Refuse("type: this worker has no step type %q", call.Type)
	}
	defer func() {
		if recover() != nil { // the panic may quote data
			result, err = engine.Result{}, step.Refuse("internal error of the step type %s", call.Type)
		}
	}()
	result, err = executor.Execute(ctx, call)
	if err != nil {
		return engine.Result{}, err
	}
	return result, step.Check(result.Output, s.env.MaxOutput)
}

// Close closes the executors of all types.
func (s *Set) Close() error {
	var errs []error
	for _, executor := range s.executors {
		if closer, ok := executor.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}
