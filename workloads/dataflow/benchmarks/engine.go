// SPDX-License-Identifier: Apache-2.0

// Package benchmarks measures the data plane; test/bench runs it. Each figure names the path it was measured
// on, and a bare client is measured in the same run for comparison.
package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors"
	"github.com/itechsmart/operator/workloads/dataflow/internal/engine"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const recordBytes = 1024

// fields make the generated record look like the documents of the other benchmarks.
const fields = `{"id":"order-17","customer":{"id":4711,"name":"Ada Lovelace","city":"London"},"amount":129.95,"currency":"EUR","items":3,"status":"paid","tags":["new","express"],"at":"2026-01-02T03:04:05Z"}`

func raw(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

// encodeSink encodes every record that is not bytes already, as a real sink must, and discards it.
type encodeSink struct{ bytes int64 }

func (s *encodeSink) Write(_ context.Context, batch *record.Batch) error {
	for i := range batch.Records {
		data, err := batch.Records[i].Bytes()
		if err != nil {
			return err
		}
		s.bytes += int64(len(data))
	}
	return nil
}
func (s *encodeSink) Close(context.Context) error { return nil }

type none struct{}

func encode() connector.Spec {
	return connector.SinkOf(connector.Spec{Type: "encode", Summary: "Encodes and discards."}, func(context.Context, none, connector.Env) (connector.Sink, error) {
		return &encodeSink{}, nil
	})
}

func pipeline(sources []config.Source, transforms []config.Transform, sinks []config.Sink) *config.Pipeline {
	return &config.Pipeline{
		Namespace: "bench", Name: "bench", ConsumerGroup: "bench", Delivery: config.AtLeastOnce,
		Batching: config.Batching{Count: 5000, Bytes: 4 << 20, Period: config.Duration(200 * time.Millisecond)},
		Sources:  sources, Transforms: transforms, Sinks: sinks, MaxRecordBytes: 16 << 20,
	}
}

func newEngine(b testing.TB, cfg *config.Pipeline, extra ...connector.Spec) *engine.Engine {
	b.Helper()
	e, err := engine.New(cfg, engine.Options{
		Connectors: append(connectors.All(), extra...),
		NewChain:   func() (engine.Chain, error) { return transform.Compile(cfg.Transforms, transform.Env{}) },
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// finish runs a bounded pipeline to completion.
func finish(b testing.TB, e *engine.Engine) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	<-e.Done()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// engineBench moves b.N generated records of 1 KiB through the transforms.
func engineBench(b *testing.B, sink string, transforms ...config.Transform) {
	b.SetBytes(recordBytes)
	b.ReportAllocs()
	cfg := pipeline(
		[]config.Source{{Name: "generate", Type: "generate", Config: raw(`{"count":%d,"size":%d,"value":%s}`, b.N, recordBytes, fields)}},
		transforms,
		[]config.Sink{{Name: sink, Type: sink}},
	)
	e := newEngine(b, cfg, encode())
	b.ResetTimer()
	cpu := processorTime()
	finish(b, e)
	b.StopTimer()
	// This figure holds on a machine that does other work, too.
	b.ReportMetric(float64(b.N)*recordBytes/1e6/max(1e-9, (processorTime()-cpu).Seconds()), "MB/cpu-s")
	status := e.Status()
	if got := status.Records.In; got != int64(b.N) || status.Records.Errored > 0 {
		b.Fatalf("%d records in, %d errors, want %d and none", got, status.Records.Errored, b.N)
	}
	if status.Records.Out == 0 && b.N > 10 {
		b.Fatal("no record was written")
	}
}

// EngineGenerateDrop measures the byte path: every record is built anew, and no batch is touched.
func EngineGenerateDrop(b *testing.B) { engineBench(b, "drop") }

// EngineFilter reads three fields of the bytes per record and decodes nothing else.
func EngineFilter(b *testing.B) {
	engineBench(b, "drop", config.Transform{
		Name: "large", Type: "filter", When: `this.amount > 100.0 && this.status == "paid" && this.sequence % 2 == 0`,
	})
}

// EngineDecodeMapEncode parses every record in full, computes a field, and encodes the whole record again.
func EngineDecodeMapEncode(b *testing.B) {
	engineBench(b, "encode", config.Transform{
		Name: "total", Type: "set", Config: raw(`{"expressions":{"total":"this.amount * double(this.items)","customer.name":"this.customer.name.upperAscii()"}}`),
	})
}

// EngineMap builds a new value of six fields, which are read from the bytes, and encodes it.
func EngineMap(b *testing.B) {
	engineBench(b, "encode", config.Transform{
		Name: "map", Type: "map",
		Config: raw(`{"expression":"{'id': this.id, 'n': this.sequence, 'customer': this.customer.name, 'total': this.amount * double(this.items), 'tags': this.tags, 'padding': this.padding}"}`),
	})
}

// EngineStalledSinkMemory shows that memory stays bounded while a sink accepts nothing.
func EngineStalledSinkMemory(b *testing.B) {
	for range b.N {
		stalledSink(b)
	}
}

func stalledSink(b *testing.B) {
	const bound = 64 << 20
	stuck := make(chan struct{})
	stalled := connector.SinkOf(connector.Spec{Type: "stalled", Summary: "Takes nothing."}, func(context.Context, none, connector.Env) (connector.Sink, error) {
		return &stalledWriter{stuck}, nil
	})
	cfg := pipeline([]config.Source{{Name: "generate", Type: "generate", Config: raw(`{"size":%d}`, recordBytes)}}, nil, []config.Sink{{Name: "stalled", Type: "stalled"}})
	e, err := engine.New(cfg, engine.Options{
		Connectors:  append(connectors.All(), stalled),
		NewChain:    func() (engine.Chain, error) { return transform.Compile(nil, transform.Env{}) },
		MaxInFlight: bound, Drain: time.Nanosecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	before := heap()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	settled(e)
	grown := heap() - before
	cancel()
	<-ended
	b.ReportMetric(float64(grown)/(1<<20), "heap-MiB")
	b.ReportMetric(float64(bound)/(1<<20), "bound-MiB")
	if grown > bound*5/4 {
		b.Errorf("heap grew by %d MiB, limit %d MiB", grown>>20, bound>>20)
	}
}

// settled returns once the engine has stopped reading.
func settled(e *engine.Engine) {
	last, since := int64(-1), time.Now()
	for time.Since(since) < 500*time.Millisecond {
		if n := e.Status().Records.In; n != last || n == 0 {
			last, since = n, time.Now()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

type stalledWriter struct{ stuck chan struct{} }

func (s *stalledWriter) Write(ctx context.Context, _ *record.Batch) error {
	select {
	case <-s.stuck:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (s *stalledWriter) Close(context.Context) error { return nil }
