// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Kinds of events.
const (
	EventRunCreated    = "RunCreated"
	EventRunStarted    = "RunStarted"
	EventRunStopped    = "RunStopped"
	EventRunHandlers   = "RunHandlers"
	EventStepStarted   = "StepStarted"
	EventStepExpanded  = "StepExpanded"
	EventStepWaiting   = "StepWaiting"
	EventStepResumed   = "StepResumed"
	EventStepRetried   = "StepRetried"
	EventStepLost      = "StepLost" // its worker died, or could not reach the database for the time of a lease
	eventRunPrefix     = "Run"      // and the phase that it ended with
	eventStepPrefix    = "Step"
	wholeStep, noIndex = -1, -1
)

// locked is a run whose row we hold, with what the transitions of one transaction make of it.
type locked struct {
	options *Options
	now     time.Time
	run     Run
	machine machine
	rows    map[[2]int]*row
	events  []event
	tasks   []string
	fresh   []*row // became ready by this transition
	changed bool
	// What of the rows that are not available is to be canceled, before those available are written.
	drop      drop
	dropItems []int
}

type event struct {
	seq     int64
	kind    string
	step    string
	item    int
	attempt int
	detail  string
}

func (l *locked) row(step, item int) *row { return l.rows[[2]int{step, item}] }

// held returns the row of a claim that is still the caller's. So is one that became ready again, or whose claim a crash of the
// database took back (see Store.commit), without anybody taking it since: the outcome is recorded once all the same, and the
// work is not done twice.
func (l *locked) held(t Target, c Claimed) (*row, error) {
	r := l.row(t.Step, t.Item)
	if r == nil || r.attempt != c.Attempt {
		return nil, ErrLost
	}
	untouched := r.owner == "" && r.claims == 0 && r.resume == nil
	switch {
	case r.phase == Running && r.owner == c.Owner:
		return r, nil
	case r.phase == Ready && (r.owner == c.Owner || untouched):
		l.move(r, Running)
		return r, nil
	}
	return nil, ErrLost
}

func (l *locked) claim(r *row, owner string) (*Claimed, error) {
	c := &Claimed{Step: r.step, Item: r.item, Owner: owner}
	if r.resume != nil {
		c.Resume = &Resumed{}
		if err := json.Unmarshal(r.resume, c.Resume); err != nil {
			return nil, fmt.Errorf("how the wait ended: %w", err)
		}
	}
	if r.started == nil {
		r.started = &l.now
		l.event(EventStepStarted, r, "")
	}
	due := l.now.Add(l.options.Lease)
	l.move(r, Running)
	r.owner, r.due, r.changed = owner, &due, true
	r.claims++
	c.Attempt, c.Started = r.attempt, *r.started
	return c, nil
}

// move changes the phase of a row that continues, and what the run knows of it.
func (l *locked) move(r *row, to Phase) {
	if r.item == wholeStep {
		l.machine.state[r.step] = to
	} else if lo := l.machine.loops[r.step]; lo != nil {
		lo.moved(r.phase, to)
	}
	r.phase, r.changed, l.changed = to, true, true
}

func (l *locked) wait(r *row, until *time.Time, resumable bool) {
	l.move(r, Waiting)
	r.owner, r.due, r.resumable = "", until, resumable
}

// again lets anybody take the step.
func (l *locked) again(r *row) {
	if l.machine.stage == stageFailing {
		l.end(r, Cancelled, "")
		l.follow("")
		return
	}
	l.move(r, Ready)
	r.ready(l.now.Add(l.options.Redispatch))
	l.dispatch(r)
}

func (l *locked) resume(r *row, how Resumed) {
	data, err := json.Marshal(how)
	if err != nil { // it was valid when it was stored
		data = nil
	}
	r.resume, r.detail = data, nil
	l.event(EventStepResumed, r, "")
	l.again(r)
}

func (l *locked) dispatch(r *row) {
	l.tasks = append(l.tasks, Task{Run: l.run.ID, Step: r.step, Item: r.item, Workflow: l.run.Workflow, Hash: l.run.Hash}.Body())
}

// end gives a row its outcome, and takes the step, or the loop, to its end.
func (l *locked) end(r *row, phase Phase, failure string) {
	from := r.phase
	r.failure = line(failure)
	r.end(phase, l.now)
	l.changed = true
	l.event(eventStepPrefix+string(phase), r, r.failure)
	if r.item == wholeStep {
		l.machine.end(r.step, phase, r.failure)
		return
	}
	lo := l.machine.loops[r.step]
	lo.moved(from, phase)
	lo.Bytes += len(r.output) + 1
	if phase == Failed && lo.Error == "" {
		lo.Error = fmt.Sprintf("item %d: %s", r.item, r.failure)
	}
	l.loop(r.step, lo)
}

