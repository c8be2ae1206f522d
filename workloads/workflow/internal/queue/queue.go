// SPDX-License-Identifier: Apache-2.0

// Package queue hands tasks from engine to engine through RabbitMQ: a quorum queue, publishes that are confirmed, deliveries
// that are acknowledged by hand, and a queue for those that nobody can work on. Publishing and consuming have a connection
// each, for a broker under memory pressure reads no more from one that publishes.
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
	// Name is the queue's; "<Name>.dead" is the queue, and the exchange, of its dead letters.
	Name string
	// Prefetch is the number of unacknowledged deliveries of a consumer; 64 when zero.
	Prefetch int
	// DeliveryLimit is the number of redeliveries before a message is dead-lettered; 20 when zero.
	DeliveryLimit int
	// PublishTimeout bounds the wait for a connection, for the end of a memory alarm and for the confirms; 5 s when zero.
	PublishTimeout time.Duration
	Log            *slog.Logger
}

// Queue is safe for concurrent use.
type Queue struct {
	options Options
	out     publisher
}

// New prepares a queue: nothing is dialed before Run or Consume. ErrInvalid names what is wrong with the options.
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

// Dead returns the name of the queue of dead letters.
func (q *Queue) Dead() string { return q.work().Dead() }

func (q *Queue) fail(op string, err error) error { return rabbitmq.Error(q.options.Binding, op, err) }

// work returns the queue with its dead letters, as the operator keeps them.
func (q *Queue) work() rabbitmq.WorkQueue {
	return rabbitmq.WorkQueue{Name: q.options.Name, DeliveryLimit: q.options.DeliveryLimit}
}

// declare makes the queues, or finds them alike.
func (q *Queue) declare(ctx context.Context) error {
	admin, err := rabbitmq.New(q.options.Binding)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // what it did is confirmed
	return q.work().Ensure(ctx, admin)
}

// keep holds a connection by hold, one after the other, until ctx ends: the pause grows as long as none of them was good.
func (q *Queue) keep(ctx context.Context, what string, hold func(context.Context, *amqp.Connection) (good bool, err error)) {
	pause := firstPause
	for ctx.Err() == nil {
		good, err := q.once(ctx, hold)
		if ctx.Err() != nil {
			return
		}
		if good {
			pause = firstPause
		}
		q.options.Log.WarnContext(ctx, "lost the connection to the queue", "what", what, "again", pause.String(), "error", err)
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
	defer conn.CloseDeadline(time.Now().Add(time.Second)) //nolint:errcheck // nothing is in flight that matters
	good, err := hold(ctx, conn)
	return good, q.fail("connection", err)
}

// closed returns an error also where the connection ended in order.
func closed(err *amqp.Error) error {
	if err == nil {
		return amqp.ErrClosed
	}
	return err
}
