// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// RabbitMQ runs the suite of rabbitmq.Admin. publish adds n messages to a queue and returns once they are
// there.
func RabbitMQ(t *testing.T, open func(testing.TB) rabbitmq.Admin, publish func(t testing.TB, queue string, n int)) {
	s := rabbitmqSuite{admin: open(t), publish: publish}
	t.Cleanup(func() { Must(t, s.admin.Close()) })
	for name, test := range map[string]func(*testing.T){
		"Ping": s.ping, "Queue": s.queue, "QueueConflict": s.queueConflict, "Exchange": s.exchange,
		"WorkQueue": s.workQueue, "Binding": s.binding, "Missing": s.missing, "Invalid": s.invalid, "Concurrent": s.concurrent,
	} {
		t.Run(name, test)
	}
}

type rabbitmqSuite struct {
	admin   rabbitmq.Admin
	publish func(t testing.TB, queue string, n int)
}

func (s rabbitmqSuite) ping(t *testing.T) {
	version, err := s.admin.Ping(Context(t))
	Must(t, err)
	if strings.Count(version, ".") < 2 {
		t.Errorf("version %q, want three numbers", version)
	}
	Ended(t, func(ctx context.Context) error { _, err := s.admin.Ping(ctx); return err })
	_, err = s.admin.Ping(Context(t))
	Must(t, err) // an ended call must not break the next
}

func (s rabbitmqSuite) queue(t *testing.T) {
	ctx := Context(t)
	for _, queue := range []rabbitmq.Queue{
		{Name: Name("transient")},
		{Name: Name("classic"), Durable: true, Type: "classic"},
		{Name: Name("quorum"), Durable: true, Type: "quorum", Arguments: map[string]any{"x-delivery-limit": 5}},
		{Name: Name("ttl"), Durable: true, Arguments: map[string]any{"x-message-ttl": float64(60000), "x-dead-letter-exchange": "dead"}},
	} {
		Must(t, s.admin.EnsureQueue(ctx, queue))
		Must(t, s.admin.EnsureQueue(ctx, queue)) // a second call changes nothing
		s.publish(t, queue.Name, 3)
		got, err := s.admin.Queue(ctx, queue.Name)
		Must(t, err)
		if got.Name != queue.Name || got.Messages != 3 || got.Consumers != 0 {
			t.Errorf("got %+v, want 3 messages and no consumer", got)
		}
		Must(t, s.admin.DeleteQueue(ctx, queue.Name))
		_, err = s.admin.Queue(ctx, queue.Name)
		WantIs(t, err, backend.ErrNotFound)
	}
}

func (s rabbitmqSuite) workQueue(t *testing.T) {
	ctx := Context(t)
	queue := rabbitmq.WorkQueue{Name: Name("tasks")}
	Must(t, queue.Ensure(ctx, s.admin))
	Must(t, queue.Ensure(ctx, s.admin)) // a second call changes nothing
	Must(t, s.admin.DeleteExchange(ctx, queue.Dead()))
	Must(t, queue.Ensure(ctx, s.admin)) // missing parts are created
	Must(t, s.admin.Exchange(ctx, queue.Dead()))
	WantIs(t, rabbitmq.WorkQueue{Name: queue.Name, DeliveryLimit: 3}.Ensure(ctx, s.admin), backend.ErrExists)
	WantIs(t, rabbitmq.WorkQueue{Name: strings.Repeat("a", 253)}.Ensure(ctx, s.admin), backend.ErrInvalid)
	Must(t, queue.Delete(ctx, s.admin))
	Must(t, queue.Delete(ctx, s.admin)) // a missing queue counts as deleted
	for _, name := range []string{queue.Name, queue.Dead()} {
		_, err := s.admin.Queue(ctx, name)
		WantIs(t, err, backend.ErrNotFound)
	}
}

func (s rabbitmqSuite) queueConflict(t *testing.T) {
	ctx := Context(t)
	queue := rabbitmq.Queue{Name: Name("queue"), Durable: true, Type: "quorum"}
	Must(t, s.admin.EnsureQueue(ctx, queue))
	defer func() { Must(t, s.admin.DeleteQueue(ctx, queue.Name)) }()
	for name, other := range map[string]rabbitmq.Queue{
		"type":      {Name: queue.Name, Durable: true, Type: "classic"},
		"durable":   {Name: queue.Name},
		"arguments": {Name: queue.Name, Durable: true, Type: "quorum", Arguments: map[string]any{"x-max-length": 10}},
	} {
		if err := s.admin.EnsureQueue(ctx, other); !errors.Is(err, backend.ErrExists) {
			t.Errorf("%s: got %v, want ErrExists", name, err)
		}
	}
}

