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
	// A connection that is new is in the worker's file a moment after the service serves its Workflow: a step waits for it.
	lookAgain = time.Second
	patience  = 2 * time.Minute
	// fieldSince is since when a step waits.
	fieldSince = "since"
)

// ofWorkflow limits steps to the connections of their own workflow.
type ofWorkflow struct {
	steps engine.Executor
	known *bindings.Bindings
	now   func() time.Time
}

func (o ofWorkflow) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	name, ok := call.Config["connection"].(string)
	if !ok || name == "" {
		return o.steps.Execute(ctx, call)
	}
	since, waited := o.since(&call)
	if _, err := o.known.Connection(call.Workflow, name); err != nil && o.now().Sub(since) < patience {
		return engine.Result{Wait: &engine.Wait{
			Until:  o.now().Add(lookAgain),
			Detail: map[string]any{"connection": name, fieldSince: since.Format(time.RFC3339Nano)},
		}}, nil
	}
	if waited {
		call.Resume = nil // it was not the step's own wait
	}
	call.Config = maps.Clone(call.Config)
	call.Config["connection"] = call.Workflow + "/" + name
	return o.steps.Execute(ctx, call)
}

// since returns when the step first looked for its connection.
func (o ofWorkflow) since(call *engine.Call) (at time.Time, waited bool) {
	if call.Resume != nil {
		if text, ok := call.Resume.Detail[fieldSince].(string); ok {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				return at, true
			}
		}
	}
	return o.now(), false
}
