// SPDX-License-Identifier: Apache-2.0

package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// SinkHarness is one sink with an empty destination of its own.
type SinkHarness struct {
	Common
	// Stored returns everything the destination holds, each as a JSON object with n and text, read without the
	// sink. It is called while the sink is open.
	Stored func(t testing.TB) [][]byte
	// Ordered: the destination preserves the write order.
	Ordered bool
	// Idempotent: a batch that is written twice, with the same origins, is stored once.
	Idempotent bool
	// Keyed: the destination identifies records by content, whatever their origin (an upsert).
	Keyed bool
	// Refused is a value the destination refuses; nil if it accepts everything.
	Refused []byte
	// Discards: nothing is stored, and Stored is not called.
	Discards bool
}

// Sink runs the suite; make returns a harness with an empty destination for each test.
func Sink(t *testing.T, make func(t *testing.T) SinkHarness) {
	common(t, func(t *testing.T) Common { return make(t).Common })
	t.Run("DurableAfterWrite", func(t *testing.T) { h := make(t); h.durable(t) })
	t.Run("EmptyBatch", func(t *testing.T) { h := make(t); h.empty(t) })
	t.Run("BigBatch", func(t *testing.T) { h := make(t); h.big(t) })
	t.Run("RefusedRecord", func(t *testing.T) { h := make(t); h.refused(t) })
	t.Run("RepeatedBatch", func(t *testing.T) { h := make(t); h.repeated(t) })
	t.Run("EqualBatches", func(t *testing.T) { h := make(t); h.equal(t) })
	t.Run("EndedContext", func(t *testing.T) { h := make(t); h.ended(t) })
	t.Run("Reopen", func(t *testing.T) { h := make(t); h.reopen(t) })
}

func (h *SinkHarness) open(t testing.TB) connector.Sink {
	t.Helper()
	sink, err := h.Spec.NewSink(bounded(t), h.decode(t), h.Env)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return sink
}

// batch returns records from to from+n-1 in all the forms the engine passes.
func batch(from, n int) *record.Batch {
	out := &record.Batch{}
	for i := from; i < from+n; i++ {
		var r record.Record
		switch i % 3 {
		case 0:
			r = record.New(Value(i))
		case 1: // changed by a transform
			r = record.FromTree(map[string]any{"n": int64(i), "text": Payload(i)})
		case 2: // indented over several lines
			var pretty bytes.Buffer
			_ = json.Indent(&pretty, Value(i), "", "  ") // Value is valid
			r = record.New(pretty.Bytes())
		}
		r.Key = fmt.Appendf(nil, "key-%d", i)
		r.Origin = fmt.Sprintf("test@%d", i)
		r.Time = time.Unix(1_700_000_000+int64(i), 0).UTC()
		out.Records = append(out.Records, r)
	}
	return out
}