func (s rabbitmqSuite) exchange(t *testing.T) {
	ctx := Context(t)
	for _, kind := range []string{"", "fanout", "topic", "headers"} {
		exchange := rabbitmq.Exchange{Name: Name("exchange"), Durable: true, Type: kind}
		Must(t, s.admin.EnsureExchange(ctx, exchange))
		Must(t, s.admin.EnsureExchange(ctx, exchange))
		Must(t, s.admin.Exchange(ctx, exchange.Name))
		other := exchange
		other.Durable = false
		WantIs(t, s.admin.EnsureExchange(ctx, other), backend.ErrExists)
		Must(t, s.admin.DeleteExchange(ctx, exchange.Name))
		WantIs(t, s.admin.Exchange(ctx, exchange.Name), backend.ErrNotFound)
	}
}

func (s rabbitmqSuite) binding(t *testing.T) {
	ctx := Context(t)
	queue, exchange := Name("queue"), Name("exchange")
	Must(t, s.admin.EnsureQueue(ctx, rabbitmq.Queue{Name: queue, Durable: true}))
	WantIs(t, s.admin.BindQueue(ctx, queue, exchange, "key"), backend.ErrNotFound)
	Must(t, s.admin.EnsureExchange(ctx, rabbitmq.Exchange{Name: exchange, Durable: true}))
	WantIs(t, s.admin.BindQueue(ctx, Name("missing"), exchange, "key"), backend.ErrNotFound)
	Must(t, s.admin.BindQueue(ctx, queue, exchange, "key"))
	Must(t, s.admin.BindQueue(ctx, queue, exchange, "key"))
	Must(t, s.admin.BindQueue(ctx, queue, "amq.topic", "a.*"))
	Must(t, s.admin.UnbindQueue(ctx, queue, exchange, "key"))
	Must(t, s.admin.UnbindQueue(ctx, queue, exchange, "key"))
	Must(t, s.admin.DeleteExchange(ctx, exchange))
	Must(t, s.admin.DeleteQueue(ctx, queue))
}

func (s rabbitmqSuite) missing(t *testing.T) {
	ctx, name := Context(t), Name("missing")
	_, err := s.admin.Queue(ctx, name)
	WantIs(t, err, backend.ErrNotFound)
	WantIs(t, s.admin.DeleteQueue(ctx, name), backend.ErrNotFound)
	WantIs(t, s.admin.Exchange(ctx, name), backend.ErrNotFound)
	WantIs(t, s.admin.DeleteExchange(ctx, name), backend.ErrNotFound)
}

func (s rabbitmqSuite) invalid(t *testing.T) {
	ctx := Context(t)
	for name, queue := range map[string]rabbitmq.Queue{
		"no name":          {},
		"reserved":         {Name: "amq.mine", Durable: true},
		"long":             {Name: strings.Repeat("a", 256), Durable: true},
		"type":             {Name: Name("q"), Durable: true, Type: "fast"},
		"transient quorum": {Name: Name("q"), Type: "quorum"},
		"type twice":       {Name: Name("q"), Durable: true, Arguments: map[string]any{"x-queue-type": "quorum"}},
		"argument":         {Name: Name("q"), Durable: true, Arguments: map[string]any{"x-message-ttl": struct{}{}}},
	} {
		if err := s.admin.EnsureQueue(ctx, queue); !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	err := s.admin.EnsureExchange(ctx, rabbitmq.Exchange{Name: Name("e"), Type: "no-such-type"})
	WantIs(t, err, backend.ErrInvalid)
}

func (s rabbitmqSuite) concurrent(t *testing.T) {
	ctx := Context(t)
	queue := rabbitmq.Queue{Name: Name("queue"), Durable: true}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := s.admin.EnsureQueue(ctx, queue); err != nil {
				t.Error(err)
			}
			if _, err := s.admin.Queue(ctx, Name("missing")); !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		})
	}
	group.Wait()
	Must(t, s.admin.DeleteQueue(ctx, queue.Name))
}
