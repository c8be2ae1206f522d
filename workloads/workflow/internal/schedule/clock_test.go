// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"sync"
	"time"
)

// clock is a clock that the test advances. A wait ends when its duration has passed; setting the clock passes no time. A wait since
// a time that the clock no longer shows ends at once.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	passed time.Duration
	waits  map[chan time.Time]time.Duration
}

func newClock(at time.Time) *clock { return &clock{now: at, waits: map[chan time.Time]time.Duration{}} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(since time.Time, d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := make(chan time.Time, 1)
	if !since.Equal(c.now) {
		wait <- c.now
		return wait
	}
	c.waits[wait] = c.passed + d
	return wait
}

// pass advances the time.
func (c *clock) pass(d time.Duration) { c.move(d, d) }

// jump sets the clock, and passes enough time for schedulers to read it.
func (c *clock) jump(d time.Duration) { c.move(d, 11*time.Second) }

func (c *clock) move(shown, passed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.passed = c.now.Add(shown), c.passed+passed
	for wait, until := range c.waits {
		if until <= c.passed {
			wait <- c.now
			delete(c.waits, wait)
		}
	}
}

// every returns the next multiple of d.
func every(d time.Duration) func(time.Time) time.Time {
	return func(after time.Time) time.Time {
		at := after.Truncate(d)
		if !at.After(after) {
			at = at.Add(d)
		}
		return at
	}
}

// memory is a Store in memory that also records runs.
type memory struct {
	mu       sync.Mutex
	claims   map[[2]string]time.Time
	runs     map[string]time.Time
	starts   []string // every call, in order
	lookups  int
	failWith error
}

func newMemory() *memory {
	return &memory{claims: map[[2]string]time.Time{}, runs: map[string]time.Time{}}
}

func (m *memory) Last(_ context.Context, workflow, trigger string) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookups++
	return m.claims[[2]string{workflow, trigger}], nil
}

func (m *memory) Claim(_ context.Context, workflow, trigger string, at time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{workflow, trigger}
	if !at.After(m.claims[id]) {
		return false, nil
	}
	m.claims[id] = at
	return true, nil
}

func (m *memory) start(_ context.Context, _, _ string, at time.Time, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts = append(m.starts, key)
	if m.failWith != nil {
		return m.failWith
	}
	m.runs[key] = at
	return nil
}

// ticks returns the times of the runs, as 15:04.
func (m *memory) ticks() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]bool{}
	for _, at := range m.runs {
		out[at.Format("15:04")] = true
	}
	return out
}

func (m *memory) counts() (starts, lookups int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.starts), m.lookups
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failWith = err
}
