// SPDX-License-Identifier: Apache-2.0

// Package memo remembers what was compared lately and found as wanted, so that a pass that changes nothing asks no server
// and compares no tree. It is an optimization: an empty memo only makes the next pass slower.
package memo

import (
	"math/rand/v2"
	"sync"
	"time"
)

// capacity bounds what one memo holds. A memo that is full forgets everything.
const capacity = 200_000

// Lately remembers, by key, what was last found as wanted, and until when that holds. It is safe for concurrent use.
type Lately[K comparable] struct {
	// Now is the clock; set it before the first use.
	Now func() time.Time

	interval time.Duration
	capacity int

	mu    sync.Mutex
	found map[K]finding
}

// finding identifies what was found.
type finding struct {
	sum   string
	until time.Time // zero: as long as the sum is the same
}

// New returns an empty memo whose findings hold for an interval. With an interval of zero they hold until the sum differs.
func New[K comparable](interval time.Duration) *Lately[K] {
	return &Lately[K]{Now: time.Now, interval: interval, capacity: capacity, found: map[K]finding{}}
}

// Due reports whether to compare again: nothing is known, what is wanted has another sum, or the finding is too old. left is
// how long the finding still holds; it is zero when the comparison is due, and when age does not matter.
func (l *Lately[K]) Due(key K, sum string) (due bool, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.found[key]
	switch {
	case !ok || last.sum != sum:
		return true, 0
	case last.until.IsZero():
		return false, 0
	}
	left = last.until.Sub(l.Now())
	return left <= 0, max(left, 0)
}

// Differs reports whether something with another sum was found last. It is false when nothing is known.
func (l *Lately[K]) Differs(key K, sum string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.found[key]
	return ok && last.sum != sum
}

// Done records that what has this sum was found, or made, as wanted.
func (l *Lately[K]) Done(key K, sum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.interval <= 0 {
		l.put(key, finding{sum: sum})
		return
	}
	l.put(key, finding{sum: sum, until: l.Now().Add(l.interval)})
}

// DoneFor is Done with an interval of its own. With zero the comparison is due again at once, and Assume does not change that.
func (l *Lately[K]) DoneFor(key K, sum string, interval time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(key, finding{sum: sum, until: l.Now().Add(interval)})
}

// Assume is DoneFor for what another process found, such as the manager before this one. It does nothing when the key is
// known. The finding is of a random age, so that the first comparisons of a new manager spread over the interval; with an
// interval of zero it holds until the sum differs.
func (l *Lately[K]) Assume(key K, sum string, interval time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.found[key]; known {
		return
	}
	assumed := finding{sum: sum}
	if interval > 0 {
		left := interval - time.Duration(rand.Int64N(int64(interval))) //nolint:gosec // G404: spreading timers needs no secrecy
		assumed.until = l.Now().Add(left)
	}
	l.put(key, assumed)
}

// put makes room first; the caller holds the lock.
func (l *Lately[K]) put(key K, f finding) {
	if _, known := l.found[key]; !known && len(l.found) >= l.capacity {
		clear(l.found)
	}
	l.found[key] = f
}

// Delete forgets one key.
func (l *Lately[K]) Delete(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.found, key)
}

// Forget forgets the keys that match: those of a resource that is gone, or of a server whose content is in doubt.
func (l *Lately[K]) Forget(match func(K) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.found {
		if match(key) {
			delete(l.found, key)
		}
	}
}
