// SPDX-License-Identifier: Apache-2.0

// Package delegate is the service's half of the step types pipeline, workflow and job; the worker's is package delegated.
// It polls for steps that wait for it, runs them, and resumes them with the outcome. Several replicas may work on one step:
// objects are named after the step's attempt, so that they are created once, and only the first answer counts.
package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	// firstPause is the pause between two polls; it grows to lastPause while there is nothing to do.
	firstPause, lastPause = 250 * time.Millisecond, time.Second
	page                  = 1000
	// atOnce limits how many steps are started concurrently.
	atOnce = 16
	// callTimeout limits one poll.
	callTimeout = 30 * time.Second
	// sweepEvery is the interval at which abandoned objects are cleaned up.
	sweepEvery = 2 * time.Second
)

// Launcher starts runs, as *launch.Launcher does.
type Launcher interface {
	Start(ctx context.Context, r launch.Request) (launch.Started, error)
}

// Engine is the subset of *engine.Engine that this package needs.
type Engine interface {
	Resume(ctx context.Context, run, step string, item int, data any) error
	Outputs(ctx context.Context, run string) (map[string]any, error)
	Cancel(ctx context.Context, run, reason string) error
	Store() *store.Store
}

// Options configure a Delegate.
type Options struct {
	Engine   Engine
	Launcher Launcher
	// Kubernetes is the API server. Without one, steps that need it fail.
	Kubernetes *rest.Config
	Namespace  string
	Log        *slog.Logger
}

// Delegate runs delegated steps.
type Delegate struct {
	options  Options
	store    *store.Store
	handlers map[string]handler
	tasks    map[store.DelegatedRef]*task
	swept    time.Time
}

// task is a waiting step.
type task struct {
	store.Delegated
	kind, key string
	config    map[string]any
	depth     int
	// begun means that begin succeeded, and that check has the answer.
	begun  bool
	target string
}

func (t *task) delegation() store.Delegation {
	return store.Delegation{DelegatedRef: t.DelegatedRef, Kind: t.kind, Target: t.target}
}

// handler runs the steps of one type. An error is retried; a failure of the step is an answer.
type handler interface {
	// begin starts the step; it may be called again. A nil answer means that check will return it.
	begin(ctx context.Context, t *task) (answer map[string]any, err error)
	// check answers those of the tasks that have finished.
	check(ctx context.Context, tasks []*task, answer func(*task, map[string]any)) error
	// abandon stops what a step started but no longer waits for.
	abandon(ctx context.Context, d store.Delegation) error
}

// New returns a Delegate that works while Run runs.
func New(o Options) (*Delegate, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Delegate{options: o, store: o.Engine.Store(), tasks: map[store.DelegatedRef]*task{}}
	d.handlers = map[string]handler{
		delegated.TypeWorkflow: &workflows{engine: o.Engine, store: d.store, launcher: o.Launcher},
		delegated.TypePipeline: noCluster("Pipelines"), delegated.TypeJob: noCluster("Jobs"),
	}
	if o.Kubernetes == nil {
		return d, nil
	}
	cluster, err := newCluster(o.Kubernetes, o.Namespace)
	if err != nil {
		return nil, err
	}
	d.handlers[delegated.TypePipeline] = &pipelines{cluster}
	d.handlers[delegated.TypeJob] = &jobs{cluster: cluster, store: d.store, logs: cluster.logs}
	return d, nil
}

// Run works until ctx is done.
func (d *Delegate) Run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		did, err := d.poll(ctx)
		if err != nil && ctx.Err() == nil {
			d.options.Log.WarnContext(ctx, "delegated steps failed; will retry", "error", err)
		}
		pause = min(2*pause, lastPause)
		if did {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// poll works on all waiting steps, and reports whether there was anything to do.
func (d *Delegate) poll(ctx context.Context) (did bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	fresh, err := d.refresh(ctx)
	if err != nil {
		return false, err
	}
	var mu sync.Mutex
	var errs []error
	answer := func(t *task, data map[string]any) {
		err := d.resume(ctx, t, data)
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
		did = did || err == nil
	}
	d.begin(ctx, answer, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	})
	waiting := map[string][]*task{}
	for _, t := range d.tasks {
		if t.begun {
			waiting[t.kind] = append(waiting[t.kind], t)
		}
	}
	for kind, tasks := range waiting {
		errs = append(errs, d.handlers[kind].check(ctx, tasks, answer))
	}
	if time.Since(d.swept) >= sweepEvery {
		d.swept = time.Now()
		errs = append(errs, d.sweep(ctx))
	}
	return did || fresh > 0, errors.Join(errs...)
}

