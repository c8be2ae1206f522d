// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// batch splits and merges batches into units of the configured size, until in is closed.
func (s *session) batch(work context.Context, in <-chan *tracked) {
	b := &builder{s: s, work: work, count: s.e.cfg.Batching.Count, bytes: s.e.cfg.Batching.Bytes, largest: s.e.cfg.MaxRecordBytes}
	period := time.Duration(s.e.cfg.Batching.Period)
	timer := time.NewTimer(period)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case t, ok := <-in:
			if !ok {
				b.flush()
				return
			}
			waiting := b.unit != nil
			b.add(t)
			switch {
			case b.unit == nil:
				timer.Stop()
			case !waiting || b.fresh:
				timer.Reset(period)
			}
			b.fresh = false
		case <-timer.C:
			b.flush()
		}
	}
}

// builder fills one unit at a time.
type builder struct {
	s       *session
	work    context.Context
	count   int
	bytes   int64
	largest int64

	unit  *unit
	size  int64
	fresh bool // the last add started the unit
}

// add takes ownership of a batch. A batch that fits becomes a unit without being copied.
func (b *builder) add(t *tracked) {
	if len(t.batch.Failed) > 0 {
		b.current(t).failed = append(b.unit.failed, t.batch.Failed...)
	}
	records := t.batch.Records
	for len(records) > 0 {
		taken, size, tooLarge := b.fit(records)
		if taken > 0 {
			b.take(t, records[:taken:taken], size)
			records = records[taken:]
		}
		switch {
		case tooLarge:
			b.refuse(t, records[0])
			records = records[1:]
		case len(records) > 0:
			b.flush()
		}
	}
	if b.unit != nil && (len(b.unit.batch.Records) >= b.count || b.size >= b.bytes) {
		b.flush()
	}
	t.finish() // the batcher's own reference
}

// fit returns how many of the records go into the current unit, their bytes, and whether it stopped at one that
// exceeds maxRecordBytes. An empty unit takes at least one.
func (b *builder) fit(records []record.Record) (taken int, size int64, tooLarge bool) {
	have, room := 0, b.bytes
	if b.unit != nil {
		have, room = len(b.unit.batch.Records), b.bytes-b.size
	}
	for taken < len(records) && have+taken < b.count {
		n := int64(records[taken].Len())
		if n > b.largest {
			return taken, size, true
		}
		if size+n > room && have+taken > 0 {
			break
		}
		size += n
		taken++
	}
	return taken, size, false
}

// current returns the current unit and makes t a part of it.
func (b *builder) current(t *tracked) *unit {
	if b.unit == nil {
		b.unit = &unit{source: b.s.r}
		b.fresh = true
	}
	if n := len(b.unit.of); n == 0 || b.unit.of[n-1] != t {
		t.parts.Add(1)
		b.unit.of = append(b.unit.of, t)
	}
	return b.unit
}

func (b *builder) take(t *tracked, records []record.Record, size int64) {
	u := b.current(t)
	if len(u.batch.Records) == 0 {
		u.batch.Records = records // capacity equals length: appending copies
	} else {
		u.batch.Records = append(u.batch.Records, records...)
	}
	b.size += size
}

func (b *builder) refuse(t *tracked, r record.Record) {
	err := fmt.Errorf("record has %d bytes, more than maxRecordBytes %d: %w", r.Len(), b.largest, backend.ErrInvalid)
	u := b.current(t)
	u.failed = append(u.failed, record.Failed{Record: r, Err: err})
}

// flush passes the unit to the transforms.
func (b *builder) flush() {
	if b.unit == nil {
		return
	}
	u := b.unit
	b.unit, b.size = nil, 0
	select {
	case b.s.e.input <- u:
	case <-b.work.Done():
	}
}
