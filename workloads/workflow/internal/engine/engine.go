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
	// Pool connects to the schema that store.Migrations were applied to.
	Pool  *pgxpool.Pool
	Queue *queue.Queue
	// Store limits runs. The engine sets its Publish and Now.
	Store store.Options
	// Executor executes steps. Without one this engine starts and supervises runs, and other engines execute the steps.
	Executor Executor
	// Bucket stores large outputs and bodies. Without one, values that are too large for a row are rejected.
	Bucket payloads.Bucket
	// Compile compiles a stored definition; the default is the function Compile.
	Compile func(spec json.RawMessage) (*definition.Program, error)
	// Namespace is the value of run.namespace in expressions.
	Namespace string
	// Clock is the engine's time; the default is the machine's clock.
	Clock Clock
	// Sweep is the interval at which the engine polls for due work; the default is 250 ms.
	Sweep time.Duration
	// Drain is how long running steps may continue when the engine stops; the default is 20 s. Other workers restart the steps that
	// have not finished by then.
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
	noBucket rate.Sometimes // limits the log lines about a missing bucket
	relay    relay
	programs programs

	name     string // prefix of this engine's claims
	claims   atomic.Int64
	stopping atomic.Bool
	admit    chan struct{} // buffered signal: a run ended, and queued runs may start

	mu   sync.Mutex
	held map[string]*execution // by owner
}

// New returns an engine that works while Run runs.
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

// Payloads returns the store of large values, or nil without a bucket.
func (e *Engine) Payloads() *payloads.Store { return e.payloads }

// Run works until ctx is done. Then it takes no more tasks, lets running steps continue for Drain, and releases the others.
func (e *Engine) Run(ctx context.Context) {
	background, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives the steps
	var group sync.WaitGroup
	for _, loop := range []func(context.Context){e.options.Queue.Run, e.publish, e.remove, e.sweep, e.renew, e.janitor} {
		group.Go(func() { loop(background) })
	}
	if e.options.Executor != nil {
		e.work(ctx)
	}
	<-ctx.Done()
	stop()
	group.Wait()
}

// work takes tasks until ctx is done, and returns when the last step has ended.
func (e *Engine) work(ctx context.Context) {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errShutdown)
	defer context.AfterFunc(ctx, func() {
		e.stopping.Store(true)
		time.AfterFunc(e.options.Drain, func() { stop(errShutdown) })
	})()
	e.options.Queue.Consume(ctx, func(d *queue.Delivery) { e.take(ctx, running, d) })
}

// owner returns the owner of a new claim.
func (e *Engine) owner() string {
	return e.name + "/" + strconv.FormatInt(e.claims.Add(1), 36)
}

// nextOwner returns the owner for the claim that follows a finished step. It is empty while the engine stops.
func (e *Engine) nextOwner() string {
	if e.stopping.Load() {
		return ""
	}
	return e.owner()
}

// Clock tells the time and runs timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

var (
	errShutdown = errors.New("the worker is shutting down")
	errLost     = errors.New("this worker has lost its claim on the step")
	errTimeout  = errors.New("timed out")
	errDeadline = errors.New("the run timed out")
)

const (
	firstPause, lastPause = 20 * time.Millisecond, time.Second
)

// pause waits before the n-th retry. It returns false if ctx is done.
func pause(ctx context.Context, n int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(min(firstPause<<min(n, 10), lastPause)):
		return true
	}
}
