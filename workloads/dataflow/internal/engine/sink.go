// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// writeFailuresUntilReopen is how many consecutive writes may fail before the sink is reopened.
const writeFailuresUntilReopen = 3

// sinkRunner keeps one sink open and writes one batch after another.
type sinkRunner struct {
	e       *Engine
	cfg     *config.Sink
	spec    connector.Spec
	decoded any
	codec   codec.Codec
	comp    *component
	dead    bool // this is the dead letter
	reload  flag
	queue   chan job
	ended   chan struct{}
	sink    connector.Sink // nil: not open
}

// job holds a unit's records for one sink.
type job struct {
	unit    *unit
	records []record.Record
}

// refusal is a record that the sink permanently refuses.
type refusal struct {
	record record.Record
	err    error
}

func newSinkRunner(e *Engine, cfg *config.Sink, dead bool) (*sinkRunner, error) {
	spec, decoded, format, err := e.resolve(connector.KindSink, cfg.Type, cfg.Config, cfg.Codec)
	if err != nil {
		return nil, err
	}
	// One batch waits while another is written: enough to keep the sink busy.
	s := &sinkRunner{e: e, cfg: cfg, spec: spec, decoded: decoded, codec: format, dead: dead, queue: make(chan job, 1), ended: make(chan struct{})}
	s.comp = newComponent(cfg.Name, cfg.Type, func(err error) string { return scrub(err, e.connection(cfg.Connection)) }, e.log)
	return s, nil
}

// send queues records of a unit; it returns false if work ended.
func (s *sinkRunner) send(work context.Context, u *unit, records []record.Record) bool {
	u.writers.Add(1)
	select {
	case s.queue <- job{unit: u, records: records}:
		return true
	case <-work.Done():
		return false
	}
}

// run writes until the queue is closed or work ends.
func (s *sinkRunner) run(work context.Context) {
	defer close(s.ended)
	defer s.comp.set(config.StateStopped)
	defer s.close()
	s.open(work)
	for {
		select {
		case j, ok := <-s.queue:
			if !ok {
				return
			}
			if s.deliver(work, j) {
				j.unit.finish()
			}
		case <-s.reload.signal():
			s.e.log.Info("connection changed, sink reopens", "component", s.cfg.Name)
			s.reopen(work)
		case <-work.Done():
			return
		}
	}
}

// open retries until it succeeds or work ends.
func (s *sinkRunner) open(work context.Context) {
	back := newBackoff(s.cfg.Retry)
	if s.comp.state() != config.StateRetrying {
		s.comp.set(config.StateConnecting)
	}
	for work.Err() == nil {
		select { // This attempt also handles an earlier request.
		case <-s.reload.signal():
		default:
		}
		var sink connector.Sink
		err := guard(s.e, "sink "+s.cfg.Type, func() (err error) {
			opening, cancel := context.WithTimeout(work, openTimeout)
			defer cancel()
			sink, err = s.spec.NewSink(opening, s.decoded, s.e.env(s.cfg.Name, s.cfg.Connection, s.codec))
			return err
		})
		if err == nil {
			s.sink = sink
			s.comp.succeed(false)
			return
		}
		if work.Err() != nil {
			return
		}
		s.comp.fail(err)
		back.wait(work, &s.reload)
	}
}

func (s *sinkRunner) close() {
	if s.sink == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := guard(s.e, "sink "+s.cfg.Type, func() error { return s.sink.Close(ctx) }); err != nil {
		s.e.log.Warn("closing a sink failed", "component", s.cfg.Name, "error", s.comp.scrub(err))
	}
	s.sink = nil
}

// deliver writes all records, or applies the sink's policy to them; it returns false if work ended first.
func (s *sinkRunner) deliver(work context.Context, j job) bool {
	records := j.records
	back := newBackoff(s.cfg.Retry)
	counted := false
	for {
		refused, ok := s.write(work, records)
		if !ok {
			return false
		}
		if len(refused) == 0 {
			return true
		}
		if !counted {
			s.e.counts.errored.Add(int64(len(refused)))
			s.comp.errors.Add(int64(len(refused)))
			counted = true
		}
		s.e.log.Warn("sink refuses records", "component", s.cfg.Name, "records", len(refused), "error", s.comp.scrub(refused[0].err))
		if done, ok := s.settle(work, j, refused); done {
			return ok
		}
		// Fail: the pipeline is blocked until an edit helps, but the write is retried now and then.
		first := refused[0]
		s.comp.fail(fmt.Errorf("%d record(s) refused, the first from %s: %w", len(refused), first.record.Origin, first.err))
		if back.wait(work, &s.reload) {
			s.reopen(work)
		}
		if work.Err() != nil {
			return false
		}
		records = remaining(refused, s.dead)
	}
}

