// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
)

func write(t *testing.T, b backend.Binding, topic string, values ...string) {
	t.Helper()
	transport, err := backendkafka.Transport(b)
	if err != nil {
		t.Fatal(err)
	}
	w := &kafkago.Writer{Addr: backendkafka.Addr(b), Topic: topic, Transport: transport, RequiredAcks: kafkago.RequireAll, BatchSize: 1}
	defer w.Close()
	var messages []kafkago.Message
	for _, v := range values {
		messages = append(messages, kafkago.Message{Value: []byte(v), Headers: []kafkago.Header{{Key: "content-type", Value: []byte("application/json")}}})
	}
	if err := w.WriteMessages(backendtest.Context(t), messages...); err != nil {
		t.Fatal(err)
	}
}

func TestKafka(t *testing.T) {
	r := enginetest.New(t)
	b, bindings := servers.Kafka(t), &bound{}
	admin, err := backendkafka.New(b)
	r.G.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // it only reads
	topic := backendtest.Name("orders")
	workflow := fmt.Sprintf(`{"inputs":[{"name":"n","type":"integer"}],"connections":[{"name":"k","ref":{"kind":"Secret","name":"k"}}],"history":{"successful":1000},
		"triggers":[{"name":"bus","type":"Event","event":{"source":"kafka","connectionRef":{"name":"k"},"name":%q,"maxPayloadBytes":1000,"filter":"!has(trigger.body.skip)"},"inputs":{"n":"${{ trigger.body.n }}"}}],
		"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, topic)
	bindings.set("orders/k", b)
	one := follow(r, bindings, nil)
	r.Put("orders", workflow)
	one.notReady(r, "orders", "bus", "not found")
	r.G.Expect(admin.CreateTopic(t.Context(), backendkafka.Topic{Name: topic, Partitions: 2, ReplicationFactor: 1})).To(Succeed())
	one.ready(r, "orders", "bus")
	numbers := func() []string { return bodies(r, "orders") }

	write(t, b, topic, `{"n":1}`, `{"n":`, `{"skip":1}`, `{"n":"x"}`, `{"n":2,"pad":"`+strings.Repeat("x", 1000)+`"}`, `{"n":3}`)
	r.G.Eventually(numbers, enginetest.Long).Should(ConsistOf(`{"n":1}`, `{"n":3}`))
	r.G.Eventually(rejected(r, "orders", "bus"), enginetest.Long).Should(BeEquivalentTo(3))
	group := "itechsmart.workflow." + r.Namespace + ".orders.bus"
	lag := func() (int64, error) { return admin.GroupLag(t.Context(), group, topic) }
	r.G.Eventually(lag, enginetest.Long).Should(BeZero(), "all messages should be committed, also the invalid ones")

	one.stop()
	write(t, b, topic, `{"n":4}`, `{"n":5}`)
	two := follow(r, bindings, nil)
	two.ready(r, "orders", "bus")
	r.G.Eventually(numbers, enginetest.Long).Should(ConsistOf(`{"n":1}`, `{"n":3}`, `{"n":4}`, `{"n":5}`), "messages from while no replica was running should start runs")
	r.G.Eventually(lag, enginetest.Long).Should(BeZero())

	// Messages from before a trigger start no runs.
	bindings.set("later/k", b)
	r.Put("later", workflow)
	two.ready(r, "later", "bus")
	write(t, b, topic, `{"n":6}`)
	r.G.Eventually(func() []string { return bodies(r, "later") }, enginetest.Long).Should(Equal([]string{`{"n":6}`}))
}
