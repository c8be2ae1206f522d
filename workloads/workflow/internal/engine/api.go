// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Start describes a new run.
type Start struct {
	// Workflow is the workflow's name. Generation is the generation of the resource that Program was compiled from.
	Workflow   string
	Generation int64
	Program    *definition.Program
	Inputs     map[string]any
	Trigger    definition.TriggerInfo
	// IdempotencyKey makes Start return the workflow's existing run with this key. If empty, Start always creates a run.
	IdempotencyKey string
}

// Start starts a run, and reports whether it is new. The run is durable when Start returns. It returns *definition.InputError for
// an invalid input, store.ErrBusy if the workflow's concurrency allows no more runs, and backend.ErrUnavailable if the queue or the
// database is down or overloaded. After the latter the run may exist: retry with an idempotency key.
func (e *Engine) Start(ctx context.Context, s Start) (id string, created bool, err error) {
	inputs, err := s.Program.Inputs(s.Inputs)
	if err != nil {
		return "", false, err
	}
	n := store.NewRun{Workflow: s.Workflow, Generation: s.Generation, Hash: s.Program.Hash(), IdempotencyKey: s.IdempotencyKey}
	if n.Inputs, err = e.encodeInput("inputs", inputs); err != nil {
		return "", false, err
	}
	if err := payloads.CheckEach(inputs); err != nil {
		return "", false, fmt.Errorf("inputs: %w: %w", backend.ErrInvalid, err)
	}
	trigger, err := newStoredTrigger(s.Trigger)
	if err != nil {
		return "", false, fmt.Errorf("trigger: %w: %w", backend.ErrInvalid, err)
	}
	scope := &definition.Scope{Inputs: inputs, Trigger: s.Trigger, Run: definition.RunInfo{
		Workflow: s.Workflow, Namespace: e.options.Namespace, Generation: s.Generation, Attempt: 1, StartedAt: e.clock.Now(),
	}}
	if n.Concurrency, err = concurrency(s.Program, scope); err != nil {
		return "", false, fmt.Errorf("%w: %w", backend.ErrInvalid, err)
	}
	n.Timeout = timeout(s.Program)
	p, err := e.ready(ctx, s.Workflow, s.Generation, s.Program)
	if err != nil {
		return "", false, err
	}
	n.Graph = p.graph
	if n.Objects, err = e.storeBody(ctx, &trigger); err != nil {
		return "", false, err
	}
	if n.Trigger, err = e.encodeInput("trigger", trigger); err != nil {
		return "", false, err
	}
	id, created, err = e.store.Start(ctx, n)
	if len(n.Objects) > 0 && (err == nil && !created || errors.Is(err, store.ErrBusy)) {
		e.payloads.Drop(ctx, n.Objects[0]) // the existing run has a body, or no run was created
	}
	if err != nil || !created || n.Concurrency == nil {
		return id, created, err
	}
	return id, created, e.cancelPrevious(ctx, id, *n.Concurrency)
}

// ready saves the definition. It fails while the queue is down: a run that cannot be dispatched is better rejected than stored.
func (e *Engine) ready(ctx context.Context, workflow string, generation int64, p *definition.Program) (*program, error) {
	if err := e.options.Queue.Ready(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return e.saveDefinition(ctx, workflow, generation, p)
}

func (e *Engine) encodeInput(what string, value any) (json.RawMessage, error) {
	data, err := json.Marshal(value)
	if err == nil {
		err = cmp.Or(payloads.CheckValue(data), e.store.CheckRow(what, data))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, backend.ErrInvalid, err)
	}
	return data, nil
}

// cancelPrevious cancels older runs if that is the policy. The new run starts when they have ended.
func (e *Engine) cancelPrevious(ctx context.Context, id string, c store.Concurrency) error {
	if c.Policy != store.PolicyCancelPrevious {
		return nil
	}
	runs, err := e.store.TooMany(ctx, id, c)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if err := e.stop(ctx, r, store.Stop{Phase: store.Cancelled, Reason: "a newer run took its place"}); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}

// stop ends a run with s, and sets the target of s.
func (e *Engine) stop(ctx context.Context, r store.RunRef, s store.Stop) error {
	p, err := e.programs.get(ctx, r.Workflow, r.Hash)
	if errors.Is(err, ErrNoProgram) {
		return e.abort(ctx, r.ID, err)
	}
	if err != nil {
		return err
	}
	s.Target = p.target(r.ID, -1, -1)
	result, err := e.store.Apply(ctx, s)
	if err == nil && result.Phase.Ended() {
		notify(e.admit)
	}
	if err == nil {
		e.revokeRun(r.ID)
	}
	return err
}

// revokeRun stops the steps of a run that this engine executes. Other engines stop theirs when they next renew their claims.
func (e *Engine) revokeRun(run string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.held {
		if x.run.ID == run && x.program.graph.Nodes[x.claimed.Step].Role == store.Main {
			x.cancel(errLost)
		}
	}
}

