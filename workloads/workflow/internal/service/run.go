// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	redisbackend "github.com/itechsmart/operator/internal/backend/redis"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/live"
	"github.com/itechsmart/operator/workloads/internal/product"
	"github.com/itechsmart/operator/workloads/workflow/internal/bindings"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/delegate"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/status"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/internal/triggers"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// seenGrace is how long a start waits for the API server before it serves without its resources.
const seenGrace = 10 * time.Second

// Product is Workflow on the kit.
func Product() product.Product { return productOf(workerconfig.BindingsDir) }

// productOf reads the bindings in a directory.
func productOf(bindingsDir string) product.Product {
	return product.Product{
		Name: productName, Title: "Workflow", Migrations: store.Migrations,
		AddToScheme: workflowv1.AddToScheme, Kinds: []client.Object{&workflowv1.Workflow{}, &workflowv1.WorkflowRun{}},
		LargeBodies:    func(*config.Service) map[string]int64 { return map[string]int64{routeWebhook: webhookBody} },
		OwnIdempotency: []string{routeWebhook, routeStart, routeRerun},
		OpenRedis: func(binding map[string]string) (*redis.Client, error) {
			return redisbackend.Open(backend.ParseBinding(binding))
		},
		Assemble: func(life context.Context, parts *product.Parts) (product.Service, error) {
			return assemble(life, parts, bindingsDir)
		},
	}
}

// Deps are what the parts of the service are made of.
type Deps struct {
	*product.Parts
	Settings config.Workflow
	Catalog  *catalog.Catalog
	Launcher *launch.Launcher
	Engine   *engine.Engine
	Queue    *queue.Queue
	Bindings *bindings.Bindings
	Delegate *delegate.Delegate
	Triggers *triggers.Triggers
	Status   *status.Writer
}

// background is what runs beside REST until ctx ends, on every replica. A part that one replica alone may do sees to that
// itself, in the database.
func (d *Deps) background() []func(context.Context) {
	return []func(context.Context){
		d.watch,
		d.catalog,
		d.Engine.Run, // starts runs and looks after them; their steps are the workers'
		func(ctx context.Context) { d.Launcher.Run(ctx, d.Log) },
		d.Bindings.Run,
		d.Delegate.Run,
		d.Triggers.Run,
		func(ctx context.Context) { db.Alone(ctx, d.Pool, "alone", d.Log, d.alone) },
	}
}

// alone is what one replica does.
func (d *Deps) alone(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { d.Triggers.RunAlone(ctx) })
	group.Go(func() { d.Status.Run(ctx) })
	group.Go(func() { d.Engine.RunPayloads(ctx) })
	group.Wait()
}

// watch follows the resources.
func (d *Deps) watch(ctx context.Context) {
	if d.Resources == nil {
		return
	}
	if err := d.Resources.Run(ctx); err != nil && ctx.Err() == nil {
		d.Log.Error("the resources are no longer followed", "error", err)
	}
}

func (d *Deps) catalog(ctx context.Context) {
	if err := d.Catalog.Run(ctx); err != nil && ctx.Err() == nil {
		d.Log.Error("the Workflows are no longer followed", "error", err)
	}
}

func assemble(life context.Context, parts *product.Parts, bindingsDir string) (product.Service, error) {
	d, err := prepare(parts, bindingsDir)
	if err != nil {
		return nil, err
	}
	parts.CheckOptional("queue", d.Queue.Ready)
	streams := live.New(live.Options{Origins: d.Config.CORS.Origins, Draining: d.Draining, Log: d.Log})
	s := New(Options{
		Deps: d, Streams: streams,
		Trail: &auditlog.Trail{
			Product: productName, Namespace: d.Config.Namespace, Log: d.Audit, Cursors: d.Cursors, Logger: d.Log, Answer: answer,
		},
	})
	// In a life of their own, which ends before what they need, also when this start is tried again.
	running, stop := context.WithCancel(life)
	var group sync.WaitGroup
	for _, part := range d.background() {
		group.Go(func() { part(running) })
	}
	d.Closer(func() {
		stop()
		group.Wait()
		streams.Wait()
	})
	limited, cancel := context.WithTimeout(life, seenGrace)
	defer cancel()
	if !d.Catalog.WaitSeen(limited) && life.Err() == nil {
		d.Log.Warn("the API server does not answer: until it does, no Workflow is known, and what runs goes on")
	}
	return s, life.Err()
}

// prepare makes what needs neither database nor queue at once.
func prepare(parts *product.Parts, bindingsDir string) (*Deps, error) {
	d := &Deps{Parts: parts}
	if d.Config.Workflow == nil {
		return nil, errors.New("configuration: workflow is missing")
	}
	d.Settings = *d.Config.Workflow
	var err error
	if d.Queue, err = queue.New(queue.Options{Binding: backend.ParseBinding(d.Settings.Queue), Name: d.Settings.QueueName, Log: d.Log}); err != nil {
		return nil, err
	}
	bucket, err := payloads.Open(d.Settings.Objects)
	if err != nil {
		return nil, err
	}
	if bucket != nil {
		d.Closer(func() { _ = bucket.Close() })
		d.CheckOptional("objectStorage", func(ctx context.Context) error {
			_, err := bucket.Ping(ctx)
			return err
		})
	}
	d.Engine = engine.New(engine.Options{
		Pool: d.Pool, Queue: d.Queue, Bucket: bucket, Store: store.Options{MaxOutput: d.Settings.MaxOutputBytes}, Namespace: d.Config.Namespace, Log: d.Log,
	})
	d.Bindings = bindings.Open(bindingsDir, d.Log)
	d.Catalog = catalog.New(catalog.Options{Resources: d.Resources, Platform: d.Config.Platform, Bindings: d.Bindings, Log: d.Log})
	d.Launcher = launch.New(d.Catalog, d.Engine, d.Pool)
	d.Delegate, err = delegate.New(delegate.Options{
		Engine: d.Engine, Launcher: d.Launcher, Kubernetes: d.Kubernetes, Namespace: d.Config.Namespace, Log: d.Log,
	})
	if err != nil {
		return nil, err
	}
	d.Triggers, err = triggers.New(triggers.Options{
		Catalog: d.Catalog, Launcher: d.Launcher, Bindings: d.Bindings, Pool: d.Pool, Kubernetes: d.Kubernetes, Namespace: d.Config.Namespace, Log: d.Log,
	})
	if err != nil {
		return nil, err
	}
	d.Status = status.New(status.Options{
		Resources: d.Resources, Catalog: d.Catalog, Triggers: d.Triggers, Launcher: d.Launcher, Engine: d.Engine, URL: d.Settings.URL, Log: d.Log,
	})
	return d, nil
}

// The routes that see to it themselves that a key counts once, or whose bodies are large.
const (
	routeWebhook = http.MethodPost + " " + base + pathWebhook
	routeStart   = http.MethodPost + " " + base + pathWorkflowRuns
	routeRerun   = http.MethodPost + " " + base + pathRerun
)
