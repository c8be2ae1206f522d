// SPDX-License-Identifier: Apache-2.0

// Package triggers starts runs at scheduled times and for events of RabbitMQ, Kafka and Kubernetes. It watches the Workflows: an
// edit takes effect within a second. Events are acknowledged when their runs are durable.
package triggers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Launcher starts runs, as *launch.Launcher does.
type Launcher interface {
	Start(ctx context.Context, r launch.Request) (launch.Started, error)
	Reject(workflow, trigger string)
	Forget(ctx context.Context, workflow string) error
}

// Bindings returns the connections of Workflows, as *bindings.Bindings does.
type Bindings interface {
	Connection(workflow, connection string) (backend.Binding, error)
	HMAC(workflow, trigger string) []byte
	Subscribe(do func())
}

// Options configure Triggers.
type Options struct {
	Catalog  *catalog.Catalog
	Launcher Launcher
	Bindings Bindings
	Pool     *pgxpool.Pool
	// Kubernetes is the API server, if there is one.
	Kubernetes *rest.Config
	Namespace  string
	// Clock is the clock of schedules; the default is the machine's clock.
	Clock schedule.Clock
	Log   *slog.Logger
}

// Triggers runs the triggers of all Workflows.
type Triggers struct {
	options   Options
	scheduler *schedule.Scheduler
	watches   *watches
	lined     map[string]bool // workflows that have rows in trigger_lines
	changed   chan struct{}
	applied   chan struct{} // closed when the triggers of all initial Workflows are applied

	mu      sync.Mutex
	dirty   map[string]bool
	running map[id]*runner
	states  map[id]state
}

// id identifies a trigger.
type id struct{ workflow, trigger string }

type state struct {
	ready   bool
	message string
}

// New returns Triggers that work while Run runs.
func New(o Options) (*Triggers, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Triggers{
		options: o, lined: map[string]bool{}, changed: make(chan struct{}, 1), applied: make(chan struct{}), dirty: map[string]bool{}, running: map[id]*runner{}, states: map[id]state{},
	}
	t.scheduler = schedule.New(schedule.Options{Store: schedule.Postgres{DB: o.Pool}, Start: t.tick, Clock: o.Clock, Log: o.Log})
	var err error
	t.watches, err = newWatches(t)
	return t, err
}

// Run works until ctx is done. One replica must also call RunAlone.
func (t *Triggers) Run(ctx context.Context) {
	if !t.options.Catalog.WaitSeen(ctx) {
		return
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { t.scheduler.Run(ctx) })
	defer t.stopAll()
	t.options.Catalog.Subscribe(func(name string) { t.touch(name) })
	t.options.Bindings.Subscribe(func() {
		for _, e := range t.options.Catalog.All() {
			t.touch(e.Workflow.Name)
		}
	})
	for !t.forgetGone(ctx) && sleep(ctx, time.Second) { // until the database is available
		continue
	}
	t.follow(ctx)
}

// RunAlone watches Kubernetes, in one replica, until ctx is done.
func (t *Triggers) RunAlone(ctx context.Context) {
	select {
	case <-t.applied: // earlier, cursors of triggers that are not known yet would be deleted
		t.watches.run(ctx)
	case <-ctx.Done():
	}
}

func (t *Triggers) touch(name string) {
	t.mu.Lock()
	t.dirty[name] = true
	t.mu.Unlock()
	notify(t.changed)
}