// refresh updates the tasks from the store, and returns how many are new.
func (d *Delegate) refresh(ctx context.Context) (int, error) {
	seen := map[store.DelegatedRef]bool{}
	var unknown []store.DelegatedRef
	for after, more := store.BeforeDelegated(), true; more; {
		refs, err := d.store.Delegated(ctx, after, page)
		if err != nil {
			return 0, err
		}
		for _, r := range refs {
			seen[r] = true
			if d.tasks[r] == nil {
				unknown = append(unknown, r)
			}
			after = r
		}
		more = len(refs) == page
	}
	for ref := range d.tasks {
		if !seen[ref] {
			delete(d.tasks, ref)
		}
	}
	if len(unknown) == 0 {
		return 0, nil
	}
	found, err := d.store.DelegatedDetails(ctx, unknown)
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		d.tasks[f.DelegatedRef] = newTask(f)
	}
	return len(found), nil
}

// newTask parses what the worker's half wrote.
func newTask(f store.Delegated) *task {
	t := &task{Delegated: f}
	value, err := step.Decode(f.Detail)
	whole, _ := value.(map[string]any)
	detail, _ := whole[delegated.Field].(map[string]any)
	t.Detail = nil // it may be large
	if err != nil {
		return t
	}
	t.kind, _ = detail[delegated.FieldType].(string)
	t.key, _ = detail[delegated.FieldKey].(string)
	t.config, _ = detail[delegated.FieldConfig].(map[string]any)
	if depth, ok := step.Whole(detail[delegated.FieldDepth]); ok {
		t.depth = int(depth)
	}
	return t
}

// begin starts the tasks that are not started yet.
func (d *Delegate) begin(ctx context.Context, answer func(*task, map[string]any), failed func(error)) {
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, t := range d.tasks {
		if t.begun {
			continue
		}
		h := d.handlers[t.kind]
		if h == nil || t.key == "" {
			answer(t, delegated.Failure(fmt.Sprintf("the service has no delegated step type %q", t.kind), true))
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			data, err := h.begin(ctx, t)
			switch {
			case err != nil:
				failed(fmt.Errorf("run %s, step %s: %w", t.Run, t.Name, err))
			case data != nil:
				answer(t, data)
			default:
				t.begun, t.config = true, checkConfig(t)
			}
		})
	}
	group.Wait()
}

// checkConfig returns the part of the configuration that check needs: inputs may be large.
func checkConfig(t *task) map[string]any {
	if t.kind == delegated.TypePipeline {
		return t.config
	}
	return map[string]any{"name": t.config["name"]}
}

// resume resumes the step with its answer. If it no longer waits, another replica resumed it, or its run was canceled.
func (d *Delegate) resume(ctx context.Context, t *task, data map[string]any) error {
	err := d.options.Engine.Resume(ctx, t.Run, t.Name, t.Item, data)
	if errors.Is(err, backend.ErrInvalid) {
		data = delegated.Failure("the step's output is too large: "+err.Error(), true)
		err = d.options.Engine.Resume(ctx, t.Run, t.Name, t.Item, data)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return d.store.Settled(ctx, t.DelegatedRef)
}

// sweep stops what was started for steps that no longer wait for it.
func (d *Delegate) sweep(ctx context.Context) error {
	list, err := d.store.Abandoned(ctx, page)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range list {
		h := d.handlers[a.Kind]
		if h == nil {
			continue
		}
		err := h.abandon(ctx, a)
		if err == nil {
			err = d.store.Settled(ctx, a.DelegatedRef)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// noCluster fails all steps: there is no API server.
type noCluster string

func (a noCluster) begin(context.Context, *task) (map[string]any, error) {
	return delegated.Failure(fmt.Sprintf("the service has no API server, and so no %s", string(a)), false), nil
}

func (a noCluster) check(context.Context, []*task, func(*task, map[string]any)) error { return nil }

func (a noCluster) abandon(context.Context, store.Delegation) error { return nil }

// text returns a field of a step's configuration.
func text(t *task, field string) string {
	value, _ := t.config[field].(string)
	return value
}

func asJSON(value, into any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
