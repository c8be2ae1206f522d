// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// maxChannels bounds the concurrent messages: each uses its own channel, on which the broker confirms or returns it.
const maxChannels = 16

const (
	closeTime = 5 * time.Second
	// confirmTime is the timeout of a confirmation. A queue that is recovering from a crash may never confirm messages that it gets
	// too early.
	confirmTime = 10 * time.Second
)

type rabbitBroker struct {
	binding backend.Binding
	slots   chan struct{}

	dialing chan struct{} // held while dialing
	mu      sync.Mutex
	conn    *amqp.Connection
	idle    []*channel
	closed  bool
}

type channel struct {
	*amqp.Channel
	returned chan amqp.Return
	ended    chan *amqp.Error
}

func newRabbit(b backend.Binding) (broker, error) {
	if err := b.Require("host", "port", "username", "password"); err != nil {
		return nil, err
	}
	if _, err := b.TLSConfig(); err != nil {
		return nil, err
	}
	return &rabbitBroker{binding: b, slots: make(chan struct{}, maxChannels), dialing: make(chan struct{}, 1)}, nil
}

func (r *rabbitBroker) send(ctx context.Context, m message) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := r.connection(ctx)
	if err != nil {
		return err
	}
	// The library ignores the context except for confirmations: a call that outlives it is abandoned.
	result := make(chan error, 1)
	go func() { result <- r.publish(ctx, conn, m) }()
	select {
	case err = <-result:
	case <-ctx.Done():
		return ctx.Err()
	}
	return rabbitmq.Error(r.binding, "publish", err)
}

func (r *rabbitBroker) connection(ctx context.Context) (*amqp.Connection, error) {
	select {
	case r.dialing <- struct{}{}:
		defer func() { <-r.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	conn, closed := r.conn, r.closed
	r.mu.Unlock()
	if closed {
		return nil, rabbitmq.Error(r.binding, "publish", net.ErrClosed)
	}
	if conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := rabbitmq.Dial(ctx, r.binding)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return nil, rabbitmq.Error(r.binding, "publish", net.ErrClosed)
	}
	r.conn, r.idle = conn, nil
	return conn, nil
}

// publish sends and waits for the confirmation. A channel is reused only after a success or a return.
func (r *rabbitBroker) publish(ctx context.Context, conn *amqp.Connection, m message) error {
	c, err := r.channel(conn)
	if err != nil {
		return err
	}
	publishing := amqp.Publishing{Headers: amqp.Table{}, Body: m.body, DeliveryMode: amqp.Persistent, MessageId: m.headers[keyHeader], ContentType: "text/plain"}
	if m.isJSON {
		publishing.ContentType = "application/json"
	}
	for name, value := range m.headers {
		publishing.Headers[name] = value
	}
	confirmation, err := c.PublishWithDeferredConfirmWithContext(ctx, m.exchange, m.key, true, false, publishing)
	if err != nil {
		_ = c.Close()
		return err
	}
	confirmed, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	acked, err := confirmation.WaitContext(confirmed)
	if err != nil {
		_ = c.Close()
		return err
	}
	select {
	case _, ok := <-c.returned: // sent before the confirmation
		if !ok {
			return c.reason()
		}
		r.put(conn, c)
		return r.binding.Error("exchange "+quote(m.exchange)+", key "+quote(m.key), backend.ErrNotFound, errUnroutable)
	default:
	}
	if !acked {
		reason := c.reason()
		_ = c.Close()
		return reason
	}
	r.put(conn, c)
	return nil
}

// channel returns an idle channel or a new one.
func (r *rabbitBroker) channel(conn *amqp.Connection) (*channel, error) {
	r.mu.Lock()
	for n := len(r.idle); n > 0 && r.conn == conn; n = len(r.idle) {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		if !c.IsClosed() {
			r.mu.Unlock()
			return c, nil
		}
	}
	r.mu.Unlock()
	made, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := made.Confirm(false); err != nil {
		_ = made.Close()
		return nil, err
	}
	return &channel{Channel: made, returned: made.NotifyReturn(make(chan amqp.Return, 1)), ended: made.NotifyClose(make(chan *amqp.Error, 1))}, nil
}

// put returns a channel to the idle ones.
func (r *rabbitBroker) put(conn *amqp.Connection, c *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == conn && !r.closed && !c.IsClosed() {
		r.idle = append(r.idle, c)
	}
}

// reason returns why a message was not confirmed: the broker closed the channel, or rejected the message.
func (c *channel) reason() error {
	select {
	case reason := <-c.ended:
		if reason != nil {
			return reason
		}
	default:
	}
	return errors.New("the broker rejected the message")
}

func quote(name string) string { return strconv.Quote(name) }

func (r *rabbitBroker) close() {
	r.mu.Lock()
	conn := r.conn
	r.closed, r.idle = true, nil
	r.mu.Unlock()
	if conn != nil {
		_ = conn.CloseDeadline(time.Now().Add(closeTime))
	}
}