func notify(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// follow applies changes, and retries those that fail.
func (t *Triggers) follow(ctx context.Context) {
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		}
		t.mu.Lock()
		names := slices.Sorted(maps.Keys(t.dirty))
		t.dirty = map[string]bool{}
		t.mu.Unlock()
		failed := false
		for _, name := range names {
			if err := t.apply(ctx, name); err != nil && ctx.Err() == nil {
				t.options.Log.WarnContext(ctx, "could not apply the triggers of a Workflow; will retry", "workflow", name, "error", err)
				failed = true
				t.touch(name)
			}
		}
		if failed && !sleep(ctx, time.Second) {
			return
		}
		if first && !failed {
			first = false
			close(t.applied)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// apply updates the triggers of a workflow to its current definition.
func (t *Triggers) apply(ctx context.Context, name string) error {
	e, ok := t.options.Catalog.Get(name)
	if !ok {
		t.scheduler.Set(name)
		t.sources(name, nil)
		return t.forget(ctx, name)
	}
	if e.Program == nil {
		t.scheduler.Set(name)
		t.sources(name, nil)
		return nil
	}
	wanted := map[string]source{}
	if !e.Workflow.Spec.Suspend {
		for _, trigger := range e.Program.Workflow().Triggers {
			if trigger.Event != nil {
				wanted[trigger.Name] = t.source(e, trigger)
			}
		}
	}
	t.sources(name, wanted)
	return t.lines(ctx, e)
}

// forget deletes the state of a deleted workflow.
func (t *Triggers) forget(ctx context.Context, name string) error {
	if err := (schedule.Postgres{DB: t.options.Pool}).Forget(ctx, name); err != nil {
		return err
	}
	for _, table := range []string{"trigger_lines", "trigger_cursors"} {
		if _, err := t.options.Pool.Exec(ctx, `DELETE FROM `+table+` WHERE workflow = $1`, name); err != nil {
			return fmt.Errorf("delete the triggers of workflow %s: %w", name, err)
		}
	}
	delete(t.lined, name)
	return t.options.Launcher.Forget(ctx, name)
}

// forgetGone deletes the state of workflows that were deleted while no replica was running. It returns false if the database is
// unavailable.
func (t *Triggers) forgetGone(ctx context.Context) bool {
	rows, err := t.options.Pool.Query(ctx, `SELECT workflow FROM trigger_lines UNION SELECT workflow FROM trigger_cursors UNION SELECT workflow FROM triggers
		UNION SELECT workflow FROM ticks`)
	var names []string
	if err == nil {
		names, err = collect(rows)
	}
	if err != nil {
		t.options.Log.WarnContext(ctx, "could not read the stored triggers; will retry", "error", err)
		return false
	}
	for _, name := range names {
		t.lined[name] = true
		if _, ok := t.options.Catalog.Get(name); !ok {
			t.touch(name)
		}
	}
	return true
}

// State reports whether a trigger can start runs, and otherwise why not and what to do.
func (t *Triggers) State(workflow, trigger string) (ready bool, message string) {
	e, ok := t.options.Catalog.Get(workflow)
	switch {
	case !ok:
		return false, "there is no such Workflow"
	case e.Program == nil:
		return false, "the definition is invalid: see condition Accepted"
	case e.Workflow.Spec.Suspend:
		return false, "spec.suspend is set"
	}
	for _, spec := range e.Program.Workflow().Triggers {
		if spec.Name == trigger {
			return t.stateOf(e, spec)
		}
	}
	return false, "there is no such trigger"
}

func (t *Triggers) stateOf(e *catalog.Entry, spec definition.Trigger) (bool, string) {
	name := e.Workflow.Name
	switch spec.Type {
	case definition.Webhook:
		if owner, _, ok := t.options.Catalog.ByWebhook(spec.Webhook.Path); ok && owner.Workflow.Name != name {
			return false, fmt.Sprintf("the path belongs to Workflow %s, which is older: choose another webhook.path", owner.Workflow.Name)
		}
		if spec.Webhook.Auth != nil && len(t.options.Bindings.HMAC(name, spec.Name)) == 0 {
			ref := spec.Webhook.Auth.HMACSecretRef
			return false, fmt.Sprintf("the key of Secret %s is not available yet: see the Workflow's conditions", ref.Name)
		}
		return true, ""
	case definition.Scheduled, definition.Event:
		t.mu.Lock()
		defer t.mu.Unlock()
		s, known := t.states[id{name, spec.Name}]
		if !known {
			return false, "the trigger is starting"
		}
		return s.ready, s.message
	}
	return true, ""
}

func (t *Triggers) setState(of id, ready bool, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.states[of] = state{ready, message}
}

// Schedule returns a Scheduled trigger's next tick and its last claimed one; each is zero if there is none or it is not known yet.
func (t *Triggers) Schedule(workflow, trigger string) (next, last time.Time) {
	return t.scheduler.Status(workflow, trigger)
}
