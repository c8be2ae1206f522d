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

// WorkQueue is a quorum queue of tasks, with a dead-letter exchange and queue.
type WorkQueue struct {
	// Name of the queue.
	Name string
	// DeliveryLimit is how often the broker redelivers a message before it is dead-lettered; 20 if zero.
	DeliveryLimit int
}

// Dead returns the name of the dead-letter queue and exchange.
func (w WorkQueue) Dead() string { return w.Name + deadSuffix }

// Ensure creates missing queues; errors as EnsureQueue. A dead letter is not lost while the dead-letter queue
// is unavailable: the broker keeps it until that one has confirmed it, which needs overflow reject-publish.
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

// Delete deletes the queues with their messages; a missing one counts as deleted.
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
