// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"sync/atomic"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// tracked is one batch of a source, from Read to Ack.
type tracked struct {
	batch   *record.Batch
	session *session
	cost    int64
	// acked: it was acknowledged before it was processed (AtMostOnce).
	acked bool
	// parts counts the units that hold its records, and the batcher while it splits it.
	parts atomic.Int32
}

func (t *tracked) finish() {
	if t.parts.Add(-1) == 0 {
		t.session.acks.complete(t)
	}
}

// unit passes through transforms and sinks as one: a whole batch of a source, a part of a large one, or several
// small ones together.
type unit struct {
	batch record.Batch
	of    []*tracked
	// failed are the records that never reach the transforms.
	failed []record.Failed
	source *sourceRunner
	// writers counts the sinks that still have to write it, and the processor.
	writers atomic.Int32
}

func (u *unit) finish() {
	if u.writers.Add(-1) > 0 {
		return
	}
	for _, t := range u.of {
		t.finish()
	}
}

// ackQueue holds a session's batches in the order of Read until they can be acknowledged.
type ackQueue struct {
	budget *budget
	mu     sync.Mutex
	queue  []*tracked
	ready  map[*tracked]bool
	closed bool // acknowledging is over
	wake   chan struct{}
}

func newAckQueue(budget *budget) *ackQueue {
	return &ackQueue{budget: budget, ready: map[*tracked]bool{}, wake: make(chan struct{}, 1)}
}

func (q *ackQueue) push(t *tracked) {
	q.budget.charge(t.cost)
	q.mu.Lock()
	q.queue = append(q.queue, t)
	q.mu.Unlock()
}

// complete marks a batch as fully written.
func (q *ackQueue) complete(t *tracked) {
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.ready[t] = true
	}
	q.mu.Unlock()
	if closed {
		q.budget.release(t.cost)
		return
	}
	q.notify()
}

func (q *ackQueue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next removes and returns the completed batches at the head of the queue.
func (q *ackQueue) next() []*tracked {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.queue) && q.ready[q.queue[n]] {
		delete(q.ready, q.queue[n])
		n++
	}
	if n == 0 {
		return nil
	}
	out := q.queue[:n:n]
	q.queue = append([]*tracked(nil), q.queue[n:]...)
	return out
}

func (q *ackQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0
}

// close abandons what is left: it stays unacknowledged, and its memory is released as it completes.
func (q *ackQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for t := range q.ready {
		q.budget.release(t.cost)
	}
	clear(q.ready)
	q.queue = nil
}
