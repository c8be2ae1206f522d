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

// subscribe consumes a queue on a channel of its own.
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

// rabbit consumes a queue. A message is acknowledged when its run is durable; one that cannot start a run is rejected, so that
// it becomes a dead letter where its queue has such.
func (t *Triggers) rabbit(ctx context.Context, s source, good func()) error {
	fail := func(err error) error { return rabbitmq.Error(s.binding, "queue "+s.name, err) }
	conn, err := rabbitmq.Dial(ctx, s.binding)
	if err != nil {
		return err
	}
	defer conn.CloseDeadline(time.Now().Add(closeTime)) //nolint:errcheck // what is not acknowledged comes again
	// A queue that comes back after a crash may never answer who asks too early, and the library knows no deadline but this one.
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
			if !ok { // the broker canceled the consumer, for its queue is gone, or the channel ended
				return fmt.Errorf("queue %s: the broker ended the consumer: is the queue still there?", s.name)
			}
			group.Go(func() { t.delivery(handling, s, d) })
		}
	}
}

// delivery ends with an answer to the broker, or with ctx: then it delivers the message again.
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
	c := came{body: body, headers: rabbitHeaders(d)}
	if d.MessageId != "" {
		c.key = "message/" + d.MessageId
	}
	switch started, err := t.fire(ctx, s.id, c); {
	case err != nil:
	case started:
		_ = d.Ack(false) // that the broker does not get to know is no harm: it delivers the message again
	default:
		_ = d.Reject(false)
	}
}

// rabbitHeaders returns the message's own, and its properties.
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
