// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	// maxRelay bounds the messages in memory; the sweeper publishes the rest from the outbox.
	maxRelay = 16 << 10
	// maxPublish bounds one batch.
	maxPublish = 512
	// outboxAge is the age from which on the sweeper publishes a message of the outbox.
	outboxAge = 2 * time.Second
	// sweepOutbox is the interval at which the sweeper reads the outbox.
	sweepOutbox = time.Second
)

// relay holds committed messages that are to be published at once.
type relay struct {
	mu      sync.Mutex
	waiting []store.Message
	done    []int64
	signal  chan struct{} // buffered signal: there are messages to publish
	sent    chan struct{} // buffered signal: there are messages to remove from the outbox
}

// add never blocks; it drops messages that do not fit.
func (r *relay) add(messages []store.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting)+len(messages) > maxRelay {
		return
	}
	r.waiting = append(r.waiting, messages...)
	notify(r.signal)
}

func (r *relay) take() []store.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), maxPublish)
	out := r.waiting[:n:n]
	r.waiting = r.waiting[n:]
	if len(r.waiting) > 0 {
		notify(r.signal)
	}
	return out
}

func (r *relay) published(messages []store.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		r.done = append(r.done, m.ID)
	}
	notify(r.sent)
}

func (r *relay) takeDone() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.done
	r.done = nil
	return out
}

func notify(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// publish publishes committed messages. Those that it cannot publish stay in the outbox.
func (e *Engine) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.relay.signal:
		}
		if messages := e.relay.take(); len(messages) > 0 {
			_ = e.send(ctx, messages) // the queue logs the error, and the sweeper retries
		}
	}
}

func (e *Engine) send(ctx context.Context, messages []store.Message) error {
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

// remove deletes published messages from the outbox. It is not urgent: a message that is removed too late is published twice.
func (e *Engine) remove(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.relay.sent:
		}
		if !pause(ctx, 0) { // collect a batch
			return
		}
		ids := e.relay.takeDone()
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

// sweepUnpublished publishes messages that are left in the outbox.
func (e *Engine) sweepUnpublished(ctx context.Context) error {
	for {
		messages, err := e.store.Unpublished(ctx, outboxAge, maxPublish)
		if err != nil || len(messages) == 0 {
			return err
		}
		if err := e.send(ctx, messages); err != nil {
			return err
		}
		ids := e.relay.takeDone()
		if err := e.store.Published(ctx, ids); err != nil {
			return err
		}
		if len(messages) < maxPublish {
			return nil
		}
	}
}
