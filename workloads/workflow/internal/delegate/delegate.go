// SPDX-License-Identifier: Apache-2.0

// Package delegate is the service's half of the step types pipeline, workflow and job: see package delegated for the worker's.
// It looks for steps that wait for it, does what they ask for, and resumes them with what came of it. Several replicas may work
// on one step: whatever they do has a name of the step's attempt, so that it is done once, and of two answers one counts.
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
	// firstPause is between two looks, which grows to lastPause as long as there is nothing to do.
	firstPause, lastPause = 250 * time.Millisecond, time.Second
	page                  = 1000
	// atOnce bounds what is begun at the same time.
	atOnce = 16
	// callTimeout bounds one look.
	callTimeout = 30 * time.Second
	// sweepEvery is the interval at which abandoned objects are looked up.
	sweepEvery = 2 * time.Second
)

// Launcher starts runs; *launch.Launcher does.
type Launcher interface {
	Start(ctx context.Context, r launch.Request) (launch.Started, error)
}

// Engine is the part of *engine.Engine that this package uses.
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
	// Kubernetes reaches the API server; nil: there is none, and steps that need it fail.
	Kubernetes *rest.Config
	Namespace  string
	Log        *slog.Logger
}

// Delegate does what steps ask for.
type Delegate struct {
	options Options
	store   *store.Store
	hands   map[string]hand
	known   map[store.DelegatedRef]*task
	swept   time.Time
}

// task is a step that waits.
type task struct {
	store.Delegated
	kind, key string
	config    map[string]any
	depth     int
	// begun: begin was called, and is to be followed by check.
	begun  bool
	target string
}

func (t *task) delegation() store.Delegation {
	return store.Delegation{DelegatedRef: t.DelegatedRef, Kind: t.kind, Target: t.target}
}

// hand does what one step type asks for. An error is tried again; what a step is to hear of is an answer.
type hand interface {
	// begin does it, be it for the second time. nil: check tells what came of it.
	begin(ctx context.Context, t *task) (answer map[string]any, err error)
	// check looks how far it is, of all that were begun and have no answer yet.
	check(ctx context.Context, tasks []*task, answer func(*task, map[string]any)) error
	// abandon ends what nobody waits for any more.
	abandon(ctx context.Context, d store.Delegation) error
}

// New prepares a Delegate; Run makes it work.
func New(o Options) (*Delegate, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Delegate{options: o, store: o.Engine.Store(), known: map[store.DelegatedRef]*task{}}
	d.hands = map[string]hand{
		delegated.TypeWorkflow: &workflows{engine: o.Engine, store: d.store, launcher: o.Launcher},
		delegated.TypePipeline: absent("Pipelines"), delegated.TypeJob: absent("Jobs"),
	}
	if o.Kubernetes == nil {
		return d, nil
	}
	cluster, err := newCluster(o.Kubernetes, o.Namespace)
	if err != nil {
		return nil, err
	}
	d.hands[delegated.TypePipeline] = &pipelines{cluster}
	d.hands[delegated.TypeJob] = &jobs{cluster: cluster, store: d.store, logs: cluster.logs}
	return d, nil
}

// Run works until ctx ends.
func (d *Delegate) Run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		did, err := d.look(ctx)
		if err != nil && ctx.Err() == nil {
			d.options.Log.WarnContext(ctx, "delegated steps wait", "error", err)
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

// look does what exists to do, and reports whether that was anything.
func (d *Delegate) look(ctx context.Context) (did bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	fresh, err := d.find(ctx)
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
	for _, t := range d.known {
		if t.begun {
			waiting[t.kind] = append(waiting[t.kind], t)
		}
	}
	for kind, tasks := range waiting {
		errs = append(errs, d.hands[kind].check(ctx, tasks, answer))
	}
	if time.Since(d.swept) >= sweepEvery {
		d.swept = time.Now()
		errs = append(errs, d.sweep(ctx))
	}
	return did || fresh > 0, errors.Join(errs...)
}

// find brings known up to date, and tells how many are new.
func (d *Delegate) find(ctx context.Context) (int, error) {
	seen := map[store.DelegatedRef]bool{}
	var unknown []store.DelegatedRef
	for after, more := store.BeforeDelegated(), true; more; {
		refs, err := d.store.Delegated(ctx, after, page)
		if err != nil {
			return 0, err
		}
		for _, r := range refs {
			seen[r] = true
			if d.known[r] == nil {
				unknown = append(unknown, r)
			}
			after = r
		}
		more = len(refs) == page
	}
	for ref := range d.known {
		if !seen[ref] {
			delete(d.known, ref)
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
		d.known[f.DelegatedRef] = read(f)
	}
	return len(found), nil
}

// read takes what the worker's half wrote.
func read(f store.Delegated) *task {
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

// begin does what is new, or could not be done before.
func (d *Delegate) begin(ctx context.Context, answer func(*task, map[string]any), failed func(error)) {
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, t := range d.known {
		if t.begun {
			continue
		}
		h := d.hands[t.kind]
		if h == nil || t.key == "" {
			answer(t, delegated.Failure(fmt.Sprintf("the service knows no delegated step of type %q", t.kind), true))
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
				t.begun, t.config = true, config(t)
			}
		})
	}
	group.Wait()
}

// config returns what check still needs of it: inputs may be large.
func config(t *task) map[string]any {
	if t.kind == delegated.TypePipeline {
		return t.config
	}
	return map[string]any{"name": t.config["name"]}
}

// resume tells the step what came of it. That it waits no more is another owner's doing, and as good.
func (d *Delegate) resume(ctx context.Context, t *task, data map[string]any) error {
	err := d.options.Engine.Resume(ctx, t.Run, t.Name, t.Item, data)
	if errors.Is(err, backend.ErrInvalid) {
		data = delegated.Failure("what the step gives is too large: "+err.Error(), true)
		err = d.options.Engine.Resume(ctx, t.Run, t.Name, t.Item, data)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return d.store.Settled(ctx, t.DelegatedRef)
}

// sweep ends what was begun for steps that wait no more.
func (d *Delegate) sweep(ctx context.Context) error {
	list, err := d.store.Abandoned(ctx, page)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range list {
		h := d.hands[a.Kind]
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

// absent answers where there is no API server.
type absent string

func (a absent) begin(context.Context, *task) (map[string]any, error) {
	return delegated.Failure(fmt.Sprintf("the service reaches no API server, and so no %s", string(a)), false), nil
}

func (a absent) check(context.Context, []*task, func(*task, map[string]any)) error { return nil }

func (a absent) abandon(context.Context, store.Delegation) error { return nil }

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
