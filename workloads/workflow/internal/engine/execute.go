// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// grace is how long a canceled step may take to return. After that the worker continues without it.
const grace = 5 * time.Second

func permanent(format string, args ...any) error { return &Permanent{fmt.Errorf(format, args...)} }

// execute returns the transition to record for a step, or nil if this engine has lost its claim.
func (e *Engine) execute(x *execution) store.Transition {
	t, err := e.attempt(x)
	if err == nil {
		return t
	}
	target := x.program.target(x.run.ID, x.claimed.Step, x.claimed.Item)
	switch cause := context.Cause(x.ctx); {
	case errors.Is(cause, errLost):
		return nil
	case errors.Is(cause, errShutdown):
		return store.Release{Target: target, By: *x.claimed}
	case errors.Is(cause, errDeadline):
		return store.Stop{Target: x.program.target(x.run.ID, -1, -1), Phase: store.TimedOut, Due: true}
	case errors.Is(cause, errTimeout):
		err = fmt.Errorf("%w after %s", errTimeout, x.step.Timeout())
	case cause == nil && !x.started && errors.Is(err, backend.ErrUnavailable):
		// A dependency is unavailable: release the slot for other steps.
		return store.Release{Target: target, By: *x.claimed, At: e.clock.Now().Add(minUnavailable + rand.N(minUnavailable))}
	}
	var final *Permanent
	if delay, again := e.retry(x, err); again && !errors.As(err, &final) {
		return store.Retry{Target: target, By: *x.claimed, Error: err.Error(), At: e.clock.Now().Add(delay)}
	}
	return store.Finish{Target: target, By: *x.claimed, Phase: store.Failed, Error: err.Error(), Next: e.nextOwner()}
}

func (e *Engine) retry(x *execution, err error) (time.Duration, bool) {
	retry := x.step.Retry()
	if x.claimed.Attempt >= retry.Attempts {
		return 0, false
	}
	return max(retry.Delay(x.claimed.Attempt, rand.Float64), retryAfter(err)), true
}

// maxRetryAfter bounds the delay that a server may request.
const maxRetryAfter = time.Hour

// retryAfter returns the delay that a server requested, for example with Retry-After, or zero.
func retryAfter(err error) time.Duration {
	var later interface{ RetryAfter() time.Duration }
	if !errors.As(err, &later) {
		return 0
	}
	return min(later.RetryAfter(), maxRetryAfter)
}

// attempt evaluates the step's expressions and executes the step.
func (e *Engine) attempt(x *execution) (store.Transition, error) {
	scope, err := e.awaitScope(x, e.reader(x))
	if err != nil {
		return nil, err
	}
	finish := store.Finish{Target: x.program.target(x.run.ID, x.claimed.Step, x.claimed.Item), By: *x.claimed, Next: e.nextOwner()}
	if x.claimed.Item < 0 {
		t, err := e.prepare(x, scope, finish)
		if t != nil || err != nil {
			return t, err
		}
	}
	result, err := e.call(x, scope)
	if err != nil {
		return nil, err
	}
	if result.Wait != nil {
		return e.suspend(x, finish.Target, result.Wait)
	}
	finish.Phase = store.Succeeded
	finish.Output, finish.Outputs, err = e.outcome(x, scope, result.Output)
	return finish, err
}

// outcome returns what the database stores of an output, and of the named outputs computed from it.
func (e *Engine) outcome(x *execution, scope *definition.Scope, value any) (output, outputs json.RawMessage, err error) {
	if output, err = e.encode("the output", value); err != nil {
		return nil, nil, err
	}
	// Named outputs see the encoded value, as later steps do.
	if e.payloads.Large(len(output)) {
		value = &encoded{data: output}
	} else if value, err = decode(output); err != nil {
		return nil, nil, permanent("the output: %w", err)
	}
	named, err := x.step.Outputs(scope, value)
	if err != nil {
		return nil, nil, permanent("%w", err)
	}
	if named != nil {
		if outputs, err = e.encode("outputs", named); err != nil {
			return nil, nil, err
		}
		if err := payloads.CheckEach(named); err != nil {
			return nil, nil, permanent("outputs: %w", err)
		}
		if outputs, err = e.storeLarge(x, outputs); err != nil {
			return nil, nil, err
		}
	}
	output, err = e.storeLarge(x, output)
	return output, outputs, err
}

