// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

type fakeConfig struct{}

var errTransient = errors.New("the fake is unavailable")

// topic is a fake log of numbered records with a committed position that outlives its readers.
type topic struct {
	t     testing.TB
	mu    sync.Mutex
	count int // records in the log
	size  int // bytes of a record

	committed int
	opened    int
	closed    int
	readers   int
	bindings  []string // the password each open used

	bounded  bool
	chunk    int // records per read; 0: random
	openErr  func() error
	readErr  func() error
	onAck    func(position int)
	maxAhead int
}

func (l *topic) spec() connector.Spec {
	return connector.SourceOf(connector.Spec{Type: "topic", Summary: "A fake."}, func(_ context.Context, _ fakeConfig, env connector.Env) (connector.Source, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.openErr != nil {
			if err := l.openErr(); err != nil {
				return nil, err
			}
		}
		l.opened++
		l.readers++
		l.bindings = append(l.bindings, env.Binding.Password)
		return &reader{log: l, next: l.committed, acked: l.committed}, nil
	})
}

func (l *topic) position() int { l.mu.Lock(); defer l.mu.Unlock(); return l.committed }

type reader struct {
	log         *topic
	next, acked int
}

type place struct{ from, to int }

func (r *reader) Read(ctx context.Context) (*record.Batch, error) {
	l := r.log
	l.mu.Lock()
	if l.readErr != nil {
		if err := l.readErr(); err != nil {
			l.mu.Unlock()
			return nil, err
		}
	}
	n := l.chunk
	if n == 0 {
		n = 1 + rand.N(40)
	}
	n = min(n, l.count-r.next)
	l.maxAhead = max(l.maxAhead, r.next-l.committed)
	l.mu.Unlock()
	if n == 0 {
		if l.bounded {
			return nil, connector.ErrFinished
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	batch := &record.Batch{Position: place{r.next, r.next + n}}
	for i := r.next; i < r.next+n; i++ {
		value := fmt.Appendf(nil, "%0*d", max(l.size, 1), i)
		rec := record.New(value)
		rec.Origin = "topic/0@" + strconv.Itoa(i)
		batch.Records = append(batch.Records, rec)
	}
	r.next += n
	return batch, nil
}

func (r *reader) Ack(_ context.Context, batches []*record.Batch) error {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range batches {
		p := b.Position.(place)
		if p.from != r.acked {
			l.t.Errorf("Ack out of order: batch begins at %d, want %d", p.from, r.acked)
		}
		r.acked = p.to
		l.committed = max(l.committed, p.to)
	}
	if l.onAck != nil {
		l.onAck(l.committed)
	}
	return nil
}

func (r *reader) Close(context.Context) error {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.log.closed++
	r.log.readers--
	return nil
}

// store is a fake destination: what it holds outlives its writers.
type store struct {
	typ string
	mu  sync.Mutex
	// got counts writes per record number.
	got      map[int]int
	headers  map[int]map[string]string
	order    []int
	largest  int
	writes   int
	opened   int
	bindings []string

	openErr func() error
	// before is called before each write with the batch; its error becomes Write's.
	before func(ctx context.Context, batch *record.Batch) error
	// after is called once the batch is in the store.
	after func() error
	// poison records make the whole batch invalid.
	poison func(number int) bool
}

func newStore(typ string) *store {
	return &store{typ: typ, got: map[int]int{}, headers: map[int]map[string]string{}}
}

func (s *store) spec() connector.Spec {
	return connector.SinkOf(connector.Spec{Type: s.typ, Summary: "A fake."}, func(_ context.Context, _ fakeConfig, env connector.Env) (connector.Sink, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.openErr != nil {
			if err := s.openErr(); err != nil {
				return nil, err
			}
		}
		s.opened++
		s.bindings = append(s.bindings, env.Binding.Password)
		return &writer{s}, nil
	})
}

type writer struct{ *store }

func (w *writer) Write(ctx context.Context, batch *record.Batch) error {
	if w.before != nil {
		if err := w.before(ctx, batch); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	w.largest = max(w.largest, len(batch.Records))
	for i := range batch.Records {
		if w.poison != nil && w.poison(number(&batch.Records[i])) {
			return fmt.Errorf("the store refuses a record: %w", backend.ErrInvalid)
		}
	}
	for i := range batch.Records {
		n := number(&batch.Records[i])
		w.got[n]++
		w.order = append(w.order, n)
		headers := map[string]string{}
		for _, h := range batch.Records[i].Headers {
			headers[h.Key] = string(h.Value)
		}
		w.headers[n] = headers
	}
	if w.after != nil {
		return w.after()
	}
	return nil
}

func (w *writer) Close(context.Context) error { return nil }

func (s *store) has(n int) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.got[n] > 0 }
func (s *store) len() int       { s.mu.Lock(); defer s.mu.Unlock(); return len(s.got) }

func number(r *record.Record) int {
	data, _ := r.Bytes()
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return -1
	}
	return n
}

// chainFunc is a Chain made from a function.
type chainFunc func(batch *record.Batch) (transform.Result, error)

func (f chainFunc) Empty() bool { return f == nil }
func (f chainFunc) Apply(_ context.Context, batch *record.Batch) (transform.Result, error) {
	return f(batch)
}

// pipeline is a configuration over fakes.
type pipeline struct {
	cfg   config.Pipeline
	opts  Options
	chain chainFunc
}

func newPipeline(specs ...connector.Spec) *pipeline {
	p := &pipeline{cfg: config.Pipeline{
		Namespace: "shop", Name: "orders", Delivery: config.AtLeastOnce,
		Batching: config.Batching{Count: 100, Bytes: 1 << 20, Period: config.Duration(50 * time.Millisecond)},
	}}
	for _, spec := range specs {
		p.opts.Connectors = append(p.opts.Connectors, spec)
		if spec.Kind == connector.KindSource {
			p.cfg.Sources = append(p.cfg.Sources, config.Source{Name: "from-" + spec.Type, Type: spec.Type, Connection: "in"})
		} else {
			p.cfg.Sinks = append(p.cfg.Sinks, config.Sink{Name: "to-" + spec.Type, Type: spec.Type, Connection: "out"})
		}
	}
	return p
}

func (p *pipeline) withDeadLetter(s *store) {
	p.opts.Connectors = append(p.opts.Connectors, s.spec())
	p.cfg.DeadLetter = &config.Sink{Name: "dead", Type: s.typ}
}

func (p *pipeline) build(t testing.TB) *Engine {
	t.Helper()
	opts := p.opts
	opts.NewChain = func() (Chain, error) { return p.chain, nil }
	e, err := New(&p.cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// start runs the engine; the returned function stops it and returns Run's error.
func start(e *Engine) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}
