// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	defaultSweep = 250 * time.Millisecond
	defaultDrain = 20 * time.Second
)

// Options configure an Engine.
type Options struct {
	// Pool is on the schema that store.Migrations were applied to.
	Pool  *pgxpool.Pool
	Queue *queue.Queue
	// Store bounds what runs may do. Its Publish is the engine's, and so is its Now.
	Store store.Options
	// Executor executes steps. nil: this engine starts runs and looks after them, and leaves the steps to others.
	Executor Executor
	// Bucket stores large outputs and bodies; nil: values that are too large for a row are rejected.
	Bucket payloads.Bucket
	// Compile makes a program of a definition as it is kept; the function of that name when nil.
	Compile func(spec json.RawMessage) (*definition.Program, error)
	// Namespace is run.namespace in expressions.
	Namespace string
	// Clock decides on time; that of the machine when nil.
	Clock Clock
	// Sweep is the interval at which the engine looks for due work; 250 ms.
	Sweep time.Duration
	// Drain is how long running steps may continue when the engine stops; 20 s. Then other workers start them again.
	Drain time.Duration
	Log   *slog.Logger
}

// Engine is safe for concurrent use.
type Engine struct {
	options  Options
	clock    Clock
	log      *slog.Logger
	store    *store.Store
	payloads *payloads.Store
	noBucket rate.Sometimes // a line in the log about that
	relay    relay
	programs programs

	name     string // of this engine, before the number of a claim
	claims   atomic.Int64
	stopping atomic.Bool
	admit    chan struct{} // holds one: a run ended that others may wait for

	mu   sync.Mutex
	held map[string]*execution // by owner
}

// New prepares an engine; Run makes it work.
func New(o Options) *Engine {
	if o.Sweep == 0 {
		o.Sweep = defaultSweep
	}
	if o.Drain == 0 {
		o.Drain = defaultDrain
	}
	if o.Compile == nil {
		o.Compile = Compile
	}
	if o.Clock == nil {
		o.Clock = machineClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{options: o, clock: o.Clock, log: o.Log, name: rand.Text(), admit: make(chan struct{}, 1), held: map[string]*execution{}, noBucket: rate.Sometimes{Interval: time.Minute}}
	e.relay.signal, e.relay.sent = make(chan struct{}, 1), make(chan struct{}, 1)
	o.Store.Now, o.Store.Publish = o.Clock.Now, e.relay.add
	e.store = store.New(o.Pool, o.Store)
	e.payloads = payloads.New(o.Bucket, e.store.Owner, o.Log)
	e.programs.load = e.load
	return e
}

// Store reads runs and their history.
func (e *Engine) Store() *store.Store { return e.store }

// Payloads returns the large values; nil without a bucket.
func (e *Engine) Payloads() *payloads.Store { return e.payloads }

// Run works until ctx ends. Then it takes no more tasks, lets the steps that run go on for Drain, and gives the others back.
func (e *Engine) Run(ctx context.Context) {
	links, unlink := context.WithCancel(context.WithoutCancel(ctx)) // what must outlive the steps
	var group sync.WaitGroup
	for _, loop := range []func(context.Context){e.options.Queue.Run, e.publish, e.remove, e.sweep, e.renew, e.janitor} {
		group.Go(func() { loop(links) })
	}
	if e.options.Executor != nil {
		e.work(ctx)
	}
	<-ctx.Done()
	unlink()
	group.Wait()
}

// work takes tasks until ctx ends, and returns when the last step has ended.
func (e *Engine) work(ctx context.Context) {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errShutdown)
	defer context.AfterFunc(ctx, func() {
		e.stopping.Store(true)
		time.AfterFunc(e.options.Drain, func() { stop(errShutdown) })
	})()
	e.options.Queue.Consume(ctx, func(d *queue.Delivery) { e.take(ctx, running, d) })
}

// owner returns a new claim.
func (e *Engine) owner() string {
	return e.name + "/" + strconv.FormatInt(e.claims.Add(1), 36)
}

// next returns the claim under which who finishes a step continues; none when the engine ends.
func (e *Engine) next() string {
	if e.stopping.Load() {
		return ""
	}
	return e.owner()
}

// Clock returns the time, and runs timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f, in a goroutine of its own, when d is over; stop takes that back.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

var (
	errShutdown = errors.New("the worker ends")
	errLost     = errors.New("the step is not this worker's any more")
	errTimeout  = errors.New("timed out")
	errDeadline = errors.New("the run timed out")
)

const (
	firstPause, lastPause = 20 * time.Millisecond, time.Second
)

// pause waits before the n-th repetition; false: ctx ended.
func pause(ctx context.Context, n int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(min(firstPause<<min(n, 10), lastPause)):
		return true
	}
}
