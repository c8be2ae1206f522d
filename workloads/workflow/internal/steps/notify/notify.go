// SPDX-License-Identifier: Apache-2.0

// Package notify is the step type whose sending part arrives with the product Notify. The controller refuses a Workflow that
// has one; this is for a run that was recorded before.
package notify

import (
	"context"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "notify", Summary: "Sends through a NotificationChannel, which arrives with the product Notify.",
		New: func(step.Env) engine.Executor { return executor{} },
	}
}

type executor struct{}

func (executor) Execute(ctx context.Context, _ engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	return engine.Result{}, step.Refuse("type: notify cannot send yet, since there is no product Notify: take the step out, or send by a step of type http")
}
