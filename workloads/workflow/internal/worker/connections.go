// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"maps"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/bindings"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
)

const (
	// A new connection may reach the worker's file a moment after the service knows its Workflow: a step waits for it.
	recheckAfter = time.Second
	maxWait      = 2 * time.Minute
	// fieldSince is the detail with the start of the wait.
	fieldSince = "since"
)

// ownConnections limits steps to the connections of their own workflow.
type ownConnections struct {
	steps engine.Executor
	known *bindings.Bindings
	now   func() time.Time
}

func (o ownConnections) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	name, ok := call.Config["connection"].(string)
	if !ok || name == "" {
		return o.steps.Execute(ctx, call)
	}
	since, waited := o.since(&call)
	if _, err := o.known.Connection(call.Workflow, name); err != nil && o.now().Sub(since) < maxWait {
		return engine.Result{Wait: &engine.Wait{
			Until:  o.now().Add(recheckAfter),
			Detail: map[string]any{"connection": name, fieldSince: since.Format(time.RFC3339Nano)},
		}}, nil
	}
	if waited {
		call.Resume = nil // the wait was not the step's own
	}
	call.Config = maps.Clone(call.Config)
	call.Config["connection"] = call.Workflow + "/" + name
	return o.steps.Execute(ctx, call)
}

// since returns when the step first needed its connection.
func (o ownConnections) since(call *engine.Call) (at time.Time, waited bool) {
	if call.Resume != nil {
		if text, ok := call.Resume.Detail[fieldSince].(string); ok {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				return at, true
			}
		}
	}
	return o.now(), false
}
