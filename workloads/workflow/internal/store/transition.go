// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Transition is one change of a run. Concurrent transitions are committed together.
type Transition interface {
	// target returns what is changed; step -1 is the run as a whole.
	target() Target
	apply(*locked) (Result, error)
}

// Target is a step or item of a run. Graph is the graph of the run's definition, which Hash identifies.
type Target struct {
	Run        string
	Step, Item int
	Graph      *Graph
	Hash       string
}

func (t Target) target() Target { return t }

// Result is the outcome of a transition.
type Result struct {
	// Claimed is the step that the caller has claimed, if any.
	Claimed *Claimed
	// Run is set by Claim.
	Run *Run
	// Phase is the phase of the run after the transition.
	Phase Phase
	// Dispatched reports whether the transition added messages to the outbox.
	Dispatched bool
}

// Claimed is a step that its owner may execute until the lease expires.
type Claimed struct {
	Step, Item, Attempt int
	// Owner identifies the claim; recording an outcome requires it.
	Owner string
	// Started is when the attempt started, by the clock of its worker.
	Started time.Time
	// Resume is the outcome of this attempt's wait, or nil if it has not waited.
	Resume *Resumed
}

// Resumed is the outcome of a wait.
type Resumed struct {
	Event  bool            `json:"event"`
	Data   json.RawMessage `json:"data,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Claim claims a step that is ready or whose lease has expired. It returns ErrLost if there is nothing to do.
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
		l.end(r, Failed, fmt.Sprintf("its worker crashed %d times while it ran", r.claims))
		l.advance("")
		return Result{}, ErrLost
	}
	claimed, err := l.claim(r, c.Owner)
	return Result{Claimed: claimed, Run: &l.run}, err
}

// Finish records an outcome. It returns ErrLost, and records nothing, if the claim is lost.
type Finish struct {
	Target
	By Claimed
	// Phase is Succeeded, Failed or Skipped.
	Phase           Phase
	Output, Outputs json.RawMessage
	Error           string
	// Next is the owner under which one of the steps that became ready is claimed for the caller; empty claims none.
	Next string
}

func (f Finish) apply(l *locked) (Result, error) {
	r, err := l.held(f.Target, f.By)
	if err != nil {
		return Result{}, err
	}
	r.output, r.outputs, r.owner = f.Output, f.Outputs, f.By.Owner
	l.end(r, f.Phase, f.Error)
	return Result{Claimed: l.advance(f.Next)}, nil
}

// Retry ends an attempt, and schedules the next one.
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
	l.event(EventStepRetried, r, clean(t.Error))
	if l.machine.stage == stageFailing {
		l.end(r, Failed, t.Error) // a failing run has no further attempts
		l.advance("")
		return Result{}, nil
	}
	r.attempt, r.claims, r.started, r.resume, r.detail, r.failure = r.attempt+1, 0, nil, nil, nil, clean(t.Error)
	l.wait(r, &t.At, false)
	return Result{}, nil
}

// Suspend makes a step wait, and gives up its claim.
type Suspend struct {
	Target
	By Claimed
	// Until is when to continue. If zero, only Resume continues the step.
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
		l.advance("")
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
	// Items is the list of items; Count is its length.
	Items json.RawMessage
	Count int
	// Parallelism bounds how many items run at a time; 0 means all.
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
		return Result{Claimed: l.advance(e.Next)}, nil
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
	return Result{Claimed: l.advance(e.Next)}, nil
}

// Release gives up a claim, so that another worker restarts the attempt.
type Release struct {
	Target
	By Claimed
	// At is the earliest time of the restart; zero means at once.
	At time.Time
}

func (t Release) apply(l *locked) (Result, error) {
	r, err := l.held(t.Target, t.By)
	if err != nil {
		return Result{}, err
	}
	r.claims = max(0, r.claims-1)
	if t.At.IsZero() || l.machine.stage == stageFailing {
		l.requeue(r)
		return Result{}, nil
	}
	l.move(r, Ready)
	r.ready(t.At) // Wake dispatches it
	return Result{}, nil
}

// Wake handles a step that is due: a waiting step continues, a step whose lease has expired is given to another worker, and an
// unclaimed step is dispatched again. It returns ErrLost if the step is not due.
type Wake struct{ Target }

func (w Wake) apply(l *locked) (Result, error) {
	r := l.row(w.Step, w.Item)
	if r == nil || r.due == nil || r.due.After(l.now) {
		return Result{}, ErrLost
	}
	switch r.phase {
	case Waiting:
		if r.started != nil { // a suspended attempt, not the delay before the next one
			l.resume(r, Resumed{Detail: r.detail})
			break
		}
		l.requeue(r)
	case Running:
		l.event(EventStepLost, r, "")
		l.requeue(r)
	case Ready:
		l.dispatch(r)
		due := l.now.Add(l.options.Redispatch)
		r.due, r.changed = &due, true
	default:
		return Result{}, ErrLost
	}
	return Result{}, nil
}

// Resume ends a wait with data. It returns ErrConflict if the step is not waiting for an event.
type Resume struct {
	Target
	Data json.RawMessage
}

func (t Resume) apply(l *locked) (Result, error) {
	r := l.row(t.Step, t.Item)
	if r == nil || r.phase != Waiting || !r.resumable {
		return Result{}, fmt.Errorf("step %s is not waiting for an event: %w", l.machine.graph.Nodes[t.Step].Name, ErrConflict)
	}
	l.resume(r, Resumed{Event: true, Data: t.Data, Detail: r.detail})
	return Result{}, nil
}

// Stop ends a run as Cancelled or TimedOut. Its handlers still run. It returns ErrConflict if the run has ended.
type Stop struct {
	Target
	Phase  Phase
	Reason string
	// Due stops the run only if it is past its deadline, which then is the reason. Otherwise Stop returns ErrLost.
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
	l.runEvent(EventRunStopped, clean(s.Reason))
	if l.run.Phase == Queued { // nothing has started, so there is nothing to clean up
		l.machine.outcome, l.machine.failure = s.Phase, clean(s.Reason)
		l.machine.finish()
	} else {
		l.machine.stop(s.Phase, clean(s.Reason))
	}
	l.advance("")
	return Result{}, nil
}

// Abort fails a run without running its handlers. Its definition cannot be executed, so the target has no graph.
type Abort struct {
	Target
	Reason string
}

func (a Abort) apply(l *locked) (Result, error) {
	if l.run.Phase.Ended() {
		return Result{}, fmt.Errorf("the run has ended: %w", ErrConflict)
	}
	l.runEvent(EventRunStopped, clean(a.Reason))
	l.machine.abort(clean(a.Reason))
	l.advance("")
	return Result{}, nil
}

// admit starts a queued run. It returns ErrLost if the run is no longer queued.
type admit struct{ Target }

func (a admit) apply(l *locked) (Result, error) {
	if l.run.Phase != Queued {
		return Result{}, ErrLost
	}
	l.begin()
	return Result{}, nil
}
