// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

const (
	closeTime = 2 * time.Second
	beginTime = 10 * time.Second
)

var errSlow = errors.New("the broker does not answer")

// subscribe consumes a queue on a new channel.
func subscribe(conn *amqp.Connection, queue string, inHand int) (<-chan amqp.Delivery, <-chan *amqp.Error, error) {
	channel, err := conn.Channel()
	if err != nil {
		return nil, nil, err
	}
	if err := channel.Qos(inHand, 0, false); err != nil {
		return nil, nil, err
	}
	ends := channel.NotifyClose(make(chan *amqp.Error, 1))
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	return deliveries, ends, err
}

// rabbit consumes a queue. It acknowledges a message when its run is durable. It rejects a message that cannot start a run, which
// dead-letters it if the queue is configured so.
func (t *Triggers) rabbit(ctx context.Context, s source, good func()) error {
	fail := func(err error) error { return rabbitmq.Error(s.binding, "queue "+s.name, err) }
	conn, err := rabbitmq.Dial(ctx, s.binding)
	if err != nil {
		return err
	}
	defer conn.CloseDeadline(time.Now().Add(closeTime)) //nolint:errcheck // unacknowledged messages are redelivered
	// A queue that is recovering from a crash may never answer early requests, and the library has no other deadline.
	late := time.AfterFunc(beginTime, func() { _ = conn.CloseDeadline(time.Now()) })
	deliveries, ends, err := subscribe(conn, s.name, s.inHand())
	if !late.Stop() && err == nil {
		err = errSlow
	}
	if err != nil {
		return fail(err)
	}
	good()
	handling, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ends:
			if err == nil {
				err = amqp.ErrClosed
			}
			return fail(err)
		case d, ok := <-deliveries:
			if !ok { // the broker canceled the consumer, because its queue was deleted, or the channel closed
				return fmt.Errorf("queue %s: the broker canceled the consumer; does the queue still exist?", s.name)
			}
			group.Go(func() { t.delivery(handling, s, d) })
		}
	}
}

// delivery starts the run of a message and acknowledges or rejects it. If ctx is done first, the broker will redeliver it.
func (t *Triggers) delivery(ctx context.Context, s source, d amqp.Delivery) {
	if int64(len(d.Body)) > s.maxPayload {
		t.options.Launcher.Reject(s.workflow, s.trigger)
		_ = d.Reject(false)
		return
	}
	body, err := payload(d.Body, d.ContentType)
	if err != nil {
		t.options.Launcher.Reject(s.workflow, s.trigger)
		_ = d.Reject(false)
		return
	}
	c := event{body: body, headers: rabbitHeaders(d)}
	if d.MessageId != "" {
		c.key = "message/" + d.MessageId
	}
	switch started, err := t.fire(ctx, s.id, c); {
	case err != nil:
	case started:
		_ = d.Ack(false) // if this is lost, the broker redelivers the message
	default:
		_ = d.Reject(false)
	}
}

// rabbitHeaders returns the message's headers and properties.
func rabbitHeaders(d amqp.Delivery) map[string]string {
	out := map[string]string{}
	for name, value := range d.Headers {
		switch value.(type) {
		case string, bool, int8, int16, int32, int64, int, uint8, uint16, uint32, float32, float64:
			out[name] = strings.ToValidUTF8(fmt.Sprint(value), "\uFFFD")
		}
	}
	for name, value := range map[string]string{
		"exchange": d.Exchange, "routing-key": d.RoutingKey, "message-id": d.MessageId, "content-type": d.ContentType, "correlation-id": d.CorrelationId,
	} {
		if value != "" {
			out[name] = strings.ToValidUTF8(value, "\uFFFD")
		}
	}
	return out
}
