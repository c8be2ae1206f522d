// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const (
	// readAhead limits the batches between Read and the batcher; the budget limits their bytes.
	readAhead = 256
	// failingUntilReopen is how long a source may fail before it is reopened. Most recover by themselves, and
	// reopening reads what is in flight again.
	failingUntilReopen = time.Minute
	// handover limits how long a source that is reopened waits for its records to be written.
	handover = 15 * time.Second
)

// sourceRunner keeps one source open across failures.
type sourceRunner struct {
	e       *Engine
	cfg     *config.Source
	spec    connector.Spec
	decoded any
	codec   codec.Codec
	comp    *component
	reload  flag
	lag     atomic.Int64 // -1: unknown
}

func newSourceRunner(e *Engine, cfg *config.Source) (*sourceRunner, error) {
	spec, decoded, format, err := e.resolve(connector.KindSource, cfg.Type, cfg.Config, cfg.Codec)
	if err != nil {
		return nil, err
	}
	r := &sourceRunner{e: e, cfg: cfg, spec: spec, decoded: decoded, codec: format}
	r.comp = newComponent(cfg.Name, cfg.Type, func(err error) string { return scrub(err, e.connection(cfg.Connection)) }, e.log)
	r.lag.Store(-1)
	return r, nil
}

// run opens, reads and reopens until ctx ends or the source is finished. The end of work abandons what is not
// written yet.
func (r *sourceRunner) run(ctx, work context.Context) {
	back := newBackoff(config.Retry{})
	for ctx.Err() == nil {
		src := r.open(ctx, back)
		if src == nil {
			break
		}
		s := &session{r: r, e: r.e, src: src, acks: newAckQueue(r.e.budget)}
		err := s.run(ctx, work)
		r.lag.Store(-1)
		switch {
		case errors.Is(err, connector.ErrFinished):
			r.lag.Store(0)
			r.comp.set(config.StateFinished)
			return
		case errors.Is(err, errReload):
			r.e.log.Info("connection changed, source reopens", "component", r.cfg.Name)
			back.reset()
		case ctx.Err() == nil:
			r.comp.fail(err)
			back.wait(ctx, &r.reload)
		}
	}
	r.comp.set(config.StateStopped)
}

// open retries until it succeeds; nil means that ctx ended.
func (r *sourceRunner) open(ctx context.Context, back *backoff) connector.Source {
	r.comp.set(config.StateConnecting)
	for ctx.Err() == nil {
		select { // This attempt also handles an earlier request.
		case <-r.reload.signal():
		default:
		}
		var src connector.Source
		err := guard(r.e, "source "+r.cfg.Type, func() (err error) {
			opening, cancel := context.WithTimeout(ctx, openTimeout)
			defer cancel()
			src, err = r.spec.NewSource(opening, r.decoded, r.e.env(r.cfg.Name, r.cfg.Connection, r.codec))
			return err
		})
		if err == nil {
			r.comp.succeed(false)
			return src
		}
		if ctx.Err() != nil {
			break
		}
		r.comp.fail(err)
		back.wait(ctx, &r.reload)
	}
	return nil
}

// errReload ends a session because its connection changed.
var errReload = errors.New("connection changed")

// session spans the time from opening a source to closing it.
type session struct {
	r    *sourceRunner
	e    *Engine
	src  connector.Source
	acks *ackQueue
	// broken is the error that ended acknowledging.
	broken atomic.Pointer[error]
	stop   context.CancelFunc
}

// run reads until the source ends or has to be reopened, and returns why.
func (s *session) run(ctx, work context.Context) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	s.stop = stop
	acking, abandon := context.WithCancel(work)
	defer abandon()

	reads := make(chan *tracked, readAhead)
	over, acked := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.read(reading, reads); close(reads) }()
	go func() { s.batch(work, reads); close(over) }()
	go func() { s.acknowledge(acking, over); close(acked) }()
	go s.watchLag(reading)

	var reason error
	select {
	case reason = <-ended:
	case <-s.r.reload.signal():
		stop()
		reason = <-ended
		if !errors.Is(reason, connector.ErrFinished) {
			reason = errReload
		}
	}
	if broken := s.broken.Load(); broken != nil {
		reason = *broken
	}
	stop()
	if ctx.Err() == nil && !errors.Is(reason, connector.ErrFinished) {
		timer := time.AfterFunc(handover, abandon)
		defer timer.Stop()
	}
	<-over
	<-acked
	s.acks.close()
	s.close()
	return reason
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := guard(s.e, "source "+s.r.cfg.Type, func() error { return s.src.Close(ctx) }); err != nil {
		s.e.log.Warn("closing a source failed", "component", s.r.cfg.Name, "error", s.r.comp.scrub(err))
	}
}

