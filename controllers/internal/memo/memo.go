// SPDX-License-Identifier: Apache-2.0

// Package memo remembers what was compared lately and found as wanted, so that a pass that changes nothing asks no server
// and compares no tree. It is an optimization: an empty memo only makes the next pass slower.
package memo

import (
	"sync"
	"time"
)

// capacity bounds what one memo holds. A memo that is full forgets everything.
const capacity = 200_000

// Lately remembers, by key, what was last found as wanted, and when. It is safe for concurrent use.
type Lately[K comparable] struct {
	// Now is the clock; set it before the first use.
	Now func() time.Time

	interval time.Duration
	capacity int

	mu    sync.Mutex
	found map[K]finding
}

// finding identifies what was found as wanted, and when.
type finding struct {
	sum string
	at  time.Time
}

// New returns an empty memo whose findings hold for an interval. With an interval of zero they hold until the sum differs.
func New[K comparable](interval time.Duration) *Lately[K] {
	return &Lately[K]{Now: time.Now, interval: interval, capacity: capacity, found: map[K]finding{}}
}

// Due reports whether to compare again: nothing is known, what is wanted has another sum, or the interval is over. left is
// how long the finding still holds; it is zero when the comparison is due, and when the interval is zero.
func (l *Lately[K]) Due(key K, sum string) (due bool, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.found[key]
	if !ok || last.sum != sum {
		return true, 0
	}
	if l.interval <= 0 {
		return false, 0
	}
	left = l.interval - l.Now().Sub(last.at)
	if left <= 0 {
		return true, 0
	}
	return false, left
}

// Done records that what has this sum was found, or made, as wanted.
func (l *Lately[K]) Done(key K, sum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.found[key]; !known && len(l.found) >= l.capacity {
		clear(l.found)
	}
	l.found[key] = finding{sum: sum, at: l.Now()}
}

// Forget drops the keys that match: of a resource that is gone, or of a server whose content is in doubt.
func (l *Lately[K]) Forget(match func(K) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.found {
		if match(key) {
			delete(l.found, key)
		}
	}
}
