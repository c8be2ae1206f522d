// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"slices"
	"sync"
)

// waiter is one of many that are worked on together.
type waiter[T any] struct {
	value T
	done  chan struct{}
}

// Joiner hands what came while it was at work to the next work, all of it: what that costs (a message there and back, the disk's
// sync) is paid once for all. A single caller does not wait.
type Joiner[T any] struct {
	most, atOnce int
	work         func([]*T)

	mu      sync.Mutex
	waiting []*waiter[T]
	busy    int
}

// NewJoiner bounds how many go together (the last one waits for all others), and how many works there are at a time. A work
// that is under way is waited for, so it must bound itself.
func NewJoiner[T any](most, atOnce int, work func([]*T)) *Joiner[T] {
	return &Joiner[T]{most: most, atOnce: atOnce, work: work}
}

// Do returns when work has worked on value; an error only when ctx ended before that.
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
	<-w.done // it is under way, and that is bounded
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
