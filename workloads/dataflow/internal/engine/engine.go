// SPDX-License-Identifier: Apache-2.0

// Package engine moves records from sources through transforms to sinks.
//
// The path of a batch:
//
//	Source.Read ─► batcher ─► transforms ─► queue of each sink ─► Sink.Write ─► Source.Ack
//
// A source's batch is acknowledged when every sink, and the dead letter, has written all of it, in the order in
// which the batches were read. Memory is limited in bytes: a source is not read while the budget is used up.
// The engine knows no connector, no format and no transform by name.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Chain is a pipeline's compiled transforms (see transform.Chain).
type Chain interface {
	// Apply transforms the batch in place; see transform.Chain.Apply.
	Apply(ctx context.Context, batch *record.Batch) (transform.Result, error)
	// Empty reports whether a batch passes through untouched.
	Empty() bool
}

// Options configure an engine.
type Options struct {
	// Connectors are the known types.
	Connectors []connector.Spec
	// NewChain compiles the transforms. It is called again after a failure that stops the pipeline, because a
	// chain has state.
	NewChain func() (Chain, error)
	Log      *slog.Logger
	// MaxInFlight limits the bytes of all records that were read and not yet acknowledged (each source may
	// exceed it by one read). 0: four batches, at least 16 MiB.
	MaxInFlight int64
	// Drain limits how long Run continues after its context has ended. 0: 18 s, which including closing
	// everything stays within 25 s.
	Drain time.Duration
}

const (
	defaultDrain   = 18 * time.Second
	minInFlight    = 16 << 20
	openTimeout    = 15 * time.Second
	closeTimeout   = 3 * time.Second
	lagPeriod      = 5 * time.Second
	defaultCount   = 5000
	defaultBytes   = 4 << 20
	defaultPeriod  = 200 * time.Millisecond
	defaultMaxSize = 16 << 20
	deadLetterName = "deadLetter"
)

// ErrNotDrained is returned by Run when records that were read could not be written in time. They stay
// unacknowledged and are read again by the next worker.
var ErrNotDrained = errors.New("not all records were written in time")

// Engine runs one pipeline.
type Engine struct {
	cfg   config.Pipeline
	hash  string
	opts  Options
	log   *slog.Logger
	chain Chain

	budget     *budget
	sources    []*sourceRunner
	sinks      []*sinkRunner
	deadLetter *sinkRunner // nil: none
	input      chan *unit
	metrics    *metrics

	mu          sync.Mutex
	connections map[string]map[string]string
	running     bool
	draining    bool
	finished    bool
	holdError   string // why the pipeline is blocked; "" if it is not
	done        chan struct{}

	counts counters
	rates  rates
}

// New checks the configuration and builds an engine; it does not connect.
func New(cfg *config.Pipeline, opts Options) (*Engine, error) {
	e := &Engine{cfg: *cfg, hash: cfg.Hash(), opts: opts, log: opts.Log, input: make(chan *unit), done: make(chan struct{})}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.setDefaults()
	e.connections = cfg.Connections
	e.budget = newBudget(e.opts.MaxInFlight)
	e.metrics = newMetrics(e)
	if err := e.build(); err != nil {
		return nil, err
	}
	chain, err := opts.NewChain()
	if err != nil {
		return nil, err
	}
	e.chain = chain
	return e, nil
}

func (e *Engine) setDefaults() {
	b := &e.cfg.Batching
	if b.Count <= 0 {
		b.Count = defaultCount
	}
	if b.Bytes <= 0 {
		b.Bytes = defaultBytes
	}
	if b.Period <= 0 {
		b.Period = config.Duration(defaultPeriod)
	}
	if e.cfg.MaxRecordBytes <= 0 {
		e.cfg.MaxRecordBytes = defaultMaxSize
	}
	if e.opts.MaxInFlight <= 0 {
		e.opts.MaxInFlight = max(4*b.Bytes, minInFlight)
	}
	if e.opts.Drain <= 0 {
		e.opts.Drain = defaultDrain
	}
}

// build creates the runners of all components.
func (e *Engine) build() error {
	if len(e.cfg.Sources) == 0 || len(e.cfg.Sinks) == 0 {
		return fmt.Errorf("a pipeline needs at least one source and one sink: %w", backend.ErrInvalid)
	}
	for i := range e.cfg.Sources {
		cfg := &e.cfg.Sources[i]
		runner, err := newSourceRunner(e, cfg)
		if err != nil {
			return fmt.Errorf("sources[%d].%w", i, err)
		}
		e.sources = append(e.sources, runner)
	}
	for i := range e.cfg.Sinks {
		runner, err := newSinkRunner(e, &e.cfg.Sinks[i], false)
		if err != nil {
			return fmt.Errorf("sinks[%d].%w", i, err)
		}
		e.sinks = append(e.sinks, runner)
	}
	if e.cfg.DeadLetter != nil {
		cfg := *e.cfg.DeadLetter
		if cfg.Name == "" {
			cfg.Name = deadLetterName
		}
		runner, err := newSinkRunner(e, &cfg, true)
		if err != nil {
			return fmt.Errorf("deadLetter.%w", err)
		}
		e.deadLetter = runner
		return nil
	}
	for i := range e.cfg.Sinks {
		if e.cfg.Sinks[i].OnError == config.OnErrorDeadLetter {
			return fmt.Errorf("sinks[%d].onError: DeadLetter needs a deadLetter: %w", i, backend.ErrInvalid)
		}
	}
	for i := range e.cfg.Transforms {
		if e.cfg.Transforms[i].OnError == config.OnErrorDeadLetter {
			return fmt.Errorf("transforms[%d].onError: DeadLetter needs a deadLetter: %w", i, backend.ErrInvalid)
		}
	}
	return nil
}