// settle applies Drop and DeadLetter; done is false for Fail.
func (s *sinkRunner) settle(work context.Context, j job, refused []refusal) (done, ok bool) {
	switch {
	case s.dead: // there is no other place for them
		return false, false
	case s.cfg.OnError == config.OnErrorDrop:
		return true, true
	case s.cfg.OnError == config.OnErrorDeadLetter && s.e.deadLetter != nil:
		letters := make([]record.Record, 0, len(refused))
		for i := range refused {
			letters = append(letters, s.e.deadLetterFor(refused[i].record, s.cfg.Name, refused[i].err))
		}
		return true, s.e.deadLetter.send(work, j.unit, letters)
	default:
		return false, false
	}
}

// remaining returns the refused records, to be retried. The dead letter retries them truncated.
func remaining(refused []refusal, dead bool) []record.Record {
	out := make([]record.Record, 0, len(refused))
	for i := range refused {
		r := refused[i].record
		if dead {
			r, _ = truncate(r)
		}
		out = append(out, r)
	}
	return out
}

// write makes every record durable or refused. A batch that the sink calls invalid is halved until the refused
// records are isolated; any other error is retried.
func (s *sinkRunner) write(work context.Context, records []record.Record) (refused []refusal, ok bool) {
	back := newBackoff(s.cfg.Retry)
	segments := [][]record.Record{records}
	for len(segments) > 0 {
		segment := segments[0]
		err := s.writeOnce(work, segment)
		var byRecord *record.Errors
		switch {
		case err == nil:
			s.countWritten(segment, nil)
		case work.Err() != nil:
			return nil, false
		case errors.As(err, &byRecord):
			s.countWritten(segment, byRecord)
			for i := range segment {
				if cause, bad := byRecord.ByIndex[i]; bad {
					refused = append(refused, refusal{record: segment[i], err: cause})
				}
			}
		case errors.Is(err, backend.ErrInvalid) && len(segment) > 1:
			half := len(segment) / 2
			segments = append([][]record.Record{segment[:half], segment[half:]}, segments[1:]...)
			continue
		case errors.Is(err, backend.ErrInvalid), s.exhausted(back):
			for i := range segment {
				refused = append(refused, refusal{record: segment[i], err: err})
			}
		default:
			s.retry(work, err, back)
			continue
		}
		back.reset()
		segments = segments[1:]
	}
	return refused, true
}

// exhausted reports whether the next failure would use up a batch's attempts.
func (s *sinkRunner) exhausted(back *backoff) bool {
	return s.cfg.Retry.MaxAttempts > 0 && back.failures+1 >= s.cfg.Retry.MaxAttempts
}

// retry waits after a failed write and reopens the sink now and then, or when the connection changed.
func (s *sinkRunner) retry(work context.Context, err error, back *backoff) {
	s.comp.fail(err)
	s.comp.retries.Add(1)
	timer := time.NewTimer(back.next())
	defer timer.Stop()
	reopen := back.failures%writeFailuresUntilReopen == 0
	select {
	case <-timer.C:
	case <-s.reload.signal():
		reopen = true
	case <-work.Done():
		return
	}
	if reopen {
		s.reopen(work)
	}
}

func (s *sinkRunner) reopen(work context.Context) {
	s.close()
	s.open(work)
}

// errNotOpen occurs only while the engine stops.
var errNotOpen = errors.New("sink is not open")

func (s *sinkRunner) writeOnce(work context.Context, records []record.Record) error {
	if s.sink == nil {
		return errNotOpen
	}
	start := time.Now()
	err := guard(s.e, "sink "+s.cfg.Type, func() error {
		return s.sink.Write(work, &record.Batch{Records: records})
	})
	s.e.metrics.write.WithLabelValues(s.cfg.Name).Observe(time.Since(start).Seconds())
	return err
}

// countWritten counts the durable records.
func (s *sinkRunner) countWritten(records []record.Record, except *record.Errors) {
	n, size := int64(0), int64(0)
	for i := range records {
		if except != nil {
			if _, bad := except.ByIndex[i]; bad {
				continue
			}
		}
		n++
		size += int64(records[i].Len())
	}
	s.comp.records.Add(n)
	s.comp.bytes.Add(size)
	if n > 0 || except == nil {
		s.comp.succeed(true)
	}
}
