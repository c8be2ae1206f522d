// SPDX-License-Identifier: Apache-2.0

// Package status writes the status of Workflows (counts and triggers), and starts and reports the runs of WorkflowRuns. One replica
// does that. An unchanged status is not written.
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
	// Owner is the field owner of the writes.
	Owner = "itechsmart-workflow-service"

	// pollEvery is the interval at which readiness and the progress of runs are reported.
	pollEvery = time.Second
	// countEvery is the interval at which counts are reported.
	countEvery = 5 * time.Second
	// retryEvery is the delay before a WorkflowRun that could not be started is retried.
	retryEvery = 5 * time.Second
	// grace is how long triggers may take to start after a restart, before they are reported as not ready.
	grace = 10 * time.Second
	// settle is how long a change waits for others, so that they are handled together.
	settle = 50 * time.Millisecond
	// atOnce bounds the concurrent writes.
	atOnce = 8
)

// Triggers reports the state of triggers, as *triggers.Triggers does.
type Triggers interface {
	State(workflow, trigger string) (ready bool, message string)
	Schedule(workflow, trigger string) (next, last time.Time)
}

// Launcher starts runs and counts events, as *launch.Launcher does.
type Launcher interface {
	Start(ctx context.Context, r launch.Request) (launch.Started, error)
	Counts(ctx context.Context) (map[string]map[string]launch.Count, error)
}

// Engine is the subset of *engine.Engine that this package needs.
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
	// URL is the base URL of webhooks.
	URL string
	Log *slog.Logger
}

// Writer writes the status of Workflows and WorkflowRuns.
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
	later     map[types.UID]time.Time // when to retry
	cancelled map[types.UID]bool
}

// New returns a Writer that works while Run runs.
func New(o Options) *Writer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Writer{options: o}
}

// Run works until ctx is done. Only one replica may run it at a time.
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
		w.options.Log.ErrorContext(ctx, "cannot watch resources; status will not be written", "error", err)
		return
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		w.prune()
		if err := errors.Join(w.workflows(ctx), w.workflowRuns(ctx)); err != nil && ctx.Err() == nil {
			w.options.Log.WarnContext(ctx, "could not write status; will retry", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changed:
			sleep(ctx, settle) // handle many changes at once
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// maxKnown is the number of deleted resources whose state is kept.
const maxKnown = 10_000

// prune clears the state when most of it may belong to deleted resources; that of the others is built again.
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

// write is one status to write.
type write struct {
	object client.Object // has only name and UID
	was    any           // the status of the resource, used until this Writer has written it
	status any
}

// apply writes the statuses that have changed, some at a time.
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

// gone reports whether the resource was deleted, or replaced by another one with its name.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
