// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxTogether bounds how much is committed together: the last one waits for all others.
	maxTogether = 128
	// atOnce: while one commit waits for the disk, another one is made ready.
	atOnce = 2
)

// waiter is one of many that are committed together.
type waiter[T any] struct {
	value T
	done  chan struct{}
}

// joiner hands what came while it was at work to the next work, all of it: the disk's sync, which is what a commit costs, is
// paid once for all. Who comes alone waits for nobody. db.Together does the same for reads.
type joiner[T any] struct {
	work func([]*T)

	mu      sync.Mutex
	waiting []*waiter[T]
	busy    int
}

func newJoiner[T any](work func([]*T)) *joiner[T] { return &joiner[T]{work: work} }

// do returns when work has worked on value; an error only when ctx ended before that.
func (j *joiner[T]) do(ctx context.Context, value T) (T, error) {
	w := &waiter[T]{value: value, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, w)
	begin := j.busy < atOnce
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

func (j *joiner[T]) forget(w *waiter[T]) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.waiting, w)
	if i >= 0 {
		j.waiting = slices.Delete(j.waiting, i, i+1)
	}
	return i >= 0
}

func (j *joiner[T]) run() {
	for {
		j.mu.Lock()
		n := min(len(j.waiting), maxTogether)
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