// Cancel cancels a run: its steps are stopped and its handlers run. It returns store.ErrNotFound, or store.ErrConflict if the run
// has ended.
func (e *Engine) Cancel(ctx context.Context, run, reason string) error {
	r, err := e.store.Get(ctx, run)
	if err != nil {
		return err
	}
	return e.stop(ctx, store.RunRef{ID: r.ID, Workflow: r.Workflow, Hash: r.Hash}, store.Stop{Phase: store.Cancelled, Reason: reason})
}

// Resume resumes a step that waits for an event such as an approval or a callback. Item is -1 without forEach. It returns
// store.ErrNotFound, or store.ErrConflict if the step does not wait for an event: of two answers only the first one is accepted.
func (e *Engine) Resume(ctx context.Context, run, step string, item int, data any) error {
	r, p, i, err := e.find(ctx, run, step)
	if err != nil {
		return err
	}
	encoded, err := e.encodeInput("data", data)
	if err != nil {
		return err
	}
	_, err = e.store.Apply(ctx, store.Resume{Target: p.target(r.ID, i, item), Data: encoded})
	return err
}

// Waiting describes a waiting step to a caller who wants to resume it.
type Waiting struct {
	// Type is the step's type. Detail is the Detail of its Wait.
	Type   string
	Detail map[string]any
}

// Waits returns what a step waits for. Its errors are those of Resume.
func (e *Engine) Waits(ctx context.Context, run, step string, item int) (Waiting, error) {
	_, p, i, err := e.find(ctx, run, step)
	if err != nil {
		return Waiting{}, err
	}
	s, err := e.store.StepAt(ctx, run, i, item)
	if errors.Is(err, store.ErrNotFound) || err == nil && !s.Resumable {
		return Waiting{}, fmt.Errorf("step %s is not waiting for an event: %w", step, store.ErrConflict)
	}
	if err != nil {
		return Waiting{}, err
	}
	detail, err := decode(s.Detail)
	w := Waiting{Type: p.Step(i).Type()}
	w.Detail, _ = detail.(map[string]any)
	return w, err
}

// Rerun runs a run again from a step: see store.Store.Rerun.
func (e *Engine) Rerun(ctx context.Context, run, from, idempotencyKey string) (id string, created bool, err error) {
	r, p, i, err := e.find(ctx, run, from)
	if err != nil {
		return "", false, err
	}
	if err := e.options.Queue.Ready(ctx); err != nil {
		return "", false, fmt.Errorf("start: %w", err)
	}
	v, err := e.view(p, &r)
	if err != nil {
		return "", false, err
	}
	n := store.NewRun{Graph: p.graph, IdempotencyKey: idempotencyKey}
	reader := e.payloads.Reader(ctx, Folders(&r), e.largest(), nil)
	defer reader.Close()
	if n.Concurrency, err = concurrency(p.Program, v.begin(reader)); err != nil {
		return "", false, fmt.Errorf("%w: %w", backend.ErrInvalid, err)
	}
	id, created, err = e.store.Rerun(ctx, r, i, n)
	if err != nil || !created || n.Concurrency == nil {
		return id, created, err
	}
	return id, created, e.cancelPrevious(ctx, id, *n.Concurrency)
}

func (e *Engine) find(ctx context.Context, run, step string) (store.Run, *program, int, error) {
	r, err := e.store.Get(ctx, run)
	if err != nil {
		return r, nil, 0, err
	}
	p, err := e.programs.get(ctx, r.Workflow, r.Hash)
	if err != nil {
		return r, nil, 0, err
	}
	i := slices.IndexFunc(p.graph.Nodes, func(n store.Node) bool { return n.Name == step })
	if i < 0 {
		return r, nil, 0, fmt.Errorf("run %s has no step %q: %w", run, step, backend.ErrNotFound)
	}
	return r, p, i, nil
}

// Outputs returns a run's outputs by name, or nil if the run has not succeeded or its workflow has none. They are evaluated on each
// call from recorded results; expressions have no clock, so that the result does not change.
func (e *Engine) Outputs(ctx context.Context, run string) (map[string]any, error) {
	r, err := e.store.Get(ctx, run)
	if err != nil || r.Phase != store.Succeeded {
		return nil, err
	}
	p, err := e.programs.get(ctx, r.Workflow, r.Hash)
	if err != nil || len(p.Workflow().Outputs) == 0 {
		return nil, err
	}
	v, err := e.view(p, &r)
	if err != nil {
		return nil, err
	}
	reader := e.payloads.Reader(ctx, Folders(&r), e.store.Options().MaxOutput, nil)
	defer reader.Close()
	scope, err := e.scopeWith(ctx, v, p.all, reader)
	if err != nil {
		return nil, err
	}
	return p.Outputs(scope)
}