// loop begins the next item, or ends the step.
func (l *locked) loop(step int, lo *loop) {
	node := l.machine.graph.Nodes[step]
	fails := lo.Failed > 0 && !node.Continue
	if fails || l.machine.stage == stageFailing {
		l.machine.shorten(step, lo)
	}
	if lo.Next < lo.Total {
		l.nextItem(step, lo)
		return
	}
	if lo.Ended < lo.Total {
		return
	}
	parent := l.row(step, wholeStep)
	phase, failure := Succeeded, ""
	switch {
	case lo.Failed > 0:
		phase, failure = Failed, lo.Error
	case l.machine.stage == stageFailing:
		phase = Cancelled
	case lo.Bytes > l.options.kept():
		phase, failure = Failed, tooLarge("the list of its items' outputs", lo.Bytes, l.options.kept())
	}
	parent.collect = phase != Cancelled && lo.Bytes <= l.options.kept()
	l.end(parent, phase, failure)
}

func (l *locked) nextItem(step int, lo *loop) {
	l.make(step, lo.Next)
	lo.Next++
}

// make adds a row that is ready.
func (l *locked) make(step, item int) {
	r := &row{run: l.run.ID, step: step, item: item, name: l.machine.graph.Nodes[step].Name, attempt: 1, made: true}
	r.ready(l.now.Add(l.options.Redispatch))
	l.rows[[2]int{step, item}] = r
	l.fresh = append(l.fresh, r)
	l.changed = true
}

// follow writes down what the machine decided: the first of the rows that became ready is claimed for next, the others are
// dispatched.
func (l *locked) follow(next string) *Claimed {
	m := &l.machine
	l.changed = true
	l.dropLoaded()
	if m.begunHandlers {
		m.begunHandlers = false
		deadline := l.now.Add(l.options.HandlerTime)
		l.run.Deadline = &deadline
		l.runEvent(EventRunHandlers, string(m.outcome))
	}
	for _, i := range m.ready {
		l.make(i, wholeStep)
	}
	m.ready = nil
	var claimed *Claimed
	for _, r := range l.fresh {
		if r.phase != Ready {
			continue
		}
		if next != "" && claimed == nil {
			claimed, _ = l.claim(r, next) // a row that is new has not waited
			continue
		}
		l.dispatch(r)
	}
	l.fresh = nil
	if m.over && !l.run.Phase.Ended() {
		l.run.Finished, l.run.Deadline = &l.now, nil
		l.run.Phase = m.outcome
		l.runEvent(eventRunPrefix+string(m.outcome), m.failure)
	}
	return claimed
}

// dropLoaded cancels the rows that are available; the others are canceled in the database.
func (l *locked) dropLoaded() {
	m := &l.machine
	for _, r := range l.rows {
		idle := r.phase == Ready || r.phase == Waiting
		if r.phase == Running && r.item == wholeStep && m.loops[r.step] != nil {
			idle = m.state[r.step] == Cancelled
		}
		ofLoop := r.item != wholeStep && slices.Contains(m.dropItems, r.step)
		if idle && (m.drop != dropNothing || ofLoop) || r.phase == Running && m.drop == dropActive {
			r.end(Cancelled, l.now)
		}
	}
	l.drop = max(l.drop, m.drop)
	l.dropItems = append(l.dropItems, m.dropItems...)
	m.drop, m.dropItems = dropNothing, nil
}

// begin starts a run.
func (l *locked) begin() {
	deadline := l.now.Add(l.run.Timeout)
	l.run.Phase, l.run.Started, l.run.Deadline = Running, &l.now, &deadline
	l.runEvent(EventRunStarted, "")
	l.machine.begin()
	l.follow("")
}

func (l *locked) event(kind string, r *row, detail string) {
	l.run.Seq++
	l.events = append(l.events, event{seq: l.run.Seq, kind: kind, step: r.name, item: r.item, attempt: r.attempt, detail: detail})
}

func (l *locked) runEvent(kind, detail string) {
	l.run.Seq++
	l.events = append(l.events, event{seq: l.run.Seq, kind: kind, item: noIndex, detail: detail})
}

func tooLarge(what string, size, bound int) string {
	return fmt.Sprintf("%s has %d bytes, at most %d are kept: give less, for instance the address of where it is stored", what, size, bound)
}
