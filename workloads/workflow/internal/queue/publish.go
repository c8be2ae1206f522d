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

// maxBatch bounds the unconfirmed messages, and so how many of them the broker can return before returned is read.
const maxBatch = 512

var (
	errDisconnected = errors.New("not connected to the broker")
	errBlocked      = errors.New("the broker blocks publishers: it is short of memory or disk")
	errRefused      = errors.New("the broker rejected a message")
	errReturned     = errors.New("the queue was deleted")
)

// publisher is the state of the publishing connection.
type publisher struct {
	mu      sync.Mutex
	link    *link
	blocked bool
	changed chan struct{} // closed when link or blocked changes

	turn sync.Mutex // serializes Publish
}

// link is a channel whose publishes are confirmed.
type link struct {
	conn     *amqp.Connection
	channel  *amqp.Channel
	returned chan amqp.Return // has room for a batch, so that it never blocks the connection's reader
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
		return nil, p.changed, errDisconnected
	case p.blocked:
		return p.link, p.changed, errBlocked
	}
	return p.link, p.changed, nil
}

// Run maintains the connection for Publish until ctx is done.
func (q *Queue) Run(ctx context.Context) {
	q.maintain(ctx, "publish", func(ctx context.Context, conn *amqp.Connection) (bool, error) {
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

// Ready waits until messages can be published. It returns backend.ErrUnavailable after PublishTimeout.
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

// Publish returns nil when the broker has confirmed all messages. After an error it may have any of them. Publish returns
// backend.ErrUnavailable after PublishTimeout, which includes waiting for a connection and for the end of a memory alarm.
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
		// The library may hang in a write without a context. Closing the connection abandons the messages.
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	if _, _, state := q.out.state(); !errors.Is(state, errBlocked) {
		go l.conn.CloseDeadline(time.Now().Add(time.Second)) //nolint:errcheck // Run opens a new one
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
		acked, err := confirm.WaitContext(ctx)
		if err != nil {
			return err
		}
		if !acked {
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