// resolve decodes a component's configuration and finds its type and codec.
func (e *Engine) resolve(kind connector.Kind, typ string, raw json.RawMessage, format *config.Codec) (connector.Spec, any, codec.Codec, error) {
	for _, spec := range e.opts.Connectors {
		if spec.Kind != kind || spec.Type != typ {
			continue
		}
		decoded, err := connector.Decode(spec, raw)
		if err != nil {
			return spec, nil, nil, err
		}
		name, options := spec.Codec, json.RawMessage(nil)
		if format != nil && format.Format != "" {
			name, options = format.Format, format.Options
		}
		if name == "" {
			name = "raw"
		}
		selected, err := codec.New(name, options)
		return spec, decoded, selected, err
	}
	return connector.Spec{}, nil, nil, fmt.Errorf("type: there is no %s of type %q: %w", kind, typ, backend.ErrInvalid)
}

// env returns the Env a connector is opened with.
func (e *Engine) env(component, connection string, format codec.Codec) connector.Env {
	return connector.Env{
		Pipeline:       e.cfg.Namespace + "/" + e.cfg.Name,
		Component:      component,
		Group:          e.cfg.ConsumerGroup,
		Binding:        backend.ParseBinding(e.connection(connection)),
		Codec:          format,
		Batching:       e.cfg.Batching,
		MaxRecordBytes: e.cfg.MaxRecordBytes,
		Log:            e.log.With("component", component),
	}
}

func (e *Engine) connection(name string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.connections[name]
}

// Run moves records until the context ends, then drains: it stops reading, writes and acknowledges what was
// read, and closes everything. It returns nil if nothing was left. A pipeline whose sources are all finished
// keeps serving its status until the context ends.
func (e *Engine) Run(ctx context.Context) error {
	// work outlives ctx, so that what was read can still be written.
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	e.setRunning(true)
	defer e.setRunning(false)

	var sampler, writers, readers sync.WaitGroup
	sampler.Go(func() { e.sample(work) })
	for _, sink := range e.allSinks() {
		writers.Go(func() { sink.run(work) })
	}
	processed := make(chan struct{})
	go func() { defer close(processed); e.process(work) }()
	for _, source := range e.sources {
		readers.Go(func() { source.run(ctx, work) })
	}
	read := make(chan struct{})
	go func() { readers.Wait(); close(read) }()

	select {
	case <-read:
		if ctx.Err() == nil {
			e.setFinished()
			<-ctx.Done()
		}
	case <-ctx.Done():
	}
	e.setDraining()
	err := e.awaitDrain(read, abort)
	close(e.input)
	<-processed
	abort()
	writers.Wait()
	sampler.Wait()
	return err
}

func (e *Engine) awaitDrain(read <-chan struct{}, abort func()) error {
	timer := time.NewTimer(e.opts.Drain)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
		abort()
		<-read
	}
	if left := e.budget.inFlight(); left > 0 {
		e.log.Warn("stopped before everything was written; the rest will be read again", "bytes", left)
		return ErrNotDrained
	}
	return nil
}

// Reload replaces the connections. Only components whose connection changed are drained, closed and reopened.
func (e *Engine) Reload(connections map[string]map[string]string) {
	e.mu.Lock()
	old := e.connections
	e.connections = connections
	e.mu.Unlock()
	changed := func(name string) bool { return name != "" && !maps.Equal(old[name], connections[name]) }
	for _, source := range e.sources {
		if changed(source.cfg.Connection) {
			source.reload.set()
		}
	}
	for _, sink := range e.allSinks() {
		if changed(sink.cfg.Connection) {
			sink.reload.set()
		}
	}
}

// Done is closed when every source is bounded and finished, and all of it is acknowledged.
func (e *Engine) Done() <-chan struct{} { return e.done }

// allSinks returns the sinks and the dead letter.
func (e *Engine) allSinks() []*sinkRunner {
	if e.deadLetter == nil {
		return e.sinks
	}
	return append(e.sinks[:len(e.sinks):len(e.sinks)], e.deadLetter)
}
