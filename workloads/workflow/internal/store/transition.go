// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Transition is one change of a run. Those that come at the same time are committed together.
type Transition interface {
	// target of the change; step -1: the run as a whole.
	target() Target
	apply(*locked) (Result, error)
}

// Target is a step of a run, or an item of it. Graph is the graph of the run's definition, which Hash identifies.
type Target struct {
	Run        string
	Step, Item int
	Graph      *Graph
	Hash       string
}

func (t Target) target() Target { return t }

// Result is the outcome of a transition.
type Result struct {
	// Claimed is the step that is the caller's now; nil: none.
	Claimed *Claimed
	// Run is set when a Claim asked for it.
	Run *Run
	// Phase is the run's, after the transition.
	Phase Phase
	// Dispatched tells that something is in the outbox.
	Dispatched bool
}

// Claimed is a step that is ours until the lease is over.
type Claimed struct {
	Step, Item, Attempt int
	// Owner is the claim: what records an outcome has to name it.
	Owner string
	// Started is when the attempt began, by the clock of its worker.
	Started time.Time
	// Resume is the outcome of the wait that this attempt requested; nil: it has not waited.
	Resume *Resumed
}

// Resumed is the outcome of a wait.
type Resumed struct {
	Event  bool            `json:"event"`
	Data   json.RawMessage `json:"data,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Claim takes a step that is ready, or whose lease is over. ErrLost: there is nothing to do.
type Claim struct {
	Target
	Owner string
}

func (c Claim) apply(l *locked) (Result, error) {
	r := l.row(c.Step, c.Item)
	free := r != nil && (r.phase == Ready || r.phase == Running && r.due != nil && !r.due.After(l.now))
	if !free {
		return Result{}, ErrLost
	}
	if r.claims >= l.options.MaxClaims {
		l.end(r, Failed, fmt.Sprintf("its worker ended %d times while it ran", r.claims))
		l.follow("")
		return Result{}, ErrLost
	}
	claimed, err := l.claim(r, c.Owner)
	return Result{Claimed: claimed, Run: &l.run}, err
}

// Finish records an outcome. ErrLost: the claim is not ours any more, and nothing was recorded.
type Finish struct {
	Target
	By Claimed
	// Phase is Succeeded, Failed or Skipped.
	Phase           Phase
	Output, Outputs json.RawMessage
	Error           string
	// Next is the claim under which the caller continues with one of the steps that became ready; empty: with none.
	Next string
}

func (f Finish) apply(l *locked) (Result, error) {
	r, err := l.held(f.Target, f.By)
	if err != nil {
		return Result{}, err
	}
	r.output, r.outputs, r.owner = f.Output, f.Outputs, f.By.Owner
	l.end(r, f.Phase, f.Error)
	return Result{Claimed: l.follow(f.Next)}, nil
}

// Retry ends an attempt, and makes the next one wait.
type Retry struct {
	Target
	By    Claimed
	Error string
	At    time.Time
}

func (t Retry) apply(l *locked) (Result, error) {
	r, err := l.held(t.Target, t.By)
	if err != nil {
		return Result{}, err
	}
	l.event(EventStepRetried, r, line(t.Error))
	if l.machine.stage == stageFailing {
		l.end(r, Failed, t.Error) // there is no other attempt in a run that fails
		l.follow("")
		return Result{}, nil
	}
	r.attempt, r.claims, r.started, r.resume, r.detail, r.failure = r.attempt+1, 0, nil, nil, nil, line(t.Error)
	l.wait(r, &t.At, false)
	return Result{}, nil
}

// Suspend makes a step wait, without a claim.
type Suspend struct {
	Target
	By Claimed
	// Until is when to continue; zero: only when it is resumed.
	Until     time.Time
	Resumable bool
	Detail    json.RawMessage
}

func (s Suspend) apply(l *locked) (Result, error) {
	r, err := l.held(s.Target, s.By)
	if err != nil {
		return Result{}, err
	}
	if l.machine.stage == stageFailing {
		l.end(r, Cancelled, "")
		l.follow("")
		return Result{}, nil
	}
	r.detail, r.claims, r.resume = s.Detail, 0, nil
	l.event(EventStepWaiting, r, "")
	var until *time.Time
	if !s.Until.IsZero() {
		until = &s.Until
	}
	l.wait(r, until, s.Resumable)
	return Result{}, nil
}

// Expand records the items of a forEach.
type Expand struct {
	Target
	By Claimed
	// Items is their list; Count is how many there are.
	Items json.RawMessage
	Count int
	// Parallelism bounds how many run at a time; 0: all.
	Parallelism int
	Next        string
}

func (e Expand) apply(l *locked) (Result, error) {
	r, err := l.held(e.Target, e.By)
	if err != nil {
		return Result{}, err
	}
	l.event(EventStepExpanded, r, strconv.Itoa(e.Count))
	if e.Count == 0 || l.machine.stage == stageFailing {
		phase := Succeeded
		if e.Count > 0 {
			phase = Cancelled
		}
		r.output = json.RawMessage("[]")
		l.end(r, phase, "")
		return Result{Claimed: l.follow(e.Next)}, nil
	}
	r.input, r.owner, r.due, r.changed = e.Items, "", nil, true
	if l.machine.loops == nil {
		l.machine.loops = map[int]*loop{}
	}
	lo := &loop{Total: e.Count}
	l.machine.loops[e.Step] = lo
	first := e.Count
	if e.Parallelism > 0 {
		first = min(first, e.Parallelism)
	}
	for range first {
		l.nextItem(e.Step, lo)
	}
	return Result{Claimed: l.follow(e.Next)}, nil
}

// Release gives a claim back, so that somebody begins the attempt again.
type Release struct {
	Target
	By Claimed
	// At is not before when; zero: at once.
	At time.Time
}

func (t Release) apply(l *locked) (Result, error) {
	r, err := l.held(t.Target, t.By)
	if err != nil {
		return Result{}, err
	}
	r.claims = max(0, r.claims-1)
	if t.At.IsZero() || l.machine.stage == stageFailing {
		l.again(r)
		return Result{}, nil
	}
	l.move(r, Ready)
	r.ready(t.At) // Wake dispatches it
	return Result{}, nil
}

// Wake is that the time of a step has come: what waits continues, what nobody works on any more is given to another worker, and
// what nobody took is dispatched again. ErrLost: its time has not come.
type Wake struct{ Target }

func (w Wake) apply(l *locked) (Result, error) {
	r := l.row(w.Step, w.Item)
	if r == nil || r.due == nil || r.due.After(l.now) {
		return Result{}, ErrLost
	}
	switch r.phase {
	case Waiting:
		if r.started != nil { // it is not the next attempt, but one that waits
			l.resume(r, Resumed{Detail: r.detail})
			break
		}
		l.again(r)
	case Running:
		l.event(EventStepLost, r, "")
		l.again(r)
	case Ready:
		l.dispatch(r)
		due := l.now.Add(l.options.Redispatch)
		r.due, r.changed = &due, true
	default:
		return Result{}, ErrLost
	}
	return Result{}, nil
}

// Resume ends a wait with data. ErrConflict: the step waits for nobody.
type Resume struct {
	Target
	Data json.RawMessage
}

func (t Resume) apply(l *locked) (Result, error) {
	r := l.row(t.Step, t.Item)
	if r == nil || r.phase != Waiting || !r.resumable {
		return Result{}, fmt.Errorf("step %s waits for nobody: %w", l.machine.graph.Nodes[t.Step].Name, ErrConflict)
	}
	l.resume(r, Resumed{Event: true, Data: t.Data, Detail: r.detail})
	return Result{}, nil
}

// Stop ends a run now: by Cancelled, or TimedOut. Its handlers still run. ErrConflict: it has ended.
type Stop struct {
	Target
	Phase  Phase
	Reason string
	// Due: only when its deadline is over, which is the reason then; otherwise ErrLost.
	Due bool
}

func (s Stop) apply(l *locked) (Result, error) {
	switch {
	case l.run.Phase.Ended():
		return Result{}, fmt.Errorf("the run has ended: %w", ErrConflict)
	case s.Due && (l.run.Deadline == nil || l.run.Deadline.After(l.now)):
		return Result{}, ErrLost
	}
	if s.Due {
		s.Reason = fmt.Sprintf("it timed out after %s", l.run.Timeout)
		if l.machine.stage == stageHandlers {
			s.Reason = fmt.Sprintf("its handlers timed out after %s", l.options.HandlerTime)
		}
	}
	l.runEvent(EventRunStopped, line(s.Reason))
	if l.run.Phase == Queued { // nothing has begun, and nothing is to be cleaned up
		l.machine.outcome, l.machine.failure = s.Phase, line(s.Reason)
		l.machine.finish()
	} else {
		l.machine.stop(s.Phase, line(s.Reason))
	}
	l.follow("")
	return Result{}, nil
}

// Abort fails a run without handlers: its definition cannot be executed, and so the target has no graph.
type Abort struct {
	Target
	Reason string
}

func (a Abort) apply(l *locked) (Result, error) {
	if l.run.Phase.Ended() {
		return Result{}, fmt.Errorf("the run has ended: %w", ErrConflict)
	}
	l.runEvent(EventRunStopped, line(a.Reason))
	l.machine.abort(line(a.Reason))
	l.follow("")
	return Result{}, nil
}

// admit lets a run begin that was queued. ErrLost: it is not queued any more.
type admit struct{ Target }

func (a admit) apply(l *locked) (Result, error) {
	if l.run.Phase != Queued {
		return Result{}, ErrLost
	}
	l.begin()
	return Result{}, nil
}
