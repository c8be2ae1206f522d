// SPDX-License-Identifier: Apache-2.0

// Package schedule starts runs at their times: each tick once, whatever number of schedulers works on one database, and
// crashes when.
//
// A tick is first started and then claimed. The start carries an idempotency key that is made of workflow, trigger and
// time: whoever starts the same tick again, after a crash before the claim or at the same moment, gets the run that is
// there. The claim tells later looks, when the run itself may be gone, that the tick is done. So a run's idempotency key
// must be kept for longer than a scheduler can be held up between its look and its start: an hour is plenty.
package schedule

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	// MaxMissed bounds how many ticks RunAll makes up for at once: the newest.
	MaxMissed = 100
	// grace is how late a tick may be with Skip and no deadline: as long as a restart of the scheduler takes.
	grace = time.Minute
	// maxSleep is the longest sleep between looks at the clock, which may be set in the meantime.
	maxSleep = 10 * time.Second
	// workers bounds the ticks that are started at the same time.
	workers  = 16
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// callTimeout bounds one look, and one start with its claim.
	callTimeout = 30 * time.Second
	// maxAhead is by how much the clock may be set back. What is further in the future was noted by a clock that was
	// wrong, and must not stop everything until then.
	maxAhead = 25 * time.Hour
)

// Trigger is one cron line.
type Trigger struct {
	Workflow, Name string
	// Line identifies what Next computes: cron line and time zone.
	Line string
	// Next is the first tick after a time; zero: there is none. It knows the time zone.
	Next func(after time.Time) time.Time
	// StartingDeadline is how late a tick may start; 0: as late as Missed allows.
	StartingDeadline time.Duration
	// Missed says what becomes of ticks whose time passed while no scheduler worked: Skip forgets them, RunOnce (when
	// empty) makes up for all of them by the newest, RunAll starts each of them, in order.
	Missed  definition.Missed
	Suspend bool
	// Since is when this schedule took effect (it was created, changed or resumed): earlier ticks do not count.
	// Zero: no tick before the last one that is done, or, without any, before the trigger is set.
	Since time.Time
}

// same reports whether two are one trigger with one line.
func (t Trigger) same(as Trigger) bool {
	return t.Line == as.Line && t.Missed == as.Missed && t.StartingDeadline == as.StartingDeadline && t.Since.Equal(as.Since)
}

// Store keeps which ticks are done.
type Store interface {
	// Last is the newest tick that is claimed; zero without any.
	Last(ctx context.Context, workflow, trigger string) (time.Time, error)
	// Claim reports whether it was the first to claim the tick.
	Claim(ctx context.Context, workflow, trigger string, at time.Time) (bool, error)
}

// Start starts a run for a tick, unless there is one with the key. An error that wraps backend.ErrInvalid is final; with
// any other one the tick is tried again, until its deadline.
type Start func(ctx context.Context, workflow, trigger string, at time.Time, key string) error

// Clock tells the time, and when d has passed since it showed a time: what passed before the call counts.
type Clock interface {
	Now() time.Time
	After(since time.Time, d time.Duration) <-chan time.Time
}

type wall struct{}

func (wall) Now() time.Time { return time.Now().Round(0) } // as it may be set

func (w wall) After(since time.Time, d time.Duration) <-chan time.Time {
	return time.After(min(d, d-w.Now().Sub(since)))
}

// Options of New. Clock and Log may be nil.
type Options struct {
	Store Store
	Start Start
	Clock Clock
	Log   *slog.Logger
}

// Scheduler keeps all triggers in one heap by their next tick, and waits for the first.
type Scheduler struct {
	options Options
	changed chan struct{}

	mu      sync.Mutex
	entries map[string]map[string]*entry // by workflow and name
	heap    queue
}

// entry is a trigger and where it is. A worker that has it works on it alone.
type entry struct {
	Trigger
	added    time.Time
	next     time.Time // when to look
	place    int       // in the heap, -1 when it is not there
	looked   time.Time // up to here every tick was seen by this process; zero before the first look
	last     time.Time // the newest tick that is known to be done
	retry    time.Duration
	replaced bool
}

