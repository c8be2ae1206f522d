// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	// maxRelay bounds what waits in memory for the queue; the rest is in the outbox, for the sweeper.
	maxRelay = 16 << 10
	// maxPublish bounds what is published at a time.
	maxPublish = 512
	// stayed is the age from which on what is in the outbox is the sweeper's.
	stayed = 2 * time.Second
	// sweepOutbox is the polling interval.
	sweepOutbox = time.Second
)

// relay publishes what was committed, right after that.
type relay struct {
	mu      sync.Mutex
	waiting []store.Message
	gone    []int64
	signal  chan struct{} // holds one: there is something to publish
	sent    chan struct{} // holds one: there is something to remove
}

// add never waits.
func (r *relay) add(messages []store.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting)+len(messages) > maxRelay {
		return
	}
	r.waiting = append(r.waiting, messages...)
	ring(r.signal)
}

func (r *relay) take() []store.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), maxPublish)
	out := r.waiting[:n:n]
	r.waiting = r.waiting[n:]
	if len(r.waiting) > 0 {
		ring(r.signal)
	}
	return out
}

func (r *relay) published(messages []store.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		r.gone = append(r.gone, m.ID)
	}
	ring(r.sent)
}

func (r *relay) takeGone() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.gone
	r.gone = nil
	return out
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// publish hands over what is committed. What it cannot hand over stays in the outbox.
func (e *Engine) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.relay.signal:
		}
		if messages := e.relay.take(); len(messages) > 0 {
			_ = e.hand(ctx, messages) // the queue says what is wrong, and the sweeper tries again
		}
	}
}

func (e *Engine) hand(ctx context.Context, messages []store.Message) error {
	bodies := make([][]byte, len(messages))
	for i, m := range messages {
		bodies[i] = []byte(m.Body)
	}
	if err := e.options.Queue.Publish(ctx, bodies); err != nil {
		return err
	}
	e.relay.published(messages)
	return nil
}

// remove empties the outbox of what the queue has. It is not urgent: what is removed too late is published twice.
func (e *Engine) remove(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.relay.sent:
		}
		if !pause(ctx, 0) { // more of them together
			return
		}
		ids := e.relay.takeGone()
		for n := 0; len(ids) > 0; n++ {
			if err := e.store.Published(ctx, ids); err == nil {
				break
			}
			if !pause(ctx, n) {
				return
			}
		}
	}
}

// sweepUnpublished publishes what stayed in the outbox.
func (e *Engine) sweepUnpublished(ctx context.Context) error {
	for {
		messages, err := e.store.Unpublished(ctx, stayed, maxPublish)
		if err != nil || len(messages) == 0 {
			return err
		}
		if err := e.hand(ctx, messages); err != nil {
			return err
		}
		ids := e.relay.takeGone()
		if err := e.store.Published(ctx, ids); err != nil {
			return err
		}
		if len(messages) < maxPublish {
			return nil
		}
	}
}
