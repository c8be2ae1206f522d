// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

func TestMain(m *testing.M) { servers.Main(m) }

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newTopic creates a topic named after the test.
func newTopic(t testing.TB, partitions int, settings ...kafkago.ConfigEntry) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-", "#", "-").Replace(t.Name())
	transport, err := backendkafka.Transport(servers.Kafka(t))
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: backendkafka.Addr(servers.Kafka(t)), Transport: transport}
	answer, err := client.CreateTopics(deadline(t), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{
		{Topic: name, NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: settings},
	}})
	if err == nil {
		err = answer.Errors[name]
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func env(t testing.TB, format string) connector.Env {
	t.Helper()
	made, err := codec.New(format, nil)
	if err != nil {
		t.Fatal(err)
	}
	return connector.Env{
		Pipeline: "test/" + t.Name(), Component: "kafka", Group: "group-" + t.Name(), Binding: servers.Kafka(t),
		Codec: made, Batching: config.Batching{Count: 100, Bytes: 1 << 20}, MaxRecordBytes: 32 << 20,
	}
}

func read(t testing.TB, cfg SourceConfig, e connector.Env) connector.Source {
	t.Helper()
	s, err := openSource(deadline(t), cfg, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func write(t testing.TB, cfg SinkConfig, records ...record.Record) {
	t.Helper()
	s, err := openSink(deadline(t), cfg, env(t, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new topic accepts records", func() bool {
		err := s.Write(deadline(t), &record.Batch{Records: records})
		if err != nil && !errors.Is(err, kafkago.NotLeaderForPartition) && !errors.Is(err, backend.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	})
	if err := s.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// numbered returns records with the numbers from..to-1 as key and value.
func numbered(from, to int) []record.Record {
	out := make([]record.Record, 0, to-from)
	for n := from; n < to; n++ {
		r := record.New(fmt.Append(nil, n))
		r.Key = fmt.Append(nil, n)
		out = append(out, r)
	}
	return out
}

// take reads n records and returns them with their batches.
func take(t testing.TB, s connector.Source, n int) (records []record.Record, batches []*record.Batch) {
	t.Helper()
	ctx := deadline(t)
	for len(records) < n {
		batch, err := s.Read(ctx)
		if errors.Is(err, backend.ErrUnavailable) && ctx.Err() == nil {
			continue // a broker that has just started has no group coordinator yet
		}
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(records), n, err)
		}
		if len(batch.Records) == 0 {
			continue
		}
		records = append(records, batch.Records...)
		batches = append(batches, batch)
	}
	if len(records) > n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	return records, batches
}

func values(records []record.Record) map[string]int {
	seen := map[string]int{}
	for i := range records {
		data, _ := records[i].Bytes()
		seen[string(data)]++
	}
	return seen
}

func TestRoundTrip(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			topic := newTopic(t, 3)
			at := time.UnixMilli(1_700_000_000_123)
			var sent []record.Record
			for n := range 1000 {
				r := record.New(fmt.Appendf(nil, `{"n":%d,"text":"%s"}`, n, strings.Repeat("é", n%50)))
				r.Key, r.Time = fmt.Append(nil, "key-", n%10), at
				r.Headers = []record.Header{{Key: "h", Value: []byte{0, 1, 2}}, {Key: "h", Value: nil}}
				sent = append(sent, r)
			}
			sent[5].SetBytes(nil) // a tombstone
			write(t, SinkConfig{Topic: topic, Compression: compression}, sent...)
			got, batches := take(t, read(t, SourceConfig{Topic: topic}, env(t, "json")), len(sent))

			next := map[string]int{} // per key: order is preserved
			byKey := map[string][]record.Record{}
			for _, r := range sent {
				byKey[string(r.Key)] = append(byKey[string(r.Key)], r)
			}
			for i := range got {
				r := &got[i]
				key := string(r.Key)
				want := byKey[key][next[key]]
				next[key]++
				data, _ := r.Bytes()
				wanted, _ := want.Bytes()
				if !bytes.Equal(data, wanted) || (data == nil) != (wanted == nil) || !r.Time.Equal(at) {
					t.Fatalf("record %s: got %q at %v, want %q at %v", r.Origin, data, r.Time, wanted, at)
				}
				if len(r.Headers) != 2 || r.Headers[0].Key != "h" || !bytes.Equal(r.Headers[0].Value, []byte{0, 1, 2}) {
					t.Fatalf("headers %v", r.Headers)
				}
			}
			first := batches[0].Records[0]
			if want := topic + "/"; !strings.HasPrefix(first.Origin, want) || !strings.Contains(first.Origin, "@") {
				t.Errorf("origin %q", first.Origin)
			}
		})
	}
}

