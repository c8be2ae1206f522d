// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// nowhere returns a broker that does not answer.
func nowhere(t testing.TB) *backend.Binding {
	t.Helper()
	b := servers.Kafka(t)
	b.Host, b.Port, b.BootstrapServers = "127.0.0.1", "1", "127.0.0.1:1"
	return &b
}

// settledTopic creates a topic and waits until all its partitions answer: before that a write may reach only
// some of them, and repeating it would seed records twice.
func settledTopic(t testing.TB, partitions int) string {
	t.Helper()
	topic := newTopic(t, partitions)
	cluster, err := connect(servers.Kafka(t), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.close()
	request := &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{}}
	for id := range partitions {
		request.Topics[topic] = append(request.Topics[topic], kafkago.LastOffsetOf(id))
	}
	waitFor(t, "all partitions answer", func() bool {
		answer, err := cluster.client.ListOffsets(deadline(t), request)
		if err != nil || len(answer.Topics[topic]) != partitions {
			return false
		}
		for _, p := range answer.Topics[topic] {
			if p.Error != nil {
				return false
			}
		}
		return true
	})
	return topic
}

func TestSourceConformance(t *testing.T) {
	connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
		topic := settledTopic(t, 3)
		spec := Source()
		e := connectortest.NewEnv(t, spec, servers.Kafka(t))
		e.Group = "group-" + topic
		return connectortest.SourceHarness{
			Common: connectortest.Common{
				Spec: spec, Env: e, Config: map[string]any{"topic": topic, "maxWait": "100ms"}, Unreachable: nowhere(t),
				BadConfigs: map[string]string{
					`{}`: "topic", `{"topic":"a b"}`: "topic", `{"topic":"x","startAt":"noon"}`: "startAt",
					`{"topic":"x","startAt":"timestamp"}`: "startTimestamp", `{"topic":"x","maxWait":"5"}`: "maxWait",
				},
			},
			Seed: func(t testing.TB, from, n int) {
				t.Helper()
				records := make([]record.Record, 0, n)
				for i := from; i < from+n; i++ {
					records = append(records, record.New(connectortest.Value(i)))
				}
				write(t, SinkConfig{Topic: topic, Partitioner: "roundrobin"}, records...)
			},
		}
	})
}

func TestSinkConformance(t *testing.T) {
	connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
		topic := settledTopic(t, 1)
		spec := Sink()
		return connectortest.SinkHarness{
			Common: connectortest.Common{
				Spec: spec, Env: connectortest.NewEnv(t, spec, servers.Kafka(t)), Config: map[string]any{"topic": topic}, Unreachable: nowhere(t),
				BadConfigs: map[string]string{`{}`: "topic", `{"topic":"a/b"}`: "topic", `{"topic":"x","acks":"none"}`: "acks", `{"topic":"x","compression":"rar"}`: "compression"},
			},
			Stored:  func(t testing.TB) [][]byte { t.Helper(); return stored(t, topic) },
			Ordered: true,
		}
	})
}

// stored reads the topic's one partition from its beginning to its current end.
func stored(t testing.TB, topic string) [][]byte {
	t.Helper()
	cluster, err := connect(servers.Kafka(t), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.close()
	ctx := deadline(t)
	ends, err := cluster.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: {kafkago.LastOffsetOf(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	end := ends.Topics[topic][0].LastOffset
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: cluster.brokers, Dialer: cluster.dialer, Topic: topic, Partition: 0, MaxWait: 100 * time.Millisecond})
	defer reader.Close() //nolint:errcheck // only read
	var out [][]byte
	for int64(len(out)) < end {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, message.Value)
	}
	return out
}
