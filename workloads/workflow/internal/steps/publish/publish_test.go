// SPDX-License-Identifier: Apache-2.0

package publish_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	amqp "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

func TestMain(m *testing.M) { servers.Main(m) }

const key = "run-1/step-1/-1/1"

func newSet(t testing.TB, bindings steptest.Connections) *steps.Set {
	t.Helper()
	set := steps.New(step.Env{Connections: bindings})
	t.Cleanup(func() { _ = set.Close() })
	return set
}

func publish(t testing.TB, set *steps.Set, config map[string]any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := set.Execute(ctx, steptest.Call("publish", config))
	return err
}

func queue(t testing.TB, b backend.Binding, kind string) string {
	t.Helper()
	q := rabbitmq.Queue{Name: backendtest.Name("publish"), Durable: true, Type: kind}
	declare(t, b, q)
	return q.Name
}

func declare(t testing.TB, b backend.Binding, q rabbitmq.Queue) {
	t.Helper()
	admin, err := rabbitmq.New(b)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // it never fails
	if err := admin.EnsureQueue(backendtest.Context(t), q); err != nil {
		t.Fatal(err)
	}
}

func TestRabbitMQ(t *testing.T) {
	b := servers.RabbitMQ(t)
	name := queue(t, b, "quorum")
	wrong, gone := b, b
	wrong.Password, gone.Port = "wrong-"+b.Password, "1"
	bindings := steptest.Connections{"mq": b, "wrong": wrong, "gone": gone, "db": {Type: "postgresql"}}
	to := func(connection, queue string) map[string]any {
		return map[string]any{"connection": connection, "key": queue, "message": "x"}
	}
	steptest.Run(t, steptest.Harness{
		Type: "publish", Env: step.Env{Connections: bindings},
		Config: map[string]any{"connection": "mq", "exchange": "", "key": name, "message": map[string]any{"a": int64(1)}, "headers": map[string]any{"h": int64(5)}},
		Bad: map[string]map[string]any{
			"with.connection": {"message": "x"}, "with.connection of another type": to("db", name), "with.message": {"connection": "mq", "key": name}, "with.key": to("mq", ""),
			"with.topic": {"connection": "mq", "topic": "x", "message": "x"}, "with.headers": {"connection": "mq", "key": name, "message": "x", "headers": []any{}},
			"with.exchange": {"connection": "mq", "key": "x", "message": "x", "exchange": strings.Repeat("x", 256)},
		},
		Failing: []map[string]any{to("wrong", name), to("gone", name), to("mq", "nobody"), {"connection": "mq", "exchange": "nowhere", "key": "x", "message": "x"}},
		Secrets: []string{b.Password},
	})
	set := newSet(t, bindings)
	for says, config := range map[string]map[string]any{
		"no queue is bound": to("mq", "nobody"), "no exchange 'nowhere'": {"connection": "mq", "exchange": "nowhere", "message": "x"}, "access denied": to("wrong", name),
	} {
		steptest.Permanent(t, publish(t, set, config), says)
	}
	var permanent *engine.Permanent
	if err := publish(t, set, to("gone", name)); err == nil || errors.As(err, &permanent) {
		t.Errorf("broker down: got %v, want a temporary error", err)
	}
	if err := publish(t, set, to("mq", name)); err != nil {
		t.Errorf("after refused messages: %v", err)
	}
	got := receive(t, b, name)
	if string(got.Body) != `{"a":1}` || got.Headers["h"] != "5" || got.Headers["idempotency-key"] != key || got.MessageId != key || got.DeliveryMode != amqp.Persistent || got.ContentType != "application/json" {
		t.Errorf("received %s with %v, %q, %d, %s", got.Body, got.Headers, got.MessageId, got.DeliveryMode, got.ContentType)
	}
}

// receive returns the first message of a queue.
func receive(t testing.TB, b backend.Binding, name string) amqp.Delivery {
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
	got, ok, err := channel.Get(name, true)
	if err != nil || !ok {
		t.Fatalf("no message: %v", err)
	}
	return got
}

// TestOutage: errors are temporary while the broker is down, and publishing works when it is back.
func TestOutage(t *testing.T) {
	server := servers.StartRabbitMQ(t)
	set := newSet(t, steptest.Connections{"mq": server.Binding})
	name := queue(t, server.Binding, "classic")
	config := map[string]any{"connection": "mq", "key": name, "message": "x"}
	if err := publish(t, set, config); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	var permanent *engine.Permanent
	if err := publish(t, set, config); err == nil || errors.As(err, &permanent) {
		t.Fatalf("got %v, want a temporary error", err)
	}
	server.Restart(t)
	// A crashed broker may lose recent declarations; the owner of the queue declares it again.
	declare(t, server.Binding, rabbitmq.Queue{Name: name, Durable: true, Type: "classic"})
	NewWithT(t).Eventually(func() error { return publish(t, set, config) }, 2*time.Minute).Should(Succeed())
}

func TestKafka(t *testing.T) {
	b := servers.Kafka(t)
	topic := backendtest.Name("publish")
	admin, err := kafka.New(b)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // it never fails
	if err := admin.CreateTopic(backendtest.Context(t), kafka.Topic{Name: topic, Partitions: 1, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	wrong, gone := b, b
	wrong.Password, gone.BootstrapServers = "wrong-"+b.Password, "127.0.0.1:1"
	bindings := steptest.Connections{"bus": b, "wrong": wrong, "gone": gone}
	to := func(connection, topic string) map[string]any {
		return map[string]any{"connection": connection, "topic": topic, "message": "x"}
	}
	steptest.Run(t, steptest.Harness{
		Type: "publish", Env: step.Env{Connections: bindings},
		Config: map[string]any{"connection": "bus", "topic": topic, "key": "k", "message": map[string]any{"a": int64(1)}, "headers": map[string]any{"h": "v"}},
		Bad: map[string]map[string]any{
			"with.topic": to("bus", "no topic"), "with.topic that is missing": {"connection": "bus", "message": "x"}, "with.exchange": {"connection": "bus", "exchange": "x", "message": "x"},
		},
		Failing: []map[string]any{to("wrong", topic), to("gone", topic), to("bus", "nowhere")},
		Secrets: []string{b.Password},
	})
	set := newSet(t, bindings)
	steptest.Permanent(t, publish(t, set, to("bus", "nowhere")), "not found")
	steptest.Permanent(t, publish(t, set, to("wrong", topic)), "access denied")
	var permanent *engine.Permanent
	if err := publish(t, set, to("gone", topic)); err == nil || errors.As(err, &permanent) {
		t.Errorf("broker down: got %v, want a temporary error", err)
	}
	dialer, err := kafka.Dialer(b)
	if err != nil {
		t.Fatal(err)
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: b.Brokers(), Topic: topic, Dialer: dialer})
	defer reader.Close()
	got, err := reader.ReadMessage(backendtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, h := range got.Headers {
		headers[h.Key] = string(h.Value)
	}
	if string(got.Value) != `{"a":1}` || string(got.Key) != "k" || headers["h"] != "v" || headers["idempotency-key"] != key {
		t.Errorf("received %s: %s with %v", got.Key, got.Value, headers)
	}
}
