// SPDX-License-Identifier: Apache-2.0

// Package transform gives what its expressions made: the engine has rendered them already.
package transform

import (
	"context"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{Type: "transform", Summary: "Gives with.value, whose expressions see inputs and earlier steps, as its output.", New: func(step.Env) engine.Executor { return executor{} }}
}

type executor struct{}

func (executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	config := step.Read(call.Config)
	value, ok := config.Any("value")
	if !ok {
		config.Problem("value", "is required")
	}
	return engine.Result{Output: value}, config.Err()
}
