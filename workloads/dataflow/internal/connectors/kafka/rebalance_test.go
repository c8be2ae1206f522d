// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// TestRebalanceLosesNoRecordAndRewindsNoOffset lets a second member join while the first one is reading.
func TestRebalanceLosesNoRecordAndRewindsNoOffset(t *testing.T) {
	const count = 20_000
	topic := newTopic(t, 4)
	write(t, SinkConfig{Topic: topic}, numbered(0, count)...)
	e := env(t, "raw")
	seen := make(chan string, 4*count)
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	pump := func(s connector.Source, slow time.Duration) {
		for {
			batch, err := s.Read(ctx)
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, backend.ErrUnavailable) {
				continue // a broker that has just started has no group coordinator yet
			}
			if err != nil {
				t.Errorf("read: %v", err)
				return
			}
			select {
			case <-time.After(slow):
			case <-ctx.Done():
				return
			}
			for i := range batch.Records {
				data, _ := batch.Records[i].Bytes()
				seen <- string(data)
			}
			if err := s.Ack(ctx, []*record.Batch{batch}); err != nil && ctx.Err() == nil {
				t.Errorf("ack: %v", err)
			}
		}
	}
	first := read(t, SourceConfig{Topic: topic}, e)
	go pump(first, 40*time.Millisecond)
	for range 1000 {
		select {
		case <-seen:
		case <-ctx.Done():
			t.Fatal("the first member reads no record")
		}
	}
	got := map[string]int{}
	second := read(t, SourceConfig{Topic: topic}, e)
	go pump(second, 40*time.Millisecond)
	total := 1000
	for len(got) < count-1000 {
		select {
		case value := <-seen:
			got[value]++
			total++
		case <-ctx.Done():
			t.Fatalf("only %d of %d records were read", len(got), count)
		}
	}
	if n := len(second.(*source).assigned); n != 2 {
		t.Errorf("the second member has %d partitions of 4", n)
	}
	// Both release their partitions in order, so duplicates are rare, but the brief overlap allows some.
	if total > count+1000 {
		t.Errorf("%d records for %d", total, count)
	}
	// Both are done: the committed offset is the end of every partition.
	waitFor(t, "everything is committed", func() bool {
		a, errA := first.(connector.Lagger).Lag(ctx)
		b, errB := second.(connector.Lagger).Lag(ctx)
		return errA == nil && errB == nil && a+b == 0
	})
}
