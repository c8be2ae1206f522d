// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
)

// maxBatch bounds what is on its way to the broker at a time, and thus what it can return before we look.
const maxBatch = 512

var (
	errAway     = errors.New("there is no connection to the broker")
	errBlocked  = errors.New("the broker takes no messages now: it is short of memory or disk")
	errRefused  = errors.New("the broker did not take a message")
	errReturned = errors.New("the queue is gone")
)

// publisher is the way to the broker, while there is one.
type publisher struct {
	mu      sync.Mutex
	link    *link
	blocked bool
	changed chan struct{} // closed when either of them changes

	turn sync.Mutex // held by the one who publishes
}

// link is a channel whose publishes are confirmed.
type link struct {
	conn     *amqp.Connection
	channel  *amqp.Channel
	returned chan amqp.Return // has room for a batch: the reader of the connection is never held up
}

func (p *publisher) set(l *link, blocked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link, p.blocked = l, blocked
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *publisher) state() (*link, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.link == nil:
		return nil, p.changed, errAway
	case p.blocked:
		return p.link, p.changed, errBlocked
	}
	return p.link, p.changed, nil
}

// Run keeps the connection that Publish uses until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	q.keep(ctx, "publish", func(ctx context.Context, conn *amqp.Connection) (bool, error) {
		channel, err := conn.Channel()
		if err != nil {
			return false, err
		}
		if err := channel.Confirm(false); err != nil {
			return false, err
		}
		l := &link{conn: conn, channel: channel, returned: make(chan amqp.Return, maxBatch)}
		channel.NotifyReturn(l.returned)
		blockings := conn.NotifyBlocked(make(chan amqp.Blocking, 8))
		ends := channel.NotifyClose(make(chan *amqp.Error, 1))
		q.out.set(l, false)
		defer q.out.set(nil, false)
		for {
			select {
			case <-ctx.Done():
				return true, nil
			case err := <-ends:
				return true, closed(err)
			case b, ok := <-blockings:
				if !ok {
					return true, amqp.ErrClosed
				}
				q.out.set(l, b.Active)
			}
		}
	})
}

// Ready waits until messages can be published, at most for PublishTimeout; then it is ErrUnavailable.
func (q *Queue) Ready(ctx context.Context) error {
	_, _, err := q.out.state()
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.options.PublishTimeout)
	defer cancel()
	_, err = q.await(ctx)
	return err
}

func (q *Queue) await(ctx context.Context) (*link, error) {
	for {
		l, changed, err := q.out.state()
		if err == nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("rabbitmq: publish: %w: %w", backend.ErrUnavailable, err)
		}
	}
}

// Publish returns nil when the broker has all messages on disk. After an error it may have any of them. It takes PublishTimeout at
// most, waits for a connection and for the end of a memory alarm included; then it is ErrUnavailable.
func (q *Queue) Publish(ctx context.Context, bodies [][]byte) error {
	q.out.turn.Lock()
	defer q.out.turn.Unlock()
	for len(bodies) > 0 {
		n := min(len(bodies), maxBatch)
		if err := q.publish(ctx, bodies[:n]); err != nil {
			return err
		}
		bodies = bodies[n:]
	}
	return nil
}

func (q *Queue) publish(ctx context.Context, bodies [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, q.options.PublishTimeout)
	defer cancel()
	l, err := q.await(ctx)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() { result <- l.publish(ctx, q.options.Name, bodies) }()
	select {
	case err = <-result:
	case <-ctx.Done():
		// The library may hang in a write, without a context. What is on its way is given up with the connection.
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	if _, _, state := q.out.state(); !errors.Is(state, errBlocked) {
		go l.conn.CloseDeadline(time.Now().Add(time.Second)) //nolint:errcheck // Run makes a new one
	}
	return q.fail("publish", err)
}

func (l *link) publish(ctx context.Context, queue string, bodies [][]byte) error {
	confirms := make([]*amqp.DeferredConfirmation, len(bodies))
	for i, body := range bodies {
		var err error
		confirms[i], err = l.channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{
			ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body,
		})
		if err != nil {
			return err
		}
	}
	for _, confirm := range confirms {
		taken, err := confirm.WaitContext(ctx)
		if err != nil {
			return err
		}
		if !taken {
			return errRefused
		}
	}
	// The broker returns a message before it confirms it.
	select {
	case <-l.returned:
		return errReturned
	default:
		return nil
	}
}

// Connected reports whether messages can be published now.
func (q *Queue) Connected() bool {
	_, _, err := q.out.state()
	return err == nil
}
