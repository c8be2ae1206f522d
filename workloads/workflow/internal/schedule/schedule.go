// SPDX-License-Identifier: Apache-2.0

// Package schedule starts runs at scheduled times: each tick once, for any number of schedulers on one database, and despite
// crashes.
//
// A tick is first started and then claimed. The start carries an idempotency key made of workflow, trigger and time: a scheduler
// that starts the same tick again, after a crash before the claim or concurrently, gets the existing run. The claim records that
// the tick is done, for when the run itself has been deleted. So a run's idempotency key must be kept for longer than a scheduler
// can be delayed between its check and its start: an hour is plenty.
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
	// MaxMissed bounds how many missed ticks RunAll starts at once: the newest ones.
	MaxMissed = 100
	// grace is how late a tick may be with Skip and no deadline: it covers a restart of the scheduler.
	grace = time.Minute
	// maxSleep is the longest sleep between reads of the clock, which may be set in the meantime.
	maxSleep = 10 * time.Second
	// workers bounds the ticks that are started at the same time.
	workers  = 16
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// callTimeout bounds one check, and one start with its claim.
	callTimeout = 30 * time.Second
	// maxAhead is by how much the clock may be set back. A time further in the future was recorded with a wrong clock, and must not
	// block ticks until then.
	maxAhead = 25 * time.Hour
)

// Trigger is one cron line.
type Trigger struct {
	Workflow, Name string
	// Line identifies what Next computes: cron line and time zone.
	Line string
	// Next returns the first tick after a time, or zero. It applies the time zone.
	Next func(after time.Time) time.Time
	// StartingDeadline is how late a tick may start; 0 means as late as Missed allows.
	StartingDeadline time.Duration
	// Missed decides about ticks that were due while no scheduler was running: Skip drops them, RunOnce (the default) starts only the
	// newest, RunAll starts all of them in order.
	Missed  definition.Missed
	Suspend bool
	// Since is when this schedule took effect (it was created, changed or resumed): earlier ticks do not count. Zero means the last
	// claimed tick or, without any, the call of Set.
	Since time.Time
}

// same reports whether both have the same schedule.
func (t Trigger) same(as Trigger) bool {
	return t.Line == as.Line && t.Missed == as.Missed && t.StartingDeadline == as.StartingDeadline && t.Since.Equal(as.Since)
}

// Store records claimed ticks.
type Store interface {
	// Last returns the newest claimed tick, or zero.
	Last(ctx context.Context, workflow, trigger string) (time.Time, error)
	// Claim claims a tick. It reports whether the tick was unclaimed.
	Claim(ctx context.Context, workflow, trigger string, at time.Time) (bool, error)
}

// Start starts a run for a tick, unless a run with the key exists. An error that wraps backend.ErrInvalid is final; after any other
// error the tick is retried until its deadline.
type Start func(ctx context.Context, workflow, trigger string, at time.Time, key string) error

// Clock tells the time, and sends when d has passed since a time that it showed; time that passed before the call counts.
type Clock interface {
	Now() time.Time
	After(since time.Time, d time.Duration) <-chan time.Time
}

type wall struct{}

func (wall) Now() time.Time { return time.Now().Round(0) } // the wall clock, without the monotonic one

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

// Scheduler holds all triggers in one heap by their next tick, and waits for the first one.
type Scheduler struct {
	options Options
	changed chan struct{}

	mu      sync.Mutex
	entries map[string]map[string]*entry // by workflow and name
	heap    queue
}

// entry is a trigger with its progress. Only one worker handles an entry at a time.
type entry struct {
	Trigger
	added    time.Time
	next     time.Time // when to check it
	place    int       // index in the heap, or -1
	checked  time.Time // this process has handled all ticks up to here; zero before the first check
	last     time.Time // the newest tick known to be claimed
	retry    time.Duration
	replaced bool
}

// New returns a scheduler without triggers.
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

// Set replaces the triggers of a workflow. Unchanged triggers keep their progress.
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
	added := &entry{Trigger: t, added: now, next: now} // the first check finds missed ticks
	if s.entries[t.Workflow] == nil {
		s.entries[t.Workflow] = map[string]*entry{}
	}
	s.entries[t.Workflow][t.Name] = added
	heap.Push(&s.heap, added)
}

func (s *Scheduler) drop(e *entry) {
	e.replaced = true
	if e.place >= 0 {
		heap.Remove(&s.heap, e.place)
	}
	delete(s.entries[e.Workflow], e.Name)
}

// Status returns a trigger's next tick and its last claimed one; each is zero if there is none or it is not known yet.
func (s *Scheduler) Status(workflow, trigger string) (next, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[workflow][trigger]
	if e == nil || e.checked.IsZero() {
		return time.Time{}, time.Time{}
	}
	return e.Next(later(e.checked, e.last)), e.last
}

// Run starts ticks until ctx is done, and returns when all started work has finished.
func (s *Scheduler) Run(ctx context.Context) {
	due := make(chan *entry)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for e := range due {
				s.check(ctx, e)
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
				s.requeue(e)
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

// first removes a trigger that is due from the heap, or returns how long to sleep.
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

// check starts the ticks that are due, and requeues the trigger for its next tick or a retry.
func (s *Scheduler) check(ctx context.Context, e *entry) {
	now := s.options.Clock.Now()
	err := s.fire(ctx, e, now)
	defer s.requeue(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil: // a later Run may check it
	case err != nil:
		e.retry = min(max(minRetry, 2*e.retry), maxRetry)
		s.options.Log.Warn("could not start a tick; will retry", "workflow", e.Workflow, "trigger", e.Name, "error", err, "in", e.retry)
		e.next = s.options.Clock.Now().Add(e.retry)
	default:
		e.retry = 0
		e.checked = later(now, credible(e.checked, now))
		// If the clock was set back, claimed ticks are in the future again: skip them.
		e.next = e.Next(later(e.checked, credible(e.last, now)))
	}
}

// requeue returns a trigger to the heap, unless it was replaced in the meantime or has no next tick.
func (s *Scheduler) requeue(e *entry) {
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
		s.options.Log.Error("the run of a tick was refused", "workflow", e.Workflow, "trigger", e.Name, "at", at, "error", err)
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
