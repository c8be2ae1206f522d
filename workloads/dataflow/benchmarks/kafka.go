// SPDX-License-Identifier: Apache-2.0

package benchmarks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const (
	rounds     = 3 // of each side; the median counts
	partitions = 4
	batchCount = 5000
	batchBytes = 8 << 20
)

// broker is a benchmark's real Kafka and a topic full of JSON records.
type broker struct {
	binding   backend.Binding
	dialer    *kafkago.Dialer
	transport *kafkago.Transport
	client    *kafkago.Client
	source    string
	records   int
	bytes     int64
	groups    int
}

func newBroker(b *testing.B, records int) *broker {
	b.Helper()
	k := &broker{binding: servers.Kafka(b), records: records, source: fmt.Sprintf("in-%d", time.Now().UnixNano())}
	var err error
	if k.dialer, err = backendkafka.Dialer(k.binding); err != nil {
		b.Fatal(err)
	}
	if k.transport, err = backendkafka.Transport(k.binding); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(k.transport.CloseIdleConnections)
	k.client = &kafkago.Client{Addr: backendkafka.Addr(k.binding), Transport: k.transport, Timeout: 30 * time.Second}
	k.create(b, k.source)
	k.fill(b)
	return k
}

func (k *broker) create(b *testing.B, topic string) {
	b.Helper()
	answer, err := k.client.CreateTopics(context.Background(), &kafkago.CreateTopicsRequest{
		Topics: []kafkago.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}},
	})
	if err == nil {
		err = answer.Errors[topic]
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_, _ = k.client.DeleteTopics(context.Background(), &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	})
}

// event is the record of the Kafka benchmarks: 1 KiB of JSON.
type event struct {
	ID      int64   `json:"id"`
	User    string  `json:"user"`
	Country string  `json:"country"`
	Amount  float64 `json:"amount"`
	At      string  `json:"at"`
	Note    string  `json:"note"`
}

func (k *broker) fill(b *testing.B) {
	b.Helper()
	w := k.writer(k.source)
	defer w.Close()
	note := strings.Repeat("lorem ipsum dolor sit amet ", 40)
	messages := make([]kafkago.Message, 0, batchCount)
	for n := range k.records {
		head := fmt.Sprintf(`{"id":%d,"user":"user-%d","country":"C%d","amount":%d.25,"at":"2026-01-02 03:04:05.678","note":"`, n, n%1000, n%50, n%977)
		value := append([]byte(head), note[:recordBytes-len(head)-2]...)
		value = append(value, `"}`...)
		k.bytes += int64(len(value))
		messages = append(messages, kafkago.Message{Key: fmt.Append(nil, n%1000), Value: value})
		if len(messages) == batchCount || n == k.records-1 {
			if err := k.write(w, messages); err != nil {
				b.Fatal(err)
			}
			messages = messages[:0]
		}
	}
}

// write retries while a new topic has no leader yet.
func (k *broker) write(w *kafkago.Writer, messages []kafkago.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return w.WriteMessages(ctx, messages...)
}

// writer returns kafka-go's own writer, tuned for throughput with full durability.
func (k *broker) writer(topic string) *kafkago.Writer {
	return &kafkago.Writer{
		Addr: backendkafka.Addr(k.binding), Topic: topic, Transport: k.transport, Balancer: kafkago.Murmur2Balancer{},
		BatchSize: batchCount, BatchBytes: 1_000_000, BatchTimeout: 5 * time.Millisecond,
		RequiredAcks: kafkago.RequireAll, MaxAttempts: 30,
	}
}

// reader returns kafka-go's own reader in a new group, tuned for throughput; offsets are committed explicitly.
func (k *broker) reader() *kafkago.Reader {
	return kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: k.binding.Brokers(), Dialer: k.dialer, GroupID: k.group(), Topic: k.source,
		MinBytes: 1, MaxBytes: 4 << 20, MaxWait: 500 * time.Millisecond, QueueCapacity: 2 * batchCount,
		StartOffset: kafkago.FirstOffset,
	})
}

func (k *broker) group() string {
	k.groups++
	return fmt.Sprintf("%s-%d", k.source, k.groups)
}

