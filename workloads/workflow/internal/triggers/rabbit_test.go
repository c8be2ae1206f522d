// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
)

// rabbitQueue declares a queue with its dead-letter queue.
func rabbitQueue(t *testing.T, b backend.Binding) (name, dead string) {
	t.Helper()
	name = backendtest.Name("orders")
	dead = name + ".dead"
	declare(t, b,
		rabbitmq.Queue{Name: dead, Durable: true, Type: "quorum"},
		rabbitmq.Queue{Name: name, Durable: true, Type: "quorum", Arguments: map[string]any{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}},
	)
	return name, dead
}

func declare(t *testing.T, b backend.Binding, queues ...rabbitmq.Queue) {
	t.Helper()
	admin, err := rabbitmq.New(b)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // it never fails
	for _, q := range queues {
		if err := admin.EnsureQueue(backendtest.Context(t), q); err != nil {
			t.Fatal(err)
		}
	}
}

func send(t *testing.T, b backend.Binding, queue string, messages ...amqp.Publishing) {
	t.Helper()
	conn, err := rabbitmq.Dial(backendtest.Context(t), b)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		m.DeliveryMode = amqp.Persistent
		confirmed, err := channel.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil || !confirmed.Wait() {
			t.Fatalf("publish: %v", err)
		}
	}
}

func messagesIn(t *testing.T, b backend.Binding, queue string) func() (int, error) {
	return func() (int, error) {
		admin, err := rabbitmq.New(b)
		if err != nil {
			return 0, err
		}
		defer admin.Close() //nolint:errcheck // it never fails
		q, err := admin.Queue(backendtest.Context(t), queue)
		return q.Messages, err
	}
}

func rabbitWorkflow(queue, more string) string {
	return fmt.Sprintf(`{"inputs":[{"name":"n","type":"integer"}],"connections":[{"name":"mq","ref":{"kind":"Secret","name":"mq"}}],
		"history":{"successful":1000},
		"triggers":[{"name":"bus","type":"Event","event":{"source":"rabbitmq","connectionRef":{"name":"mq"},"name":%q,"maxPayloadBytes":1000%s},"inputs":{"n":"${{ trigger.body.n }}"}}],
		"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, queue, more)
}

func TestRabbitMQ(t *testing.T) {
	r := enginetest.New(t)
	b, bindings := servers.RabbitMQ(t), &bound{}
	queue, dead := rabbitQueue(t, b)
	one, two := follow(r, bindings, nil), follow(r, bindings, nil)
	r.Put("orders", rabbitWorkflow(queue, `,"filter":"!has(trigger.body.skip)"`))
	one.notReady(r, "orders", "bus", "connection mq of workflow orders: not found")
	bindings.set("orders/mq", backend.Binding{Type: "kafka"})
	one.notReady(r, "orders", "bus", `connection mq is of type "kafka"; want rabbitmq`)
	bindings.set("orders/mq", b)
	one.ready(r, "orders", "bus")
	two.ready(r, "orders", "bus")

	send(t, b, queue,
		amqp.Publishing{Body: []byte(`{"n":1}`), MessageId: "m1"}, amqp.Publishing{Body: []byte(`{"n":1}`), MessageId: "m1"},
		amqp.Publishing{Body: []byte(`{"n":`), ContentType: "application/json"}, // poison
		amqp.Publishing{Body: []byte("\xff\x00")},
		amqp.Publishing{Body: []byte(`{"n":"many"}`)},
		amqp.Publishing{Body: []byte(`{"other":1}`)},
		amqp.Publishing{Body: []byte(`{"n":2,"pad":"` + strings.Repeat("x", 1000) + `"}`)},
		amqp.Publishing{Body: []byte(`{"skip":true}`)},
		amqp.Publishing{Body: []byte(`{"n":3}`)},
	)
	r.G.Eventually(func() []string { return bodies(r, "orders") }, enginetest.Long).Should(ConsistOf(`{"n":1}`, `{"n":3}`), "consumption should continue after invalid messages")
	r.G.Eventually(messagesIn(t, b, dead), enginetest.Long).Should(Equal(5))
	r.G.Eventually(rejected(r, "orders", "bus"), enginetest.Long).Should(BeEquivalentTo(5))
	r.G.Eventually(messagesIn(t, b, queue), enginetest.Long).Should(BeZero())

	// An edit selects another queue; while suspended, nothing is consumed.
	other, _ := rabbitQueue(t, b)
	r.Put("orders", rabbitWorkflow(other, ""))
	send(t, b, other, amqp.Publishing{Body: []byte(`{"n":4}`)})
	r.G.Eventually(func() []string { return bodies(r, "orders") }, enginetest.Long).Should(ContainElement(`{"n":4}`))
	suspended := strings.Replace(rabbitWorkflow(other, ""), "{", `{"suspend":true,`, 1)
	r.Put("orders", suspended)
	one.notReady(r, "orders", "bus", "spec.suspend is set")
	r.G.Eventually(consumers(t, b, other), enginetest.Long).Should(BeZero())
	send(t, b, other, amqp.Publishing{Body: []byte(`{"n":5}`)})
	r.Put("orders", rabbitWorkflow(other, ""))
	r.G.Eventually(func() []string { return bodies(r, "orders") }, enginetest.Long).Should(ContainElement(`{"n":5}`), "queued messages should start runs after the resumption")

	gone, err := rabbitmq.New(b)
	r.G.Expect(err).NotTo(HaveOccurred())
	r.G.Expect(gone.DeleteQueue(t.Context(), other)).To(Succeed())
	one.notReady(r, "orders", "bus", "no queue")
}

func consumers(t *testing.T, b backend.Binding, queue string) func() (int, error) {
	return func() (int, error) {
		admin, err := rabbitmq.New(b)
		if err != nil {
			return 0, err
		}
		defer admin.Close() //nolint:errcheck // it never fails
		q, err := admin.Queue(backendtest.Context(t), queue)
		return q.Consumers, err
	}
}

// TestRabbitMQOutage: after a crash of the broker consumption resumes, and no confirmed message is lost.
func TestRabbitMQOutage(t *testing.T) {
	r := enginetest.New(t)
	server, bindings := servers.StartRabbitMQ(t), &bound{}
	queue := rabbitmq.Queue{Name: backendtest.Name("orders"), Durable: true, Type: "classic"}
	declare(t, server.Binding, queue)
	bindings.set("orders/mq", server.Binding)
	one := follow(r, bindings, nil)
	r.Put("orders", rabbitWorkflow(queue.Name, ""))
	one.ready(r, "orders", "bus")
	send(t, server.Binding, queue.Name, amqp.Publishing{Body: []byte(`{"n":1}`), MessageId: "1"})
	r.G.Eventually(func() []string { return bodies(r, "orders") }, enginetest.Long).Should(HaveLen(1))
	server.Kill()
	one.notReady(r, "orders", "bus", "")
	server.Restart(t)
	// A crashed broker may lose recent declarations; the owner of the queue declares it again.
	declare(t, server.Binding, queue)
	one.ready(r, "orders", "bus")
	send(t, server.Binding, queue.Name, amqp.Publishing{Body: []byte(`{"n":2}`), MessageId: "2"})
	r.G.Eventually(func() []string { return bodies(r, "orders") }, enginetest.Long).Should(ConsistOf(`{"n":1}`, `{"n":2}`))
}