func write(t testing.TB, sink connector.Sink, b *record.Batch) {
	t.Helper()
	if err := sink.Write(bounded(t), b); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

// stored reads everything back and counts each record.
func (h *SinkHarness) stored(t testing.TB) (list []int, counts map[int]int) {
	t.Helper()
	counts = map[int]int{}
	for _, data := range h.Stored(t) {
		n, ok := number(data)
		if !ok {
			t.Errorf("stored record was changed: %.300s", data)
			continue
		}
		list = append(list, n)
		counts[n]++
	}
	return list, counts
}

func (h *SinkHarness) expect(t testing.TB, total int) {
	t.Helper()
	if h.Discards {
		return
	}
	list, counts := h.stored(t)
	if len(list) != total {
		t.Errorf("%d records stored, want %d", len(list), total)
	}
	wrong := 0
	for n := range total {
		if counts[n] != 1 && wrong < 5 {
			wrong++
			t.Errorf("record %d was stored %d times", n, counts[n])
		}
	}
	for i := 1; h.Ordered && i < len(list); i++ {
		if list[i] < list[i-1] {
			t.Fatalf("record %d was stored after %d", list[i], list[i-1])
		}
	}
}

func (h *SinkHarness) durable(t *testing.T) {
	sink := h.open(t)
	defer closeNow(t, sink)
	for i := range 5 {
		b := batch(i*20, 20)
		write(t, sink, b)
		for j := range b.Records {
			if data, err := b.Records[j].Bytes(); err != nil || string(b.Records[j].Key) != fmt.Sprintf("key-%d", i*20+j) {
				t.Errorf("Write changed record %d: %v", j, err)
			} else if n, ok := number(data); !ok || n != i*20+j {
				t.Errorf("Write changed record %d: %s", j, data)
			}
		}
	}
	h.expect(t, 100)
}

func (h *SinkHarness) empty(t *testing.T) {
	sink := h.open(t)
	defer closeNow(t, sink)
	write(t, sink, &record.Batch{})
	write(t, sink, batch(0, 1))
	write(t, sink, &record.Batch{})
	h.expect(t, 1)
}

func (h *SinkHarness) big(t *testing.T) {
	sink := h.open(t)
	defer closeNow(t, sink)
	write(t, sink, batch(0, 10_000))
	h.expect(t, 10_000)
}

// bisect splits a batch that is refused as a whole, as the engine does.
func bisect(t testing.TB, sink connector.Sink, records []record.Record, refused map[string]error) {
	t.Helper()
	err := sink.Write(bounded(t), &record.Batch{Records: records})
	var some *record.Errors
	switch {
	case err == nil:
	case errors.As(err, &some):
		for i, cause := range some.ByIndex {
			refused[records[i].Origin] = cause
		}
	case !errors.Is(err, backend.ErrInvalid):
		t.Fatalf("Write: %v; want *record.Errors or backend.ErrInvalid for a refused record", err)
	case len(records) == 1:
		refused[records[0].Origin] = err
	default:
		half := len(records) / 2
		bisect(t, sink, records[:half], refused)
		bisect(t, sink, records[half:], refused)
	}
}

func (h *SinkHarness) refused(t *testing.T) {
	if h.Refused == nil {
		t.Skip("the destination accepts everything")
	}
	sink := h.open(t)
	defer closeNow(t, sink)
	b := batch(0, 20)
	bad := record.New(h.Refused)
	bad.Origin = "bad"
	records := append(append(append([]record.Record{}, b.Records[:7]...), bad), b.Records[7:]...)
	refused := map[string]error{}
	bisect(t, sink, records, refused)
	if len(refused) != 1 || refused["bad"] == nil {
		t.Errorf("refused %v, want only the bad record", refused)
	}
	if cause := refused["bad"]; cause != nil && strings.Contains(cause.Error(), "CONFIDENTIAL") {
		t.Errorf("the error quotes the record: %v", cause)
	}
	h.expect(t, 20)
	write(t, sink, batch(20, 5))
	h.expect(t, 25)
}

func (h *SinkHarness) repeated(t *testing.T) {
	sink := h.open(t)
	b := batch(0, 30)
	write(t, sink, b)
	write(t, sink, b) // as after a lost response
	closeNow(t, sink)
	sink = h.open(t)
	defer closeNow(t, sink)
	write(t, sink, batch(0, 30)) // as after a restart
	if h.Discards {
		return
	}
	if h.Idempotent {
		h.expect(t, 30)
		return
	}
	_, counts := h.stored(t)
	for n := range 30 {
		if counts[n] < 1 || counts[n] > 3 {
			t.Errorf("record %d was stored %d times after three writes", n, counts[n])
		}
	}
}

// equal checks that batches of other records with equal content are not deduplicated.
func (h *SinkHarness) equal(t *testing.T) {
	if h.Discards || h.Keyed {
		t.Skip("records are identified by their content")
	}
	sink := h.open(t)
	defer closeNow(t, sink)
	for i := range 3 {
		b := batch(0, 2)
		for j := range b.Records {
			b.Records[j].Origin = fmt.Sprintf("test@%d", 1000*(i+1)+j)
		}
		write(t, sink, b)
	}
	for range 2 {
		b := batch(0, 2)
		b.Records[0].Origin, b.Records[1].Origin = "", ""
		write(t, sink, b)
	}
	if list, _ := h.stored(t); len(list) != 10 {
		t.Errorf("%d records stored of five equal batches of two, want 10", len(list))
	}
}

func (h *SinkHarness) ended(t *testing.T) {
	sink := h.open(t)
	defer closeNow(t, sink)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan error, 1)
	go func() { done <- sink.Write(ctx, batch(0, 10)) }()
	select {
	case err := <-done:
		if errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%v wraps backend.ErrInvalid", err)
		}
	case <-time.After(slack):
		t.Fatal("Write did not return after its context ended")
	}
	if !h.Discards && !h.Idempotent {
		return
	}
	write(t, sink, batch(0, 10))
	h.expect(t, 10)
}

func (h *SinkHarness) reopen(t *testing.T) {
	sink := h.open(t)
	write(t, sink, batch(0, 10))
	closeNow(t, sink)
	sink = h.open(t)
	write(t, sink, batch(10, 10))
	closeNow(t, sink)
	h.expect(t, 20)
}
