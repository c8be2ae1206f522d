// SPDX-License-Identifier: Apache-2.0

// Package notify is the step type for notifications, which need the future product Notify. The controller rejects Workflows with
// such steps; this package is for runs that were recorded before.
package notify

import (
	"context"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "notify", Summary: "Sends to a NotificationChannel; needs the future product Notify.",
		New: func(step.Env) engine.Executor { return executor{} },
	}
}

type executor struct{}

func (executor) Execute(ctx context.Context, _ engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	return engine.Result{}, step.Refuse("type: notify is not available without the product Notify; remove the step, or send with a step of type http")
}