// read passes on batches until ctx ends, the source is finished or fails too often in a row.
func (s *session) read(ctx context.Context, out chan<- *tracked) error {
	back, since := newBackoff(config.Retry{}), time.Time{}
	for {
		if err := s.e.budget.wait(ctx); err != nil {
			return err
		}
		var batch *record.Batch
		err := guard(s.e, "source "+s.r.cfg.Type, func() (err error) { batch, err = s.src.Read(ctx); return err })
		switch {
		case err == nil:
		case errors.Is(err, connector.ErrFinished):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			s.r.comp.fail(err)
			if back.failures == 0 {
				since = time.Now()
			} else if time.Since(since) > failingUntilReopen {
				return err
			}
			back.wait(ctx, nil)
			continue
		}
		back.reset()
		if batch == nil || (len(batch.Records) == 0 && len(batch.Failed) == 0 && batch.Position == nil) {
			s.r.comp.succeed(false) // nothing new, but the connection works
			continue
		}
		t := &tracked{batch: batch, session: s, cost: cost(batch)}
		if err := s.accept(ctx, t); err != nil {
			return err
		}
		out <- t // the batcher receives until this channel is closed
	}
}

// accept counts a batch and queues it for Ack.
func (s *session) accept(ctx context.Context, t *tracked) error {
	n := int64(len(t.batch.Records) + len(t.batch.Failed))
	s.r.comp.succeed(true)
	s.r.comp.records.Add(n)
	s.r.comp.bytes.Add(t.cost - n*recordOverhead)
	t.parts.Store(1)
	if s.e.cfg.Delivery == config.AtMostOnce {
		if err := s.ackBatches(ctx, []*record.Batch{t.batch}); err != nil {
			return err
		}
		t.acked = true
	}
	s.acks.push(t)
	return nil
}

// acknowledge calls Ack in the order of Read until reading is over and nothing is left, or ctx ends.
func (s *session) acknowledge(ctx context.Context, over <-chan struct{}) {
	ending := false
	for {
		for done := s.acks.next(); done != nil; done = s.acks.next() {
			if err := s.ackTracked(ctx, done); err != nil {
				s.broken.CompareAndSwap(nil, &err)
				s.stop()
				return
			}
		}
		if ending && s.acks.empty() {
			return
		}
		select {
		case <-s.acks.wake:
		case <-over:
			ending, over = true, nil
		case <-ctx.Done():
			return
		}
	}
}

// ackTracked acknowledges the batches and releases their memory, also after a failure: they will be read again.
func (s *session) ackTracked(ctx context.Context, done []*tracked) error {
	batches := make([]*record.Batch, 0, len(done))
	for _, t := range done {
		if !t.acked {
			batches = append(batches, t.batch)
		}
		defer s.e.budget.release(t.cost)
	}
	if len(batches) == 0 {
		return nil
	}
	return s.ackBatches(ctx, batches)
}

func (s *session) ackBatches(ctx context.Context, batches []*record.Batch) error {
	back, since := newBackoff(config.Retry{}), time.Now()
	for {
		err := guard(s.e, "source "+s.r.cfg.Type, func() error { return s.src.Ack(ctx, batches) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.r.comp.fail(err)
		if time.Since(since) > failingUntilReopen {
			return err
		}
		back.wait(ctx, nil)
	}
}

// watchLag polls the lag of a source that knows it.
func (s *session) watchLag(ctx context.Context) {
	lagger, ok := s.src.(connector.Lagger)
	if !ok {
		return
	}
	ticker := time.NewTicker(lagPeriod)
	defer ticker.Stop()
	for {
		err := guard(s.e, "source "+s.r.cfg.Type, func() error {
			asking, cancel := context.WithTimeout(ctx, lagPeriod)
			defer cancel()
			lag, err := lagger.Lag(asking)
			if err == nil {
				s.r.lag.Store(lag)
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.e.log.Debug("lag is unknown", "component", s.r.cfg.Name, "error", s.r.comp.scrub(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
