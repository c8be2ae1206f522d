// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// tag is the consumer tag; each channel has one consumer.
const tag = "itechsmart"

// Delivery is a message that is ours until it is acknowledged or rejected, or until the connection closes and the broker redelivers
// it. Only the first call of Ack or Reject has an effect.
type Delivery struct {
	Body []byte

	once    sync.Once
	raw     amqp.Delivery
	release func()
}

// Ack acknowledges the message. If the acknowledgment is lost, the broker delivers the message again.
func (d *Delivery) Ack() { d.end(func() { _ = d.raw.Ack(false) }) }

// Reject dead-letters the message.
func (d *Delivery) Reject() { d.end(func() { _ = d.raw.Reject(false) }) }

func (d *Delivery) end(how func()) {
	d.once.Do(func() {
		how()
		d.release()
	})
}

// consumer outlives its connections: deliveries of a lost connection still occupy slots.
type consumer struct {
	handle func(*Delivery)
	slots  chan struct{} // one per unfinished delivery
	group  sync.WaitGroup
}

// Consume calls handle for each delivery, in its own goroutine, with at most Prefetch unfinished deliveries at a time, until ctx is
// done. It returns when the last handle has returned. A delivery that handle neither acknowledges nor rejects returns to the queue
// when the connection closes.
func (q *Queue) Consume(ctx context.Context, handle func(*Delivery)) {
	c := &consumer{handle: handle, slots: make(chan struct{}, q.options.Prefetch)}
	q.maintain(ctx, "consume", func(ctx context.Context, conn *amqp.Connection) (bool, error) {
		channel, err := conn.Channel()
		if err != nil {
			return false, err
		}
		if err := channel.Qos(q.options.Prefetch, 0, false); err != nil {
			return false, err
		}
		ends := channel.NotifyClose(make(chan *amqp.Error, 1))
		deliveries, err := channel.Consume(q.options.Name, tag, false, false, false, false, nil)
		if err != nil {
			return false, err
		}
		if err := c.take(ctx, deliveries, ends); err != nil {
			return true, err
		}
		_ = channel.Cancel(tag, false) // stops new deliveries; unhandled ones return to the queue with the channel
		c.group.Wait()                 // handlers still need the channel to acknowledge
		return true, nil
	})
	c.group.Wait()
}

// take returns nil when ctx is done.
func (c *consumer) take(ctx context.Context, deliveries <-chan amqp.Delivery, ends <-chan *amqp.Error) error {
	for {
		var raw amqp.Delivery
		select {
		case <-ctx.Done():
			return nil
		case err := <-ends:
			return closed(err)
		case next, ok := <-deliveries:
			if !ok { // the broker canceled the consumer, because its queue was deleted, or the channel closed
				return errReturned
			}
			raw = next
		}
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		case err := <-ends:
			return closed(err)
		}
		d := &Delivery{Body: raw.Body, raw: raw, release: func() { <-c.slots }}
		c.group.Go(func() {
			defer d.end(func() {})
			c.handle(d)
		})
	}
}
