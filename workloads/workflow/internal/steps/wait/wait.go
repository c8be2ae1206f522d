// SPDX-License-Identifier: Apache-2.0

// Package wait is the step type that waits for a time or for an external event. A waiting step only costs a row.
package wait

import (
	"context"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Longest is the longest wait of a step.
const Longest = 366 * 24 * time.Hour

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "wait", Summary: "Waits for a duration (for), until a time (until), or until it is resumed (event), with a timeout.",
		New: func(env step.Env) engine.Executor { return &executor{now: env.Now} },
	}
}

type executor struct{ now func() time.Time }

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	wait, err := e.read(call.Config)
	if err != nil {
		return engine.Result{}, err
	}
	switch resumed := call.Resume; {
	case resumed == nil:
		return engine.Result{Wait: wait}, nil
	case resumed.Event:
		return engine.Result{Output: map[string]any{"event": true, "data": resumed.Data}}, nil
	case wait.Event:
		return engine.Result{}, step.Refuse("with.timeout: the step was not resumed in time")
	}
	return engine.Result{Output: map[string]any{"event": false, "data": nil}}, nil
}

func (e *executor) read(values map[string]any) (*engine.Wait, error) {
	config := step.Read(values)
	length := config.Duration("for", 0, Longest)
	until := config.Text("until", "")
	event := config.Bool("event")
	timeout := config.Duration("timeout", 0, Longest)
	wait := &engine.Wait{Event: event}
	ways := 0
	if config.Given("for") {
		ways++
		wait.Until = e.now().Add(length)
	}
	if config.Given("until") {
		ways++
		at, err := time.Parse(time.RFC3339, until)
		if err != nil {
			config.Problem("until", `want a time such as "2026-01-31T08:00:00Z"`)
		}
		wait.Until = at
	}
	if event {
		ways++
		if timeout > 0 {
			wait.Until = e.now().Add(timeout)
		}
	} else if config.Given("timeout") {
		config.Problem("timeout", "is only valid with event: true; use for or until to wait for a time")
	}
	if ways != 1 {
		config.Problem("for", "want exactly one of for, until and event: true")
	}
	return wait, config.Err()
}
