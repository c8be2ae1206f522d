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

// Start is a run to be.
type Start struct {
	// Workflow is its name; Generation is that of the resource which Program was compiled from.
	Workflow   string
	Generation int64
	Program    *definition.Program
	Inputs     map[string]any
	Trigger    definition.TriggerInfo
	// IdempotencyKey: the workflow's run that has it already is the answer; empty: there is a new run by all means.
	IdempotencyKey string
}

// Start begins a run, and reports whether it is new. It is durable when Start returns. *definition.InputError: an input is wrong.
// store.ErrBusy: one run too many, as the workflow's concurrency says. backend.ErrUnavailable: the queue or the database is
// away or takes nothing, and it is not certain that there is no run: an idempotency key makes it safe to try again.
func (e *Engine) Start(ctx context.Context, s Start) (id string, created bool, err error) {
	inputs, err := s.Program.Inputs(s.Inputs)
	if err != nil {
		return "", false, err
	}
	n := store.NewRun{Workflow: s.Workflow, Generation: s.Generation, Hash: s.Program.Hash(), IdempotencyKey: s.IdempotencyKey}
	if n.Inputs, err = e.input("inputs", inputs); err != nil {
		return "", false, err
	}
	if err := payloads.CheckEach(inputs); err != nil {
		return "", false, fmt.Errorf("inputs: %w: %w", backend.ErrInvalid, err)
	}
	trigger, err := keepTrigger(s.Trigger)
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
	if n.Objects, err = e.keepBody(ctx, &trigger); err != nil {
		return "", false, err
	}
	if n.Trigger, err = e.input("trigger", trigger); err != nil {
		return "", false, err
	}
	id, created, err = e.store.Start(ctx, n)
	if len(n.Objects) > 0 && (err == nil && !created || errors.Is(err, store.ErrBusy)) {
		e.payloads.Drop(ctx, n.Objects[0]) // the run has a body already, or there is none
	}
	if err != nil || !created || n.Concurrency == nil {
		return id, created, err
	}
	return id, created, e.makeRoom(ctx, id, *n.Concurrency)
}

// ready refuses what could not be dispatched: a run that only waits for a queue is better refused than kept.
func (e *Engine) ready(ctx context.Context, workflow string, generation int64, p *definition.Program) (*program, error) {
	if err := e.options.Queue.Ready(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return e.keep(ctx, workflow, generation, p)
}

func (e *Engine) input(what string, value any) (json.RawMessage, error) {
	data, err := json.Marshal(value)
	if err == nil {
		err = cmp.Or(payloads.CheckValue(data), e.store.CheckKept(what, data))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, backend.ErrInvalid, err)
	}
	return data, nil
}

// makeRoom ends what is older, where that is the policy. The new run begins when they have ended.
func (e *Engine) makeRoom(ctx context.Context, id string, c store.Concurrency) error {
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

// stop ends a run by s, whose target it fills in.
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
		ring(e.admit)
	}
	if err == nil {
		e.loseRun(r.ID)
	}
	return err
}

// loseRun ends the steps of a run that this engine executes. Those of other engines end when they renew their claims.
func (e *Engine) loseRun(run string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.held {
		if x.run.ID == run && x.program.graph.Nodes[x.claimed.Step].Role == store.Main {
			x.cancel(errLost)
		}
	}
}

// Cancel ends a run: its steps are told to end, and its handlers run. store.ErrNotFound, store.ErrConflict when it has ended.
func (e *Engine) Cancel(ctx context.Context, run, reason string) error {
	r, err := e.store.Get(ctx, run)
	if err != nil {
		return err
	}
	return e.stop(ctx, store.RunRef{ID: r.ID, Workflow: r.Workflow, Hash: r.Hash}, store.Stop{Phase: store.Cancelled, Reason: reason})
}

// Resume ends the wait of a step for an event: an approval, a callback. Item is -1 without forEach. store.ErrNotFound,
// store.ErrConflict when it waits for nobody, so that of two answers one counts.
func (e *Engine) Resume(ctx context.Context, run, step string, item int, data any) error {
	r, p, i, err := e.find(ctx, run, step)
	if err != nil {
		return err
	}
	kept, err := e.input("data", data)
	if err != nil {
		return err
	}
	_, err = e.store.Apply(ctx, store.Resume{Target: p.target(r.ID, i, item), Data: kept})
	return err
}

// Waiting is a step that waits, as who may resume it has to know it.
type Waiting struct {
	// Type of the step; Detail is what its Wait said.
	Type   string
	Detail map[string]any
}

// Waits finds what a step waits for. Errors as those of Resume.
func (e *Engine) Waits(ctx context.Context, run, step string, item int) (Waiting, error) {
	_, p, i, err := e.find(ctx, run, step)
	if err != nil {
		return Waiting{}, err
	}
	s, err := e.store.StepAt(ctx, run, i, item)
	if errors.Is(err, store.ErrNotFound) || err == nil && !s.Resumable {
		return Waiting{}, fmt.Errorf("step %s waits for nobody: %w", step, store.ErrConflict)
	}
	if err != nil {
		return Waiting{}, err
	}
	detail, err := decode(s.Detail)
	w := Waiting{Type: p.Step(i).Type()}
	w.Detail, _ = detail.(map[string]any)
	return w, err
}

// Rerun starts a run again from a step: see store.Store.Rerun.
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
	return id, created, e.makeRoom(ctx, id, *n.Concurrency)
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

// Outputs returns what a run gives, by name; nil when it has not succeeded, or its workflow names none. It is made of what was
// recorded when it is asked for: expressions know no clock, and give the same at any time.
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
	scope, err := e.scopeOver(ctx, v, p.all, reader)
	if err != nil {
		return nil, err
	}
	return p.Outputs(scope)
}