func TestResumesAfterTheAcknowledgedRecord(t *testing.T) {
	topic := newTopic(t, 2)
	write(t, SinkConfig{Topic: topic}, numbered(0, 500)...)
	first := read(t, SourceConfig{Topic: topic}, env(t, "raw"))
	_, batches := take(t, first, 500)
	if lag, err := first.(connector.Lagger).Lag(deadline(t)); err != nil || lag != 500 {
		t.Errorf("lag before Ack: %d, %v", lag, err)
	}
	left := 0
	for _, b := range batches[:len(batches)/2] {
		left += len(b.Records)
		if err := first.Ack(deadline(t), []*record.Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	left = 500 - left
	if lag, err := first.(connector.Lagger).Lag(deadline(t)); err != nil || lag != int64(left) {
		t.Errorf("lag after Ack of all but %d: %d, %v", left, lag, err)
	}
	if err := first.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	again, _ := take(t, read(t, SourceConfig{Topic: topic}, env(t, "raw")), left)
	seen := values(again)
	for _, b := range batches[len(batches)/2:] {
		for value := range values(b.Records) {
			if seen[value] != 1 {
				t.Errorf("record %s was not read again", value)
			}
		}
	}
}

func TestStartAt(t *testing.T) {
	topic := newTopic(t, 1)
	old := numbered(0, 10)
	for i := range old {
		old[i].Time = time.Now().Add(-2 * time.Hour)
	}
	write(t, SinkConfig{Topic: topic}, old...)
	write(t, SinkConfig{Topic: topic}, numbered(10, 20)...)
	hourAgo := time.Now().Add(-time.Hour)

	latest := env(t, "raw")
	latest.Group += "-latest"
	s := read(t, SourceConfig{Topic: topic, StartAt: "latest"}, latest)
	for s.(*source).starting() { // its start is looked up after Read
		if _, err := s.Read(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	// Closed before anything was acknowledged: records that arrive meanwhile must not be skipped.
	if err := s.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	write(t, SinkConfig{Topic: topic}, numbered(20, 25)...)

	for _, c := range []struct {
		name string
		cfg  SourceConfig
		want int
	}{
		{"earliest", SourceConfig{}, 25},
		{"latest", SourceConfig{StartAt: "latest"}, 5},
		{"timestamp", SourceConfig{StartAt: "timestamp", StartTimestamp: &hourAgo}, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Topic = topic
			e := env(t, "raw")
			e.Group = latest.Group
			if c.name != "latest" {
				e.Group = "group-" + t.Name()
			}
			got, _ := take(t, read(t, c.cfg, e), c.want)
			data, _ := got[0].Bytes()
			if string(data) != fmt.Sprint(25-c.want) {
				t.Errorf("begins at %s", data)
			}
		})
	}
}

// starting reports whether a partition's first offset is still unknown.
func (s *source) starting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.assigned {
		if p.position() < 0 {
			return true
		}
	}
	return len(s.assigned) == 0
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestRecordsThatCannotBeWrittenAreNamed(t *testing.T) {
	topic := newTopic(t, 2, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "200000"})
	s, err := openSink(deadline(t), SinkConfig{Topic: topic, Compression: "none"}, env(t, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(deadline(t))
	records := numbered(0, 2000)
	for i := range records {
		records[i].SetBytes(bytes.Repeat([]byte{'x'}, 1000))
	}
	records[7].SetBytes(make([]byte, 300_000)) // refused by the broker
	records[8].SetBytes(make([]byte, 2<<20))   // refused by maxMessageBytes
	err = s.Write(deadline(t), &record.Batch{Records: records})
	var refused *record.Errors
	if !errors.As(err, &refused) || len(refused.ByIndex) != 2 || refused.ByIndex[7] == nil || refused.ByIndex[8] == nil {
		t.Fatalf("error %v", err)
	}
	if got, _ := take(t, read(t, SourceConfig{Topic: topic}, env(t, "raw")), 1998); len(got) != 1998 {
		t.Errorf("%d records", len(got))
	}
}

func TestLargeRecord(t *testing.T) {
	const size = 20 << 20
	topic := newTopic(t, 1, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "33554432"})
	large := record.New(bytes.Repeat([]byte{'x'}, size))
	write(t, SinkConfig{Topic: topic, MaxMessageBytes: 32 << 20, Compression: "none"}, record.New([]byte("before")), large, record.New([]byte("after")))
	got, _ := take(t, read(t, SourceConfig{Topic: topic, MaxBytes: 1 << 20}, env(t, "raw")), 3)
	if got[1].Len() != size || got[2].Len() != len("after") {
		t.Errorf("records of %d, %d and %d bytes", got[0].Len(), got[1].Len(), got[2].Len())
	}
}

// picky is a codec that cannot decode the word bad.
type picky struct{ codec.Codec }

func (picky) Passthrough() bool { return false }
func (p picky) Unmarshal(value []byte) ([]record.Record, error) {
	if string(value) == "bad" {
		return nil, codec.ErrMalformed
	}
	return p.Codec.Unmarshal(value)
}

func TestPoisonIsReportedAsFailed(t *testing.T) {
	topic := newTopic(t, 1)
	write(t, SinkConfig{Topic: topic}, record.New([]byte("good")), record.New([]byte("bad")), record.New([]byte("good")))
	e := env(t, "raw")
	e.Codec = picky{e.Codec}
	s := read(t, SourceConfig{Topic: topic}, e)
	var good, bad int
	for good+bad < 3 {
		batch, err := s.Read(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		good += len(batch.Records)
		for _, f := range batch.Failed {
			bad++
			if f.Err == nil || !strings.HasSuffix(f.Record.Origin, "/0@1") {
				t.Errorf("failed record from %s: %v", f.Record.Origin, f.Err)
			}
		}
	}
	if good != 2 || bad != 1 {
		t.Errorf("%d good, %d failed", good, bad)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ name, key, value, want, err string }{
		{"own key", "", `{}`, "own", ""},
		{"field path", "customer.id", `{"customer":{"id":17}}`, "17", ""},
		{"expression", `this.a + "-" + key`, `{"a":"x"}`, "x-own", ""},
		{"missing field", "customer.id", `{}`, "", "no field"},
		{"object", "customer", `{"customer":{}}`, "", "want a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := newKey(c.key)
			if err != nil {
				t.Fatal(err)
			}
			r := record.New([]byte(c.value))
			r.Key = []byte("own")
			got, err := key(&r)
			if string(got) != c.want || (err != nil) != (c.err != "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("key %q, error %v", got, err)
			}
		})
	}
}

// TestPartitioners compares murmur2 with values of Java's org.apache.kafka.common.utils.Utils.murmur2.
func TestPartitioners(t *testing.T) {
	p := newPartitioner("murmur2")
	const count = 1_000_003
	p.set(count)
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536} {
		if got, want := p.partitionOf([]byte(key)), int(hash&0x7fffffff)%count; got != want {
			t.Errorf("key %q goes to %d, Java's client chooses %d", key, got, want)
		}
	}
	p = newPartitioner("roundrobin")
	p.set(3)
	counts := map[int]int{}
	for range 300 {
		counts[p.partitionOf([]byte("same"))]++
	}
	if counts[0] != 100 || counts[1] != 100 || counts[2] != 100 {
		t.Errorf("round robin: %v", counts)
	}
}

func TestBadInput(t *testing.T) {
	good := env(t, "raw")
	wrongPassword, noServers, down := good, good, good
	wrongPassword.Binding.Password = "wrong-s3cret"
	noServers.Binding.BootstrapServers, noServers.Binding.Host = "", ""
	down.Binding.BootstrapServers = "127.0.0.1:1"
	topic := newTopic(t, 1)
	for _, c := range []struct {
		name string
		cfg  SourceConfig
		env  connector.Env
		want string
		kind error
	}{
		{"no topic", SourceConfig{}, good, "config.topic", backend.ErrInvalid},
		{"dots", SourceConfig{Topic: ".."}, good, "config.topic", backend.ErrInvalid},
		{"slash", SourceConfig{Topic: "a/b"}, good, "config.topic", backend.ErrInvalid},
		{"missing topic", SourceConfig{Topic: "nowhere"}, good, `topic "nowhere" does not exist`, backend.ErrNotFound},
		{"no timestamp", SourceConfig{Topic: topic, StartAt: "timestamp"}, good, "config.startTimestamp", backend.ErrInvalid},
		{"no bootstrap servers", SourceConfig{Topic: topic}, noServers, "bootstrap-servers", backend.ErrInvalid},
		{"wrong password", SourceConfig{Topic: topic}, wrongPassword, "", backend.ErrAuth},
		{"broker is down", SourceConfig{Topic: topic}, down, "", backend.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
			defer cancel()
			_, err := openSource(ctx, c.cfg, c.env)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %q and %v", err, c.want, c.kind)
			}
			if err != nil && strings.Contains(err.Error(), "wrong-s3cret") {
				t.Errorf("the error contains the password")
			}
		})
	}
}
