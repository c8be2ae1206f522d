// SPDX-License-Identifier: Apache-2.0

package connectortest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// SourceHarness is one source with data of its own to read.
type SourceHarness struct {
	Common
	// Seed makes records from to from+n-1 available, each as Value returns it.
	Seed func(t testing.TB, from, n int)
	// SeedBad makes one message available that the codec refuses; nil if there is no such message.
	SeedBad func(t testing.TB)
	// Bounded: Read ends with connector.ErrFinished after the last record.
	Bounded bool
	// Stateless: the source starts from the beginning each time (generated data).
	Stateless bool
	// Number returns a record's number; nil: the record is as Value returns it.
	Number func(value []byte) (int, bool)
	// NoOrigin: the records have no origin.
	NoOrigin bool
	// Repeats is how many consecutive acknowledged records may be read again after a restart.
	Repeats int
}

// Source runs the suite; make returns an empty harness for each test.
func Source(t *testing.T, make func(t *testing.T) SourceHarness) {
	common(t, func(t *testing.T) Common { return make(t).Common })
	t.Run("DeliversAllOnce", func(t *testing.T) { h := make(t); h.deliversAllOnce(t) })
	t.Run("ResumesAtAcknowledged", func(t *testing.T) { h := make(t); h.resumes(t) })
	t.Run("RereadsUnacknowledged", func(t *testing.T) { h := make(t); h.rereads(t) })
	t.Run("ManyAcknowledgedAtOnce", func(t *testing.T) { h := make(t); h.acksMany(t) })
	t.Run("CancelReturnsPromptly", func(t *testing.T) { h := make(t); h.cancels(t) })
	t.Run("BadRecordStopsNothing", func(t *testing.T) { h := make(t); h.bad(t) })
	t.Run("TellsOrigin", func(t *testing.T) { h := make(t); h.origin(t) })
}

func (h *SourceHarness) open(t testing.TB) connector.Source {
	t.Helper()
	source, err := h.Spec.NewSource(bounded(t), h.decode(t), h.Env)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return source
}

// read returns the next batch that is not empty.
func (h *SourceHarness) read(t testing.TB, ctx context.Context, source connector.Source) (*record.Batch, bool) {
	t.Helper()
	for {
		batch, err := source.Read(ctx)
		if errors.Is(err, connector.ErrFinished) {
			if !h.Bounded {
				t.Fatal("Read returned ErrFinished for an unbounded source")
			}
			return nil, false
		}
		if errors.Is(err, backend.ErrUnavailable) && ctx.Err() == nil {
			continue // the engine retries too, e.g. while a broker starts
		}
		if err != nil {
			t.Fatalf("Read: %v", err)
		}
		if batch == nil {
			t.Fatal("Read returned neither a batch nor an error")
		}
		if batch.Len() > 0 || len(batch.Failed) > 0 {
			return batch, true
		}
	}
}

func (h *SourceHarness) numbers(t testing.TB, batch *record.Batch) []int {
	t.Helper()
	var out []int
	for i := range batch.Records {
		data, err := batch.Records[i].Bytes()
		if err != nil {
			t.Fatal(err)
		}
		read := h.Number
		if read == nil {
			read = number
		}
		n, ok := read(data)
		if !ok {
			t.Fatalf("record was changed: %s", data)
		}
		out = append(out, n)
	}
	return out
}

// collect reads and acknowledges until it has count distinct records (and, if bounded, to the end).
func (h *SourceHarness) collect(t testing.TB, source connector.Source, count int) map[int]int {
	t.Helper()
	ctx := bounded(t)
	seen := map[int]int{}
	for h.Bounded || len(seen) < count {
		batch, more := h.read(t, ctx, source)
		if !more {
			break
		}
		for _, n := range h.numbers(t, batch) {
			seen[n]++
		}
		ack(t, ctx, source, batch)
	}
	if len(seen) != count {
		t.Errorf("%d distinct records, want %d", len(seen), count)
	}
	return seen
}

func ack(t testing.TB, ctx context.Context, source connector.Source, batches ...*record.Batch) {
	t.Helper()
	if err := source.Ack(ctx, batches); err != nil {
		t.Fatalf("Ack: %v", err)
	}
}

func once(t testing.TB, seen map[int]int, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if seen[n] != 1 {
			t.Errorf("record %d was read %d times", n, seen[n])
		}
	}
}

func (h *SourceHarness) deliversAllOnce(t *testing.T) {
	h.Seed(t, 0, 250)
	source := h.open(t)
	defer closeNow(t, source)
	once(t, h.collect(t, source, 250), 0, 250)
	if h.Bounded {
		if _, err := source.Read(bounded(t)); !errors.Is(err, connector.ErrFinished) {
			t.Errorf("Read after the end: %v, want connector.ErrFinished again", err)
		}
		return
	}
	h.Seed(t, 250, 50)
	once(t, h.collect(t, source, 50), 250, 300)
}

