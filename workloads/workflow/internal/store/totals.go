// SPDX-License-Identifier: Apache-2.0

package store

import (
	"maps"
	"sync"
)

// totals counts the events of runs that this process has recorded, by kind: metrics add up those of all processes.
type totals struct {
	mu     sync.Mutex
	counts map[string]int64
}

// add counts the events that are no step's.
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

// Totals returns how many runs this process has started and ended: by phase, Queued for those that were started.
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
