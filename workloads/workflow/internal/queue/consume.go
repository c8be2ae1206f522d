// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// tag names the one consumer of a channel.
const tag = "itechsmart"

// Delivery is a message that is ours until it is acknowledged or rejected, or until the connection ends: then it is somebody
// else's. Both may be called more than once: the first call counts.
type Delivery struct {
	Body []byte

	once    sync.Once
	raw     amqp.Delivery
	release func()
}

// Ack tells the broker that the message is done. That it does not get to know is no harm: it delivers the message again.
func (d *Delivery) Ack() { d.end(func() { _ = d.raw.Ack(false) }) }

// Reject makes the message a dead letter.
func (d *Delivery) Reject() { d.end(func() { _ = d.raw.Reject(false) }) }

func (d *Delivery) end(how func()) {
	d.once.Do(func() {
		how()
		d.release()
	})
}

// consumer outlives its connections: what came over one that was lost still counts.
type consumer struct {
	handle func(*Delivery)
	slots  chan struct{} // one for each delivery that has not ended
	group  sync.WaitGroup
}

// Consume gives deliveries to handle, each in a goroutine of its own, at most Prefetch at a time that have not ended, until
// ctx ends. It returns when the last handle has. A delivery that handle left alone goes back to the queue, when the
// connection ends.
func (q *Queue) Consume(ctx context.Context, handle func(*Delivery)) {
	c := &consumer{handle: handle, slots: make(chan struct{}, q.options.Prefetch)}
	q.keep(ctx, "consume", func(ctx context.Context, conn *amqp.Connection) (bool, error) {
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
		_ = channel.Cancel(tag, false) // no more of them; those that nobody took go back with the channel
		c.group.Wait()                 // the channel is still needed for what they acknowledge
		return true, nil
	})
	c.group.Wait()
}

// take returns nil when ctx ended.
func (c *consumer) take(ctx context.Context, deliveries <-chan amqp.Delivery, ends <-chan *amqp.Error) error {
	for {
		var raw amqp.Delivery
		select {
		case <-ctx.Done():
			return nil
		case err := <-ends:
			return closed(err)
		case next, ok := <-deliveries:
			if !ok { // the broker canceled the consumer, for its queue is gone, or the channel ended
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
