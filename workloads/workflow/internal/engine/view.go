// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// view is a run for the steps that one worker executes in sequence. It caches the results that it has read.
type view struct {
	program *program
	run     *store.Run
	scope   definition.Scope // without steps, item and the trigger's body
	body    payloads.Value
	results map[int]result
}

func (e *Engine) view(p *program, run *store.Run) (*view, error) {
	v := &view{program: p, run: run, results: map[int]result{}}
	inputs, err := decode(run.Inputs)
	if err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	v.scope.Inputs, _ = inputs.(map[string]any)
	if v.scope.Trigger, v.body, err = readTrigger(run); err != nil {
		return nil, fmt.Errorf("trigger: %w", err)
	}
	v.scope.Run = definition.RunInfo{
		ID: run.ID, Workflow: run.Workflow, Namespace: e.options.Namespace, Generation: run.Generation, Attempt: run.Attempt,
	}
	if run.Started != nil {
		v.scope.Run.StartedAt = *run.Started
	}
	return v, nil
}

// remember caches the outcome of a step that was just recorded, for the steps after it.
func (v *view) remember(t store.Transition) {
	f, ok := t.(store.Finish)
	if !ok || f.Item != -1 {
		return
	}
	if r, err := v.result(store.Step{Step: f.Step, Phase: f.Phase, Output: f.Output, Outputs: f.Outputs, Error: f.Error, Attempt: f.By.Attempt}); err == nil {
		v.results[f.Step] = r
	}
}

// stepScope returns the scope for a step's expressions.
func (e *Engine) stepScope(ctx context.Context, v *view, c *store.Claimed, reader *payloads.Reader) (*definition.Scope, error) {
	scope, err := e.scopeWith(ctx, v, v.program.before[c.Step], reader)
	if err != nil || c.Item < 0 {
		return scope, err
	}
	raw, err := e.store.Item(ctx, v.run.ID, c.Step, c.Item)
	if err != nil {
		return nil, err
	}
	scope.InItem, scope.ItemIndex = true, c.Item
	scope.Item, err = decode(raw)
	return scope, err
}

// scopeWith returns a scope with the results of the given steps. It reads those that are not cached.
func (e *Engine) scopeWith(ctx context.Context, v *view, before []int, reader *payloads.Reader) (*definition.Scope, error) {
	var missing []int
	for _, i := range before {
		if _, ok := v.results[i]; !ok {
			missing = append(missing, i)
		}
	}
	if len(missing) > 0 {
		found, err := e.store.Results(ctx, v.run.ID, missing)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			r, err := v.result(s)
			if err != nil {
				return nil, permanent("result of step %s: %w", v.program.Step(s.Step).Name(), err)
			}
			if s.Phase.Ended() {
				v.results[s.Step] = r
			}
		}
	}
	scope := v.begin(reader)
	scope.Steps = make(map[string]definition.StepResult, len(before))
	for _, i := range before {
		r, ok := v.results[i]
		if !ok { // a handler uses the result of a step that never started
			r.Status = string(store.Cancelled)
		}
		scope.Steps[v.program.Step(i).Name()] = r.open(reader)
	}
	return scope, nil
}

// begin returns a scope without steps.
func (v *view) begin(reader *payloads.Reader) *definition.Scope {
	scope := v.scope
	scope.Trigger.Body = reader.Open(v.body)
	return &scope
}

// decode returns a stored value for expressions, or nil if it is empty.
func decode(data json.RawMessage) (any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	return definition.Decode(data)
}
