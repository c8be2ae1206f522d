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

// longTask is the time after which a task is acknowledged although its steps still run: the broker closes a consumer that holds a
// delivery for half an hour. An acknowledged task no longer counts toward the limit of concurrent tasks.
const longTask = 10 * time.Minute

// take works on a delivery: it claims the step, and executes it and the steps that follow from it. It acknowledges the delivery
// after that, so that a worker does not hoard tasks. If the worker crashes, the broker redelivers the task at once, but the step
// stays claimed until its lease expires; then the sweeper dispatches it again.
func (e *Engine) take(ctx, running context.Context, d *queue.Delivery) {
	task, err := store.ParseTask(d.Body)
	if err != nil {
		e.log.ErrorContext(ctx, "rejected a message that is not a task; it is dead-lettered", "error", err)
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
			return // closing the connection returns it to the queue
		default:
			e.log.ErrorContext(ctx, "rejected a task that cannot be executed; it is dead-lettered", "run", task.Run, "step", task.Step, "error", err)
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
	if err != nil { // the row has invalid JSON: retries cannot help
		return nil, nil, errors.Join(err, e.abort(ctx, task.Run, err))
	}
	return v, r.Claimed, nil
}

// abort fails a run that cannot be executed.
func (e *Engine) abort(ctx context.Context, run string, why error) error {
	_, err := e.store.Apply(ctx, store.Abort{Target: store.Target{Run: run, Step: -1, Item: -1}, Reason: why.Error()})
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// drive executes a step, and then one of the steps that its end made ready, until there is none.
func (e *Engine) drive(ctx context.Context, v *view, claimed *store.Claimed) {
	for claimed != nil {
		claimed = e.step(ctx, v, claimed)
	}
}

// step executes one step and records its outcome. It returns the claim of the next one, if any.
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
		e.log.WarnContext(ctx, "discarded the outcome of a step whose claim was lost", "run", v.run.ID, "step", x.step.Name(), "item", claimed.Item)
		return nil
	default:
		e.log.ErrorContext(ctx, "could not record the outcome of a step; it will be executed again", "run", v.run.ID, "step", x.step.Name(), "error", err)
		return nil
	}
	v.remember(transition)
	if result.Phase.Ended() {
		notify(e.admit)
	}
	return result.Claimed
}

// record retries while the database is unavailable. A claim that was lost meanwhile makes it fail.
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
	step    compiledStep
	ctx     context.Context
	cancel  context.CancelCauseFunc
	since   time.Time
	// started means that the executor was called. From then on the step waits for an unavailable dependency instead of being released.
	started bool
}

// hold registers the claim for renewal.
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

// renew renews the claims of steps that take longer than a third of a lease. It stops steps whose claim is lost: the run was
// canceled, or another worker has claimed the step.
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
			e.log.WarnContext(ctx, "could not renew claims", "claims", len(old), "error", err)
			continue
		}
		for _, owner := range lost {
			e.revoke(owner)
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

func (e *Engine) revoke(owner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.held[owner]; x != nil {
		x.cancel(errLost)
	}
}
