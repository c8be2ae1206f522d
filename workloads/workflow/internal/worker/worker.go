// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/internal/backend"
	serviceconfig "github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/server"
	"github.com/itechsmart/operator/workloads/workflow/internal/bindings"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

const (
	defaultSlots = 100
	firstRetry   = 250 * time.Millisecond
	lastRetry    = 5 * time.Second
)

// Process is one worker process.
type Process struct {
	Config *config.Worker
	// Unknown are the keys of the configuration file that this version does not know.
	Unknown []string
	Version string
	// BindingsDir is the directory of the connections file. Addr and MetricsAddr are the addresses to listen on.
	BindingsDir, Addr, MetricsAddr string
	Log                            *slog.Logger
	// Listening is called with the addresses. It may be nil.
	Listening func(address, metrics string)

	queue   *queue.Queue
	started atomic.Bool
}

// Run executes steps until ctx is done, and then finishes those in progress for as long as the engine allows.
func (p *Process) Run(ctx context.Context) error {
	if p.Log == nil {
		p.Log = server.NewLogger(p.Config.LogLevel)
	}
	if len(p.Unknown) > 0 {
		p.Log.Warn("the configuration has keys unknown to this version; they are ignored", "keys", p.Unknown, "version", p.Version)
	}
	private, err := serviceconfig.Prefixes("privateCIDRs", p.Config.PrivateCIDRs)
	if err != nil {
		return err
	}
	pool, err := db.Open(context.WithoutCancel(ctx), p.Config.Database, "itechsmart-workflow-worker")
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer pool.Close()
	slots := p.Config.Slots
	if slots == 0 {
		slots = defaultSlots
	}
	p.queue, err = queue.New(queue.Options{Binding: backend.ParseBinding(p.Config.Queue), Name: p.Config.QueueName, Prefetch: slots, Log: p.Log})
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	bucket, err := payloads.Open(p.Config.Objects)
	if err != nil {
		return err
	}
	if bucket != nil {
		defer bucket.Close() //nolint:errcheck // idle connections
	}
	registry := prometheus.NewRegistry()
	count := newMetrics()
	registry.MustRegister(count, db.NewCollector(pool, "database"))
	web, err := p.serve(registry, pool)
	if err != nil {
		return err
	}
	// Health checks and connections work until the last step has ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	defer group.Wait()
	defer end()
	broken := make(chan error, 1)
	group.Go(func() { broken <- web.Run(life) })
	known := bindings.Open(p.BindingsDir, p.Log)
	group.Go(func() { known.Run(life) })
	set := steps.New(step.Env{Connections: known, Private: private, MaxOutput: p.Config.MaxOutputBytes})
	defer set.Close() //nolint:errcheck // the connections of steps that have ended
	e := engine.New(engine.Options{
		Pool: pool, Queue: p.queue, Store: store.Options{MaxOutput: p.Config.MaxOutputBytes}, Namespace: p.Config.Namespace,
		Bucket: bucket, Executor: count.around(ownConnections{steps: set, known: known, now: time.Now}), Log: p.Log,
	})
	if e.Payloads() != nil {
		registry.MustRegister(e.Payloads())
	}
	if !p.awaitTables(ctx, pool) {
		return nil
	}
	p.started.Store(true)
	working, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(working)
	}()
	p.Log.Info("worker started", "slots", slots, "queue", p.Config.QueueName, "version", p.Version)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-broken:
		stop()
	}
	<-done
	p.Log.Info("worker stopped")
	return err
}

// serve opens the ports, and defines health and readiness.
func (p *Process) serve(registry *prometheus.Registry, pool *pgxpool.Pool) (*server.Server, error) {
	web := server.New(server.Options{
		Name: "workflow-worker", Addr: p.Addr, MetricsAddr: p.MetricsAddr, Log: p.Log, Registry: registry, DrainDelay: -1,
	})
	web.Mount(http404)
	web.Check("database", pool.Ping)
	web.Check("queue", func(context.Context) error {
		if !p.queue.Connected() {
			return errors.New("not connected")
		}
		return nil
	})
	web.Ready(func() error {
		switch {
		case !p.started.Load():
			return errors.New("the Workflow service has not created its tables yet")
		case !p.queue.Connected():
			return errors.New("the queue is not connected")
		}
		return nil
	})
	address, metrics, err := web.Listen()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if p.Listening != nil {
		p.Listening(address.String(), fmt.Sprint(metrics))
	}
	return web, nil
}

// awaitTables waits for the tables that the service creates. It returns false if ctx is done first.
func (p *Process) awaitTables(ctx context.Context, pool *pgxpool.Pool) bool {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		_, err := pool.Exec(ctx, `SELECT FROM outbox, owner LIMIT 0`)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			p.Log.Warn("the worker cannot start yet; will retry", "error", err, "retryAfter", wait)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}
