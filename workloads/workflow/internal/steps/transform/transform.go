// SPDX-License-Identifier: Apache-2.0

// Package transform is the step type that returns a value of expressions, which the engine has already evaluated.
package transform

import (
	"context"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{Type: "transform", Summary: "Returns with.value, whose expressions can use inputs and earlier steps.", New: func(step.Env) engine.Executor { return executor{} }}
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