// consume reads all of the topic's records in batches, and commits each after it was handled.
func (k *broker) consume(b *testing.B, handle func([]kafkago.Message) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r := k.reader()
	defer r.Close()
	messages := make([]kafkago.Message, 0, batchCount)
	for n := range k.records {
		message, err := r.FetchMessage(ctx)
		if err != nil {
			b.Fatal(err)
		}
		messages = append(messages, message)
		if len(messages) < batchCount && n < k.records-1 {
			continue
		}
		if err := handle(messages); err != nil {
			b.Fatal(err)
		}
		if err := r.CommitMessages(ctx, messages...); err != nil {
			b.Fatal(err)
		}
		messages = messages[:0]
	}
}

// pipeline runs an engine from the topic to the sink until every record is written.
func (k *broker) pipeline(b *testing.B, sink config.Sink, connections map[string]map[string]string) {
	b.Helper()
	cfg := pipeline([]config.Source{{
		Name: "kafka", Type: "kafka", Connection: "kafka", Config: raw(`{"topic":%q}`, k.source), Codec: &config.Codec{Format: "json"},
	}}, nil, []config.Sink{sink})
	cfg.ConsumerGroup = k.group()
	cfg.Batching.Count, cfg.Batching.Bytes = batchCount, batchBytes
	cfg.Connections = map[string]map[string]string{"kafka": k.binding.Data()}
	for name, data := range connections {
		cfg.Connections[name] = data
	}
	e := newEngine(b, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	for e.Status().Records.Out < int64(k.records) {
		if ctx.Err() != nil {
			b.Fatalf("timed out: %+v", e.Status())
		}
		time.Sleep(2 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	if got := e.Status().Records.Out; got != int64(k.records) {
		b.Fatalf("%d records out of %d", got, k.records)
	}
}

// compare alternates between both, and reports the pipeline's rate, the bare program's, and their ratio; and
// the CPU time each took per GB in this process, which is more telling on a busy machine.
func (k *broker) compare(b *testing.B, target float64, pipeline, bare func()) {
	b.Helper()
	var ours, theirs, ourCPU, theirCPU []float64
	for round := range rounds {
		run := func(f func(), into *[]float64) {
			start, cpu, spent := time.Now(), processorTime(), &ourCPU
			if into == &theirs {
				spent = &theirCPU
			}
			f()
			*into = append(*into, float64(k.bytes)/1e6/time.Since(start).Seconds())
			*spent = append(*spent, (processorTime()-cpu).Seconds()/float64(k.bytes)*1e9)
		}
		if round%2 == 0 {
			run(pipeline, &ours)
			run(bare, &theirs)
		} else {
			run(bare, &theirs)
			run(pipeline, &ours)
		}
	}
	a, c := median(ours), median(theirs)
	b.ReportMetric(a, "pipeline-MB/s")
	b.ReportMetric(c, "bare-MB/s")
	b.ReportMetric(a/c, "ratio")
	b.ReportMetric(target, "target")
	b.ReportMetric(median(ourCPU), "pipeline-cpu-s/GB")
	b.ReportMetric(median(theirCPU), "bare-cpu-s/GB")
	b.Logf("pipeline %.0f MB/s, bare %.0f MB/s", ours, theirs)
}

// processorTime returns the CPU time this process has used, user and system.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// KafkaToKafka copies a topic of 1 KiB records: an untouched batch from kafka source to kafka sink,
// against a loop of kafka-go's Reader and Writer.
func KafkaToKafka(b *testing.B) {
	k := newBroker(b, 150_000)
	out := k.source + "-out"
	k.create(b, out)
	b.ResetTimer()
	for range b.N {
		k.compare(b, 0.9, func() {
			k.pipeline(b, config.Sink{
				Name: "out", Type: "kafka", Connection: "kafka", Config: raw(`{"topic":%q,"compression":"none"}`, out), Codec: &config.Codec{Format: "json"},
			}, nil)
		}, func() {
			w := k.writer(out)
			defer w.Close()
			k.consume(b, func(messages []kafkago.Message) error {
				copied := make([]kafkago.Message, len(messages))
				for i, m := range messages {
					copied[i] = kafkago.Message{Key: m.Key, Value: m.Value, Headers: m.Headers, Time: m.Time}
				}
				return k.write(w, copied)
			})
		})
	}
}
