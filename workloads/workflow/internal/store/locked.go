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
	EventStepLost      = "StepLost" // its worker crashed, or could not renew the lease
	eventRunPrefix     = "Run"      // followed by the final phase
	eventStepPrefix    = "Step"
	wholeStep, noIndex = -1, -1
)

// locked is a run whose row is locked, with the changes by the transitions of one transaction.
type locked struct {
	options *Options
	now     time.Time
	run     Run
	machine machine
	rows    map[[2]int]*row
	events  []event
	tasks   []string
	newRows []*row // became ready by this transition
	changed bool
	// drop and dropItems select rows that are not loaded. They are canceled before the loaded ones are written.
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

// held returns the row if the caller still holds its claim. The claim also holds if the row became ready again, or if a crash of
// the database undid the claim (see Store.commit), and no other worker has claimed it since: the outcome is still recorded once,
// and the work is not repeated.
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
			return nil, fmt.Errorf("the result of the wait: %w", err)
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

// move changes the phase of an active row, and of its step or item in the run's state.
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

// requeue makes the step available to all workers.
func (l *locked) requeue(r *row) {
	if l.machine.stage == stageFailing {
		l.end(r, Cancelled, "")
		l.advance("")
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
	l.requeue(r)
}

func (l *locked) dispatch(r *row) {
	l.tasks = append(l.tasks, Task{Run: l.run.ID, Step: r.step, Item: r.item, Workflow: l.run.Workflow, Hash: l.run.Hash}.Body())
}

// end records the outcome of a row, and updates its step or loop.
func (l *locked) end(r *row, phase Phase, failure string) {
	from := r.phase
	r.failure = clean(failure)
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

// loop starts the next item, or ends the step.
func (l *locked) loop(step int, lo *loop) {
	node := l.machine.graph.Nodes[step]
	fails := lo.Failed > 0 && !node.Continue
	if fails || l.machine.stage == stageFailing {
		l.machine.truncate(step, lo)
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
	case lo.Bytes > l.options.maxRow():
		phase, failure = Failed, tooLarge("the list of item outputs", lo.Bytes, l.options.maxRow())
	}
	parent.collect = phase != Cancelled && lo.Bytes <= l.options.maxRow()
	l.end(parent, phase, failure)
}

func (l *locked) nextItem(step int, lo *loop) {
	l.addRow(step, lo.Next)
	lo.Next++
}

// addRow adds a ready row.
func (l *locked) addRow(step, item int) {
	r := &row{run: l.run.ID, step: step, item: item, name: l.machine.graph.Nodes[step].Name, attempt: 1, isNew: true}
	r.ready(l.now.Add(l.options.Redispatch))
	l.rows[[2]int{step, item}] = r
	l.newRows = append(l.newRows, r)
	l.changed = true
}

// advance carries out the machine's decisions. It claims the first of the rows that became ready for next, and dispatches the
// others.
func (l *locked) advance(next string) *Claimed {
	m := &l.machine
	l.changed = true
	l.dropLoaded()
	if m.handlersStarted {
		m.handlersStarted = false
		deadline := l.now.Add(l.options.HandlerTime)
		l.run.Deadline = &deadline
		l.runEvent(EventRunHandlers, string(m.outcome))
	}
	for _, i := range m.ready {
		l.addRow(i, wholeStep)
	}
	m.ready = nil
	var claimed *Claimed
	for _, r := range l.newRows {
		if r.phase != Ready {
			continue
		}
		if next != "" && claimed == nil {
			claimed, _ = l.claim(r, next) // a new row has no result of a wait that could be invalid
			continue
		}
		l.dispatch(r)
	}
	l.newRows = nil
	if m.over && !l.run.Phase.Ended() {
		l.run.Finished, l.run.Deadline = &l.now, nil
		l.run.Phase = m.outcome
		l.runEvent(eventRunPrefix+string(m.outcome), m.failure)
	}
	return claimed
}

// dropLoaded cancels rows that are loaded; the others are canceled in the database.
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
	l.advance("")
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
	return fmt.Sprintf("%s has %d bytes, more than the limit of %d: return less, for example a URL of the data", what, size, bound)
}
