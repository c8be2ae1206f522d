// SPDX-License-Identifier: Apache-2.0

// Package script is the step type that runs Starlark.
package script

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/script"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "script", Summary: "Runs Starlark in a sandbox: a function main(inputs, steps, item, index, run, trigger), or an assignment to result.",
		New: func(env step.Env) engine.Executor {
			env.Script.Output = env.MaxOutput
			return &executor{limits: env.Script, programs: map[[sha256.Size]byte]*script.Program{}}
		},
	}
}

// maxCached bounds the cached programs, in bytes of source.
const maxCached = 1 << 20

type executor struct {
	limits script.Limits

	mu       sync.Mutex
	programs map[[sha256.Size]byte]*script.Program
	cached   int // bytes
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	config := step.Read(call.Config)
	source := config.Required("source")
	if err := config.Err(); err != nil {
		return engine.Result{}, err
	}
	program, err := e.compile(source)
	if err != nil {
		return engine.Result{}, failed(err)
	}
	vars, err := vars(call, program)
	if err != nil {
		return engine.Result{}, loadError(ctx, err)
	}
	result, err := program.Run(ctx, vars, e.limits)
	if err != nil {
		return engine.Result{}, failed(err)
	}
	return engine.Result{Output: map[string]any{"result": result.Value, "log": result.Log}}, nil
}

func failed(err error) error {
	var fault *script.Error
	if errors.As(err, &fault) {
		return step.Refuse("with.source: %w", err)
	}
	return err
}

func (e *executor) compile(source string) (*script.Program, error) {
	sum := sha256.Sum256([]byte(source))
	e.mu.Lock()
	program := e.programs[sum]
	e.mu.Unlock()
	if program != nil {
		return program, nil
	}
	program, err := script.Compile(source)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cached += len(source); e.cached > maxCached {
		clear(e.programs)
		e.cached = len(source)
	}
	e.programs[sum] = program
	return program, nil
}

// loadError returns the error of loading a value for the script. It is temporary while object storage is unavailable.
func loadError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, backend.ErrUnavailable) {
		return err
	}
	return step.Refuse("%w", err)
}

// vars returns the data of the script, which is the same as for expressions. Values that the script does not use are not loaded.
func vars(call engine.Call, program *script.Program) (map[string]any, error) {
	scope := call.Scope
	if scope == nil {
		scope = &definition.Scope{}
	}
	steps := make(map[string]any, len(scope.Steps))
	for name, s := range scope.Steps {
		var err error
		if steps[name], err = s.Map(func(string) bool { return program.Reads("steps", name) }); err != nil {
			return nil, fmt.Errorf("steps.%s.%w", name, err)
		}
	}
	var body any
	if program.Reads("trigger", "body") {
		var err error
		if body, err = definition.Load(scope.Trigger.Body); err != nil {
			return nil, fmt.Errorf("trigger.body: %w", err)
		}
	}
	out := map[string]any{
		"inputs": object(scope.Inputs), "steps": steps, "item": nil, "index": nil,
		"run": map[string]any{
			"id": scope.Run.ID, "workflow": scope.Run.Workflow, "namespace": scope.Run.Namespace, "generation": scope.Run.Generation,
			"attempt": int64(scope.Run.Attempt), "trigger": scope.Trigger.Name, "startedAt": scope.Run.StartedAt,
		},
		"trigger": map[string]any{
			"type": scope.Trigger.Type, "name": scope.Trigger.Name, "body": body, "headers": scope.Trigger.Headers,
			"scheduledAt": scope.Trigger.ScheduledAt,
		},
	}
	if scope.InItem {
		out["item"], out["index"] = scope.Item, int64(scope.ItemIndex)
	}
	return out, nil
}

// object returns m, or an empty map instead of nil.
func object(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