// resumes checks that after a restart only unacknowledged records are read again.
func (h *SourceHarness) resumes(t *testing.T) {
	if h.Stateless {
		t.Skip("stores no position")
	}
	h.Seed(t, 0, 100)
	source := h.open(t)
	ctx := bounded(t)
	batch, _ := h.read(t, ctx, source)
	acknowledged := map[int]bool{}
	for _, n := range h.numbers(t, batch) {
		acknowledged[n] = true
	}
	ack(t, ctx, source, batch)
	if len(acknowledged) < 100 {
		h.read(t, ctx, source) // read, never acknowledged
	}
	closeNow(t, source)

	source = h.open(t)
	defer closeNow(t, source)
	if !h.Bounded {
		h.Seed(t, 100, 20)
		h.expectRest(t, source, acknowledged, 120)
		return
	}
	h.expectRest(t, source, acknowledged, 100)
}

func (h *SourceHarness) expectRest(t *testing.T, source connector.Source, acknowledged map[int]bool, total int) {
	t.Helper()
	seen := map[int]int{}
	ctx := bounded(t)
	for missing := total - len(acknowledged); missing > 0 || h.Bounded; {
		batch, more := h.read(t, ctx, source)
		if !more {
			break
		}
		for _, n := range h.numbers(t, batch) {
			if seen[n]++; seen[n] == 1 && !acknowledged[n] {
				missing--
			}
		}
		ack(t, ctx, source, batch)
	}
	repeated := 0
	for n := range total {
		switch {
		case acknowledged[n] && seen[n] > 0:
			repeated++
		case !acknowledged[n] && seen[n] != 1:
			t.Errorf("record %d was not acknowledged and was read %d times after the restart", n, seen[n])
		}
	}
	if repeated > h.Repeats {
		t.Errorf("%d acknowledged records were read again, want at most %d", repeated, h.Repeats)
	}
}

func (h *SourceHarness) rereads(t *testing.T) {
	if h.Stateless {
		t.Skip("stores no position")
	}
	h.Seed(t, 0, 30)
	source := h.open(t)
	h.read(t, bounded(t), source)
	closeNow(t, source)
	source = h.open(t)
	defer closeNow(t, source)
	once(t, h.collect(t, source, 30), 0, 30)
}

func (h *SourceHarness) acksMany(t *testing.T) {
	if h.Stateless {
		t.Skip("stores no position")
	}
	h.Seed(t, 0, 100)
	source := h.open(t)
	ctx := bounded(t)
	var batches []*record.Batch
	acknowledged := map[int]bool{}
	for len(acknowledged) < 40 {
		batch, more := h.read(t, ctx, source)
		if !more {
			break
		}
		batches = append(batches, batch)
		for _, n := range h.numbers(t, batch) {
			acknowledged[n] = true
		}
	}
	ack(t, ctx, source, batches...)
	closeNow(t, source)
	source = h.open(t)
	defer closeNow(t, source)
	h.expectRest(t, source, acknowledged, 100)
}

func (h *SourceHarness) cancels(t *testing.T) {
	h.Seed(t, 0, 10)
	source := h.open(t)
	defer closeNow(t, source)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := source.Read(ctx); err != nil {
				ended <- err
				return
			}
		}
	}()
	// Read must return when the context ends, whether it waits or works.
	timer := time.AfterFunc(200*time.Millisecond, cancel)
	defer timer.Stop()
	defer cancel()
	select {
	case err := <-ended:
		if h.Bounded && errors.Is(err, connector.ErrFinished) {
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Read: %v, want context.Canceled", err)
		}
	case <-time.After(200*time.Millisecond + slack):
		t.Fatal("Read did not return after its context ended")
	}
}

func (h *SourceHarness) bad(t *testing.T) {
	if h.SeedBad == nil {
		t.Skip("the codec refuses nothing")
	}
	h.Seed(t, 0, 5)
	h.SeedBad(t)
	h.Seed(t, 5, 5)
	source := h.open(t)
	defer closeNow(t, source)
	ctx := bounded(t)
	seen, failed := map[int]int{}, 0
	for len(seen) < 10 || failed < 1 {
		batch, more := h.read(t, ctx, source)
		if !more {
			break
		}
		for _, n := range h.numbers(t, batch) {
			seen[n]++
		}
		for _, f := range batch.Failed {
			failed++
			if f.Err == nil {
				t.Error("a failed record has no error")
			}
		}
		ack(t, ctx, source, batch)
	}
	once(t, seen, 0, 10)
	if failed != 1 {
		t.Errorf("%d failed records, want 1", failed)
	}
}

func (h *SourceHarness) origin(t *testing.T) {
	if h.NoOrigin {
		t.Skip("the records have no origin")
	}
	h.Seed(t, 0, 20)
	source := h.open(t)
	defer closeNow(t, source)
	ctx := bounded(t)
	origins := map[string]bool{}
	for count := 0; count < 20; {
		batch, more := h.read(t, ctx, source)
		if !more {
			break
		}
		for i := range batch.Records {
			count++
			origin := batch.Records[i].Origin
			if origin == "" || origins[origin] {
				t.Fatalf("record %d: origin %q is empty or not unique", count, origin)
			}
			origins[origin] = true
		}
	}
}
