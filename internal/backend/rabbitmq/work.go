// SPDX-License-Identifier: Apache-2.0

package rabbitmq

import (
	"context"
	"errors"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	deadSuffix           = ".dead"
	defaultDeliveryLimit = 20
)

// WorkQueue is a quorum queue of tasks, with an exchange and a queue for those that nobody can work on.
type WorkQueue struct {
	// Name of the queue.
	Name string
	// DeliveryLimit is the number of redeliveries before a message is dead-lettered; 20 when zero.
	DeliveryLimit int
}

// Dead returns the name of the queue, and of the exchange, of dead letters.
func (w WorkQueue) Dead() string { return w.Name + deadSuffix }

// Ensure makes the queues, or finds them alike; errors as EnsureQueue. A message that is dead is not lost while the dead
// queue is unavailable: the broker keeps it until that one has confirmed it, which needs overflow reject-publish.
func (w WorkQueue) Ensure(ctx context.Context, admin Admin) error {
	if err := ValidName(w.Dead()); err != nil {
		return err
	}
	limit := w.DeliveryLimit
	if limit == 0 {
		limit = defaultDeliveryLimit
	}
	dead := w.Dead()
	if err := admin.EnsureExchange(ctx, Exchange{Name: dead, Durable: true}); err != nil {
		return err
	}
	if err := admin.EnsureQueue(ctx, Queue{Name: dead, Durable: true, Type: "quorum"}); err != nil {
		return err
	}
	if err := admin.BindQueue(ctx, dead, dead, w.Name); err != nil {
		return err
	}
	return admin.EnsureQueue(ctx, Queue{Name: w.Name, Durable: true, Type: "quorum", Arguments: map[string]any{
		"x-delivery-limit": limit, "x-dead-letter-exchange": dead, "x-dead-letter-routing-key": w.Name,
		"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
	}})
}

// Delete deletes the queues with their messages; what is missing counts as done.
func (w WorkQueue) Delete(ctx context.Context, admin Admin) error {
	for _, part := range []func() error{
		func() error { return admin.DeleteQueue(ctx, w.Name) },
		func() error { return admin.DeleteQueue(ctx, w.Dead()) },
		func() error { return admin.DeleteExchange(ctx, w.Dead()) },
	} {
		if err := part(); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
	}
	return nil
}