// New makes a scheduler without triggers.
func New(o Options) *Scheduler {
	if o.Clock == nil {
		o.Clock = wall{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{options: o, changed: make(chan struct{}, 1), entries: map[string]map[string]*entry{}}
}

// Key returns a tick's idempotency key.
func Key(workflow, trigger string, at time.Time) string {
	return workflow + "/" + trigger + "/" + at.UTC().Format(time.RFC3339Nano)
}

// Set gives a workflow these triggers and no others. One that stays as it is keeps its place.
func (s *Scheduler) Set(workflow string, triggers ...Trigger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bool{}
	for _, t := range triggers {
		if t.Workflow = workflow; !t.Suspend {
			wanted[t.Name] = true
			s.put(t)
		}
	}
	for name, e := range s.entries[workflow] {
		if !wanted[name] {
			s.drop(e)
		}
	}
	if len(s.entries[workflow]) == 0 {
		delete(s.entries, workflow)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Scheduler) put(t Trigger) {
	old := s.entries[t.Workflow][t.Name]
	if old != nil && old.same(t) {
		return
	}
	if old != nil {
		s.drop(old)
	}
	now := s.options.Clock.Now()
	made := &entry{Trigger: t, added: now, next: now} // the first look finds what was missed
	if s.entries[t.Workflow] == nil {
		s.entries[t.Workflow] = map[string]*entry{}
	}
	s.entries[t.Workflow][t.Name] = made
	heap.Push(&s.heap, made)
}

func (s *Scheduler) drop(e *entry) {
	e.replaced = true
	if e.place >= 0 {
		heap.Remove(&s.heap, e.place)
	}
	delete(s.entries[e.Workflow], e.Name)
}

// Status tells a trigger's next tick and the last that is done; zero when there is none, or it is not known yet.
func (s *Scheduler) Status(workflow, trigger string) (next, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[workflow][trigger]
	if e == nil || e.looked.IsZero() {
		return time.Time{}, time.Time{}
	}
	return e.Next(later(e.looked, e.last)), e.last
}

// Run starts ticks until ctx ends, and returns when nothing is under way.
func (s *Scheduler) Run(ctx context.Context) {
	due := make(chan *entry)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for e := range due {
				s.look(ctx, e)
			}
		})
	}
	defer group.Wait()
	defer close(due)
	for ctx.Err() == nil {
		now := s.options.Clock.Now()
		e, sleep := s.first(now)
		if e != nil {
			select {
			case due <- e:
			case <-ctx.Done():
				s.back(e)
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-s.options.Clock.After(now, sleep):
		}
	}
}

// first takes the trigger that is to be looked at now, or tells how long there is none.
func (s *Scheduler) first(now time.Time) (*entry, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heap) == 0 {
		return nil, maxSleep
	}
	sleep := s.heap[0].next.Sub(now)
	if sleep > 0 {
		return nil, min(sleep, maxSleep)
	}
	return heap.Pop(&s.heap).(*entry), 0
}

// look starts what is due, and puts the trigger back for its next tick, or for another try.
func (s *Scheduler) look(ctx context.Context, e *entry) {
	now := s.options.Clock.Now()
	err := s.fire(ctx, e, now)
	defer s.back(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil: // another Run may look
	case err != nil:
		e.retry = min(max(minRetry, 2*e.retry), maxRetry)
		s.options.Log.Warn("a tick could not be started; it is tried again", "workflow", e.Workflow, "trigger", e.Name, "error", err, "in", e.retry)
		e.next = s.options.Clock.Now().Add(e.retry)
	default:
		e.retry = 0
		e.looked = later(now, credible(e.looked, now))
		// A clock that was set back comes to the ticks that are done once more: they are behind this.
		e.next = e.Next(later(e.looked, credible(e.last, now)))
	}
}

// back puts a trigger into the heap, unless it was replaced in the meantime or has no next tick.
func (s *Scheduler) back(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.replaced || e.next.IsZero() {
		return
	}
	heap.Push(&s.heap, e)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// fire starts and claims the ticks that are due at now.
func (s *Scheduler) fire(ctx context.Context, e *entry, now time.Time) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	last, err := s.options.Store.Last(call, e.Workflow, e.Name)
	if err != nil {
		return err
	}
	s.done(e, last)
	for _, at := range e.due(now, credible(last, now)) {
		if err := s.tick(ctx, e, at); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scheduler) done(e *entry, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.last = later(e.last, at)
}

func (s *Scheduler) tick(ctx context.Context, e *entry, at time.Time) error {
	s.mu.Lock()
	replaced := e.replaced
	s.mu.Unlock()
	if replaced {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.options.Start(call, e.Workflow, e.Name, at, Key(e.Workflow, e.Name, at))
	if err != nil && !errors.Is(err, backend.ErrInvalid) {
		return err
	}
	if err != nil {
		s.options.Log.Error("a tick is refused", "workflow", e.Workflow, "trigger", e.Name, "at", at, "error", err)
	}
	if _, err := s.options.Store.Claim(call, e.Workflow, e.Name, at); err != nil {
		return err
	}
	s.done(e, at)
	return nil
}

// credible returns t, or just before now when t is too far in the future.
func credible(t, now time.Time) time.Time {
	if t.After(now.Add(maxAhead)) {
		return now.Add(-grace)
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