// awaitScope reads the scope of a step, and retries while the database is unavailable and the claim is held.
func (e *Engine) awaitScope(x *execution, reader *payloads.Reader) (*definition.Scope, error) {
	for n := 0; ; n++ {
		scope, err := e.stepScope(x.ctx, x.view, x.claimed, reader)
		if err == nil || !errors.Is(err, backend.ErrUnavailable) || !pause(x.ctx, n) {
			return scope, err
		}
	}
}

// prepare returns the transition of a step that is not executed itself, because it is skipped or has items. It returns nil, nil for
// a step to execute.
func (e *Engine) prepare(x *execution, scope *definition.Scope, finish store.Finish) (store.Transition, error) {
	if x.claimed.Resume != nil {
		return nil, nil // it has already started
	}
	when, err := x.step.When(scope)
	if err != nil {
		return nil, permanent("%w", err)
	}
	if !when {
		finish.Phase = store.Skipped
		return finish, nil
	}
	items, err := x.step.Items(scope)
	if err != nil {
		return nil, permanent("%w", err)
	}
	if items == nil {
		return nil, nil
	}
	data, err := e.encodeForRow("the list of items", items)
	if err != nil {
		return nil, err
	}
	return store.Expand{Target: finish.Target, By: finish.By, Items: data, Count: len(items), Parallelism: x.step.Parallelism(), Next: finish.Next}, nil
}

// suspend bounds the wait by the step's timeout, which covers a whole attempt including its waits.
func (e *Engine) suspend(x *execution, target store.Target, w *Wait) (store.Transition, error) {
	if w.Until.IsZero() && !w.Event {
		return nil, permanent("the step waits neither for a time nor for an event")
	}
	t := store.Suspend{Target: target, By: *x.claimed, Until: w.Until, Resumable: w.Event}
	if timeout := x.step.Timeout(); timeout > 0 {
		if end := x.claimed.Started.Add(timeout); t.Until.IsZero() || end.Before(t.Until) {
			t.Until = end
		}
	}
	if w.Detail != nil {
		var err error
		if t.Detail, err = e.encodeForRow("the detail of the wait", w.Detail); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// call executes the step, bounded by its timeout and by the run's.
func (e *Engine) call(x *execution, scope *definition.Scope) (Result, error) {
	config, err := x.step.Config(scope)
	if err != nil {
		return Result{}, permanent("%w", err)
	}
	call := Call{
		Type: x.step.Type(), Config: config, Attempt: x.claimed.Attempt, Run: x.run.ID, Workflow: x.run.Workflow, Step: x.step.Name(), Item: x.claimed.Item, Scope: scope,
		Key: fmt.Sprintf("%s/%s/%d/%d", x.run.ID, x.step.Name(), x.claimed.Item, x.claimed.Attempt),
	}
	if r := x.claimed.Resume; r != nil {
		call.Resume = &Resume{Event: r.Event}
		detail, errDetail := decode(r.Detail)
		call.Resume.Detail, _ = detail.(map[string]any)
		if call.Resume.Data, err = decode(r.Data); errors.Join(err, errDetail) != nil {
			return Result{}, permanent("the result of the wait: %w", errors.Join(err, errDetail))
		}
	}
	now := e.clock.Now()
	if timeout := x.step.Timeout(); timeout > 0 {
		left := x.claimed.Started.Add(timeout).Sub(now)
		if left <= 0 {
			return Result{}, fmt.Errorf("%w after %s", errTimeout, timeout)
		}
		defer e.clock.AfterFunc(left, func() { x.cancel(errTimeout) })()
	}
	if x.run.Deadline != nil && x.program.graph.Nodes[x.claimed.Step].Role == store.Main { // handlers have their own timeout
		defer e.clock.AfterFunc(max(0, x.run.Deadline.Sub(now)), func() { x.cancel(errDeadline) })()
	}
	x.started = true
	return e.run(x, call)
}

type answer struct {
	Result
	err error
}

// run calls the executor. It survives a step that panics and one that ignores its cancellation.
func (e *Engine) run(x *execution, call Call) (Result, error) {
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				e.log.ErrorContext(x.ctx, "a step panicked", "run", call.Run, "step", call.Step, "type", call.Type, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				a = answer{err: permanent("the step panicked: %v", p)}
			}
			done <- a
		}()
		a.Result, a.err = e.options.Executor.Execute(x.ctx, call)
	}()
	select {
	case a := <-done:
		return a.Result, a.err
	case <-x.ctx.Done():
	}
	select {
	case a := <-done:
		return a.Result, a.err
	case <-time.After(grace):
		e.log.ErrorContext(x.ctx, "a step ignores its cancellation; continuing without it", "run", call.Run, "step", call.Step, "type", call.Type)
		return Result{}, context.Cause(x.ctx)
	}
}
