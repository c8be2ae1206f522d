// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// process runs the transforms over each unit and passes it to the sinks, until input is closed.
func (e *Engine) process(work context.Context) {
	defer e.closeQueues()
	for u := range e.input {
		u.writers.Store(1)
		if e.processUnit(work, u) {
			u.finish()
		}
	}
}

// closeQueues ends the sinks; the dead letter ends after those that may still send to it.
func (e *Engine) closeQueues() {
	for _, sink := range e.sinks {
		close(sink.queue)
	}
	if e.deadLetter == nil {
		return
	}
	for _, sink := range e.sinks {
		<-sink.ended
	}
	close(e.deadLetter.queue)
}

// processUnit returns false if work ended before the unit was passed on.
func (e *Engine) processUnit(work context.Context, u *unit) bool {
	var dead []record.Record
	if len(u.failed) > 0 {
		if !e.sourceFailures(work, u, &dead) {
			return false
		}
	}
	if !e.chain.Empty() {
		result, ok := e.apply(work, &u.batch)
		if !ok {
			return false
		}
		e.counts.filtered.Add(int64(result.Filtered))
		dead = append(dead, e.transformFailures(result.Failed)...)
	}
	if len(dead) > 0 && !e.deadLetter.send(work, u, dead) {
		return false
	}
	return e.dispatch(work, u)
}

// sourceFailures sends what the source could not decode to the dead letter; without one it blocks the pipeline,
// because continuing would lose the record.
func (e *Engine) sourceFailures(work context.Context, u *unit, dead *[]record.Record) bool {
	e.counts.errored.Add(int64(len(u.failed)))
	if e.deadLetter == nil {
		first := u.failed[0]
		err := fmt.Errorf("source %s: record %s: %w (to continue, set deadLetter or remove the cause)", u.source.cfg.Name, first.Record.Origin, first.Err)
		e.hold(err)
		<-work.Done()
		return false
	}
	for _, failed := range u.failed {
		*dead = append(*dead, e.deadLetterFor(failed.Record, u.source.cfg.Name, failed.Err))
	}
	return true
}

// apply runs the chain. When a transform with onError Fail refuses a record, the whole batch is retried with a
// new chain, because the old one has already seen its records.
func (e *Engine) apply(work context.Context, batch *record.Batch) (transform.Result, bool) {
	back := newBackoff(config.Retry{})
	original := slices.Clone(batch.Records)
	counted := false
	for {
		var result transform.Result
		err := guard(e, "transforms", func() (err error) { result, err = e.chain.Apply(work, batch); return err })
		if err == nil {
			if back.failures > 0 {
				e.hold(nil)
			}
			return result, true
		}
		if work.Err() != nil {
			return result, false
		}
		if !counted {
			e.counts.errored.Add(1)
			counted = true
		}
		e.hold(err)
		back.wait(work, nil)
		batch.Records = slices.Clone(original)
		if chain, err := e.opts.NewChain(); err == nil {
			e.chain = chain
		}
		if work.Err() != nil {
			return result, false
		}
	}
}

// transformFailures counts failed records and returns the dead letters for them.
func (e *Engine) transformFailures(failed []transform.Failure) []record.Record {
	var dead []record.Record
	for i := range failed {
		f := &failed[i]
		e.counts.errored.Add(1)
		if f.Policy == config.OnErrorDeadLetter && e.deadLetter != nil {
			dead = append(dead, e.deadLetterFor(f.Record, f.Transform, f.Err))
		}
	}
	if len(failed) > 0 {
		e.log.Warn("records failed in transforms", "records", len(failed), "component", failed[0].Transform, "error", failed[0].Err)
	}
	return dead
}

// dispatch sends the unit to every sink that gets any of its records.
func (e *Engine) dispatch(work context.Context, u *unit) bool {
	records := u.batch.Records
	if len(records) == 0 {
		return true
	}
	routed := false
	if !e.chain.Empty() { // only a transform routes
		routed = slices.ContainsFunc(records, func(r record.Record) bool { return r.Sinks != nil })
	}
	shared := len(e.sinks) > 1
	if shared {
		// Sinks run in parallel: encode once here, and give each its own records, whose decoded form each may
		// cache.
		for i := range records {
			_, _ = records[i].Bytes() // a record that cannot be encoded fails again in the sink, under its policy
		}
	}
	for _, sink := range e.sinks {
		own := records
		switch {
		case routed:
			own = routedTo(records, sink.cfg.Name)
		case shared:
			own = slices.Clone(records)
		}
		if len(own) > 0 && !sink.send(work, u, own) {
			return false
		}
	}
	return true
}

// routedTo returns the records that are routed to the sink.
func routedTo(records []record.Record, sink string) []record.Record {
	out := make([]record.Record, 0, len(records))
	for i := range records {
		if records[i].Sinks == nil || slices.Contains(records[i].Sinks, sink) {
			out = append(out, records[i])
		}
	}
	return out
}

// Headers of a dead letter.
const (
	HeaderError     = "error"     // why, without the record's content
	HeaderPipeline  = "pipeline"  // namespace/name
	HeaderComponent = "component" // the source, transform or sink that refused it
	HeaderOrigin    = "origin"    // where the record came from, such as topic/3@1742
	HeaderTime      = "time"      // when it was refused, RFC 3339
	HeaderTruncated = "truncated" // its size in bytes, when the dead letter did not take all of it
)

// deadLetterFor returns the record with headers that explain the failure.
func (e *Engine) deadLetterFor(r record.Record, component string, err error) record.Record {
	added := []record.Header{
		{Key: HeaderError, Value: []byte(scrub(err, nil))},
		{Key: HeaderPipeline, Value: []byte(e.cfg.Namespace + "/" + e.cfg.Name)},
		{Key: HeaderComponent, Value: []byte(component)},
		{Key: HeaderOrigin, Value: []byte(r.Origin)},
		{Key: HeaderTime, Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))},
	}
	r.Headers = append(slices.Clone(r.Headers), added...)
	r.Sinks = nil
	return r
}

// truncatedBytes is how much of a letter is kept if the dead letter refuses it as too large.
const truncatedBytes = 64 << 10

// truncate shortens a refused letter; it returns false if that cannot help.
func truncate(r record.Record) (record.Record, bool) {
	data, err := r.Bytes()
	if err != nil || len(data) <= truncatedBytes {
		return r, false
	}
	r.SetBytes(bytes.Clone(data[:truncatedBytes]))
	r.Headers = append(slices.Clone(r.Headers), record.Header{Key: HeaderTruncated, Value: []byte(strconv.Itoa(len(data)))})
	return r, true
}
