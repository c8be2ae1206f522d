// SPDX-License-Identifier: Apache-2.0

// Package queue passes tasks between engines through RabbitMQ: a quorum queue with publisher confirms, manual acknowledgments and a
// dead-letter queue. Publishing and consuming use separate connections, since a broker under memory pressure stops reading from
// connections that publish.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

const (
	// DefaultPrefetch is the number of unacknowledged deliveries of a consumer.
	DefaultPrefetch       = 64
	defaultPublishTimeout = 5 * time.Second

	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
)

// Options configure a Queue.
type Options struct {
	Binding backend.Binding
	// Name is the name of the queue; "<Name>.dead" is its dead-letter queue and exchange.
	Name string
	// Prefetch is the number of unacknowledged deliveries of a consumer; the default is 64.
	Prefetch int
	// DeliveryLimit is the number of redeliveries before a message is dead-lettered; the default is 20.
	DeliveryLimit int
	// PublishTimeout bounds the wait for a connection, for the end of a memory alarm and for confirms; the default is 5 s.
	PublishTimeout time.Duration
	Log            *slog.Logger
}

// Queue is safe for concurrent use.
type Queue struct {
	options Options
	out     publisher
}

// New returns a queue that connects in Run and Consume. It returns backend.ErrInvalid for invalid options.
func New(o Options) (*Queue, error) {
	if err := errors.Join(rabbitmq.ValidName(rabbitmq.WorkQueue{Name: o.Name}.Dead()), o.Binding.Require("host", "port", "username", "password")); err != nil {
		return nil, fmt.Errorf("queue %s: %w", o.Name, err)
	}
	if o.Prefetch == 0 {
		o.Prefetch = DefaultPrefetch
	}
	if o.PublishTimeout == 0 {
		o.PublishTimeout = defaultPublishTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{options: o}
	q.out.changed = make(chan struct{})
	return q, nil
}

// Dead returns the name of the dead-letter queue.
func (q *Queue) Dead() string { return q.work().Dead() }

func (q *Queue) fail(op string, err error) error { return rabbitmq.Error(q.options.Binding, op, err) }

// work returns the queue with its dead-letter queue, as the operator declares it.
func (q *Queue) work() rabbitmq.WorkQueue {
	return rabbitmq.WorkQueue{Name: q.options.Name, DeliveryLimit: q.options.DeliveryLimit}
}

// declare creates the queues if they do not exist.
func (q *Queue) declare(ctx context.Context) error {
	admin, err := rabbitmq.New(q.options.Binding)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // its changes are confirmed
	return q.work().Ensure(ctx, admin)
}

// maintain dials connections and passes each to hold until ctx is done. The pause between them grows until hold reports a good one.
func (q *Queue) maintain(ctx context.Context, what string, hold func(context.Context, *amqp.Connection) (good bool, err error)) {
	pause := firstPause
	for ctx.Err() == nil {
		good, err := q.once(ctx, hold)
		if ctx.Err() != nil {
			return
		}
		if good {
			pause = firstPause
		}
		q.options.Log.WarnContext(ctx, "lost the connection to the queue; will reconnect", "what", what, "in", pause.String(), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, lastPause)
	}
}

func (q *Queue) once(ctx context.Context, hold func(context.Context, *amqp.Connection) (bool, error)) (bool, error) {
	if err := q.declare(ctx); err != nil {
		return false, err
	}
	conn, err := rabbitmq.Dial(ctx, q.options.Binding)
	if err != nil {
		return false, err
	}
	defer conn.CloseDeadline(time.Now().Add(time.Second)) //nolint:errcheck // nothing important is in flight
	good, err := hold(ctx, conn)
	return good, q.fail("connection", err)
}

// closed returns an error even if the connection was closed gracefully.
func closed(err *amqp.Error) error {
	if err == nil {
		return amqp.ErrClosed
	}
	return err
}
