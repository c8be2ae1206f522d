// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"slices"
	"sync"
)

// waiter is one of several values that are processed together.
type waiter[T any] struct {
	value T
	done  chan struct{}
}

// Joiner passes everything that arrived during one call of work to the next: the cost of a call (a round trip, the disk's
// sync) is paid once for all. A single caller does not wait.
type Joiner[T any] struct {
	most, atOnce int
	work         func([]*T)

	mu      sync.Mutex
	waiting []*waiter[T]
	busy    int
}

// NewJoiner limits how many values go into one call (the last one waits for all others), and how many calls run at a
// time. A running call is always awaited, so it must be bounded itself.
func NewJoiner[T any](most, atOnce int, work func([]*T)) *Joiner[T] {
	return &Joiner[T]{most: most, atOnce: atOnce, work: work}
}

// Do returns once work has processed value; an error only if ctx ended before.
func (j *Joiner[T]) Do(ctx context.Context, value T) (T, error) {
	w := &waiter[T]{value: value, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, w)
	begin := j.busy < j.atOnce
	if begin {
		j.busy++
	}
	j.mu.Unlock()
	if begin {
		go j.run()
	}
	select {
	case <-w.done:
		return w.value, nil
	case <-ctx.Done():
	}
	if j.forget(w) {
		return w.value, ctx.Err()
	}
	<-w.done // it is running, and that is bounded
	return w.value, nil
}

func (j *Joiner[T]) forget(w *waiter[T]) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.waiting, w)
	if i >= 0 {
		j.waiting = slices.Delete(j.waiting, i, i+1)
	}
	return i >= 0
}

func (j *Joiner[T]) run() {
	for {
		j.mu.Lock()
		n := min(len(j.waiting), j.most)
		if n == 0 {
			j.busy--
			j.mu.Unlock()
			return
		}
		batch := slices.Clone(j.waiting[:n])
		j.waiting = slices.Delete(j.waiting, 0, n)
		j.mu.Unlock()
		values := make([]*T, n)
		for i, w := range batch {
			values[i] = &w.value
		}
		j.work(values)
		for _, w := range batch {
			close(w.done)
		}
	}
}
