// SPDX-License-Identifier: Apache-2.0

package store

import (
	"maps"
	"sync"
)

// totals counts the run events recorded by this process, by kind; metrics sum over all processes.
type totals struct {
	mu     sync.Mutex
	counts map[string]int64
}

// add counts events of runs, not of steps.
func (t *totals) add(e *eventColumns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int64{}
	}
	for i, kind := range e.kinds {
		if e.steps[i] == "" {
			t.counts[kind]++
		}
	}
}

func (t *totals) created(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int64{}
	}
	t.counts[EventRunCreated] += n
}

// Totals returns how many runs this process has started and ended, by phase; Queued counts the started ones.
func (s *Store) Totals() map[Phase]int64 {
	s.totals.mu.Lock()
	counts := maps.Clone(s.totals.counts)
	s.totals.mu.Unlock()
	out := map[Phase]int64{Queued: counts[EventRunCreated]}
	for _, phase := range []Phase{Succeeded, Failed, Cancelled, TimedOut} {
		out[phase] = counts[eventRunPrefix+string(phase)]
	}
	return out
}
