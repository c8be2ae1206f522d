// SPDX-License-Identifier: Apache-2.0

// Package status tells in the resources what the service knows: counts and triggers of Workflows, and the runs that
// WorkflowRuns start. One replica does that. What stays as it is costs no write.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	// Owner of the fields that are written.
	Owner = "itechsmart-workflow-service"

	// lookEvery is the interval at which readiness and the progress of runs are reported.
	lookEvery = time.Second
	// countEvery is the interval at which counts are reported.
	countEvery = 5 * time.Second
	// retryEvery is the delay before a WorkflowRun that could not be started is retried.
	retryEvery = 5 * time.Second
	// grace is how long triggers may take to start after a restart, before they are reported as not ready.
	grace = 10 * time.Second
	// settle is how long the first of many changes waits for the others.
	settle = 50 * time.Millisecond
	// atOnce bounds the writes at the same time.
	atOnce = 8
)

// Triggers tells how they are; *triggers.Triggers does.
type Triggers interface {
	State(workflow, trigger string) (ready bool, message string)
	Schedule(workflow, trigger string) (next, last time.Time)
}

// Launcher starts runs and counts what came; *launch.Launcher does.
type Launcher interface {
	Start(ctx context.Context, r launch.Request) (launch.Started, error)
	Counts(ctx context.Context) (map[string]map[string]launch.Count, error)
}

// Engine is the part of *engine.Engine that this package uses.
type Engine interface {
	Rerun(ctx context.Context, run, from, idempotencyKey string) (id string, created bool, err error)
	Cancel(ctx context.Context, run, reason string) error
	Store() *store.Store
}

// Options configure a Writer.
type Options struct {
	Resources *kinds.Store
	Catalog   *catalog.Catalog
	Triggers  Triggers
	Launcher  Launcher
	Engine    Engine
	// URL of webhooks, without the path.
	URL string
	Log *slog.Logger
}

// Writer writes status.
type Writer struct {
	options Options
	began   time.Time
	written map[types.UID]string // as JSON
	// of Workflows
	counted time.Time
	counts  map[string]map[string]launch.Count
	runs    map[string]store.Summary
	// of WorkflowRuns
	started   map[types.UID]string    // their runs
	later     map[types.UID]time.Time // when to try again
	cancelled map[types.UID]bool
}

// New prepares a Writer; Run makes it work.
func New(o Options) *Writer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Writer{options: o}
}

// Run works until ctx ends. It is for one replica at a time.
func (w *Writer) Run(ctx context.Context) {
	if w.options.Resources == nil {
		<-ctx.Done()
		return
	}
	if !w.options.Catalog.WaitSeen(ctx) {
		return
	}
	w.began = time.Now()
	// Another replica may have written in the meantime.
	w.written, w.started, w.later, w.cancelled = map[types.UID]string{}, map[types.UID]string{}, map[types.UID]time.Time{}, map[types.UID]bool{}
	changed := make(chan struct{}, 1)
	if err := watch(ctx, w.options.Resources, changed); err != nil {
		w.options.Log.ErrorContext(ctx, "status is not written", "error", err)
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		w.prune()
		if err := errors.Join(w.workflows(ctx), w.workflowRuns(ctx)); err != nil && ctx.Err() == nil {
			w.options.Log.WarnContext(ctx, "status is written later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changed:
			sleep(ctx, settle) // many changes are one look
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// maxKnown is the number of deleted resources that are remembered.
const maxKnown = 10_000

// prune forgets what is remembered, where most of it may be of resources that are gone: it is found again in those that are not.
func (w *Writer) prune() {
	if len(w.written) > maxKnown+2*len(w.options.Catalog.All()) {
		clear(w.written)
		clear(w.started)
		clear(w.later)
	}
	if len(w.cancelled) > maxKnown {
		clear(w.cancelled)
	}
}

// write is one status that is to be written.
type write struct {
	object client.Object // a new one with name and UID
	was    any           // what the resource says, where this Writer has not written yet
	status any
}

// apply writes what is another one than before, some at a time.
func (w *Writer) apply(ctx context.Context, writes []write) error {
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, x := range writes {
		data, err := json.Marshal(x.status)
		if err != nil {
			return err
		}
		uid := x.object.GetUID()
		mu.Lock()
		before, known := w.written[uid]
		mu.Unlock()
		if !known {
			was, err := json.Marshal(x.was)
			if err != nil {
				return err
			}
			before = string(was)
		}
		if before == string(data) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			err := w.options.Resources.ApplyStatus(ctx, x.object, Owner, x.status)
			mu.Lock()
			defer mu.Unlock()
			if err == nil || gone(err) {
				w.written[uid] = string(data)
				return
			}
			errs = append(errs, err)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// gone reports whether the resource is there no more, or another one with its name.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
