// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// longTask is after which time a task is acknowledged although its steps still run: the broker ends a consumer that holds a
// delivery for half an hour. From then on it counts no more as one of those that run at a time.
const longTask = 10 * time.Minute

// take works on a delivery: it claims the step, and executes it and what follows from it. The delivery is acknowledged after
// that, so that no worker hoards what others could take. A worker that dies gives it back at once, which is of no use before
// the lease is over: from then on the sweeper dispatches the step again.
func (e *Engine) take(ctx, running context.Context, d *queue.Delivery) {
	task, err := store.ParseTask(d.Body)
	if err != nil {
		e.log.ErrorContext(ctx, "a message is no task: it is a dead letter now", "error", err)
		d.Reject()
		return
	}
	for n := 0; ; n++ {
		run, claimed, err := e.claim(ctx, task)
		switch {
		case err == nil:
			defer time.AfterFunc(longTask, d.Ack).Stop()
			e.drive(running, run, claimed)
			d.Ack()
			return
		case errors.Is(err, store.ErrLost):
			d.Ack()
			return
		case errors.Is(err, backend.ErrUnavailable):
			if pause(ctx, n) {
				continue
			}
			return // it goes back to the queue with the connection
		default:
			e.log.ErrorContext(ctx, "nobody can work on a task: it is a dead letter now", "run", task.Run, "step", task.Step, "error", err)
			d.Reject()
			return
		}
	}
}

func (e *Engine) claim(ctx context.Context, task store.Task) (*view, *store.Claimed, error) {
	p, err := e.programs.get(ctx, task.Workflow, task.Hash)
	if errors.Is(err, ErrNoProgram) {
		return nil, nil, errors.Join(err, e.abort(ctx, task.Run, err))
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := e.store.Apply(ctx, store.Claim{Target: p.target(task.Run, task.Step, task.Item), Owner: e.owner()})
	if err != nil {
		return nil, nil, err
	}
	v, err := e.view(p, r.Run)
	if err != nil { // what is kept is no JSON: no attempt can help
		return nil, nil, errors.Join(err, e.abort(ctx, task.Run, err))
	}
	return v, r.Claimed, nil
}

// abort fails a run that nobody can execute.
func (e *Engine) abort(ctx context.Context, run string, why error) error {
	_, err := e.store.Apply(ctx, store.Abort{Target: store.Target{Run: run, Step: -1, Item: -1}, Reason: why.Error()})
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// drive executes a step, and then one of those that became ready by its end, until there is none.
func (e *Engine) drive(ctx context.Context, v *view, claimed *store.Claimed) {
	for claimed != nil {
		claimed = e.step(ctx, v, claimed)
	}
}

// step executes one step and records what came of it.
func (e *Engine) step(ctx context.Context, v *view, claimed *store.Claimed) *store.Claimed {
	x := e.hold(ctx, v, claimed)
	defer e.release(x)
	transition := e.execute(x)
	if transition == nil {
		return nil
	}
	result, err := e.record(x, transition)
	switch {
	case err == nil:
	case errors.Is(err, store.ErrLost):
		e.log.WarnContext(ctx, "an outcome came too late: the step is somebody else's", "run", v.run.ID, "step", x.step.Name(), "item", claimed.Item)
		return nil
	default:
		e.log.ErrorContext(ctx, "an outcome was not recorded: the step will be begun again", "run", v.run.ID, "step", x.step.Name(), "error", err)
		return nil
	}
	v.saw(transition)
	if result.Phase.Ended() {
		ring(e.admit)
	}
	return result.Claimed
}

// record insists: as long as the database is unavailable the outcome is kept here. Whoever took the step meanwhile has it, then.
func (e *Engine) record(x *execution, t store.Transition) (store.Result, error) {
	ctx := context.WithoutCancel(x.ctx)
	for n := 0; ; n++ {
		r, err := e.store.Apply(ctx, t)
		if !errors.Is(err, backend.ErrUnavailable) || e.stopping.Load() && n > 0 {
			return r, err
		}
		pause(ctx, n)
	}
}

// execution is a step that this engine has claimed.
type execution struct {
	*view
	claimed *store.Claimed
	step    stepOf
	ctx     context.Context
	cancel  context.CancelCauseFunc
	since   time.Time
	// begun tells that what the step does has begun: from then on it is not to begin again for what can be awaited.
	begun bool
}

// hold renews the claim from now on.
func (e *Engine) hold(ctx context.Context, v *view, claimed *store.Claimed) *execution {
	x := &execution{view: v, claimed: claimed, step: v.program.Step(claimed.Step), since: e.clock.Now()}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held[claimed.Owner] = x
	return x
}

func (e *Engine) release(x *execution) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.held, x.claimed.Owner)
	x.cancel(nil)
}

// renew keeps the claims of steps that take longer than a third of a lease, and ends what is not ours any more: the run was
// canceled, or somebody else has the step.
func (e *Engine) renew(ctx context.Context) {
	third := e.store.Options().Lease / 3
	ticker := time.NewTicker(third)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		old := e.heldSince(e.clock.Now().Add(-third / 2))
		if len(old) == 0 {
			continue
		}
		lost, err := e.store.Renew(ctx, old)
		if err != nil {
			e.log.WarnContext(ctx, "claims were not renewed", "claims", len(old), "error", err)
			continue
		}
		for _, owner := range lost {
			e.lose(owner)
		}
	}
}

func (e *Engine) heldSince(t time.Time) []store.Held {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []store.Held
	for owner, x := range e.held {
		if !x.since.After(t) {
			out = append(out, store.Held{Run: x.run.ID, Step: x.claimed.Step, Item: x.claimed.Item, Owner: owner})
		}
	}
	return out
}

func (e *Engine) lose(owner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.held[owner]; x != nil {
		x.cancel(errLost)
	}
}
