// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/live"
	"github.com/itechsmart/operator/workloads/internal/product"
	workflowconfig "github.com/itechsmart/operator/workloads/workflow/config"
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

// Product returns Workflow as a product. Each process needs its own value.
func Product() product.Product { return productOf(workerconfig.BindingsDir) }

// productOf is Product with the directory of the bindings.
func productOf(bindingsDir string) product.Product {
	var settings workflowconfig.Settings
	return product.Product{
		Name: productName, Title: "Workflow", Migrations: store.Migrations,
		AddToScheme: workflowv1.AddToScheme, Kinds: []client.Object{&workflowv1.Workflow{}, &workflowv1.WorkflowRun{}},
		Configure: func(c *config.Service) (unknown []string, err error) {
			settings, unknown, err = config.Settings[workflowconfig.Settings](c)
			if err == nil && c.Queue == nil {
				err = errors.New("queue is missing")
			}
			return unknown, err
		},
		LargeBodies:    func() map[string]int64 { return map[string]int64{routeWebhook: webhookBody} },
		OwnIdempotency: []string{routeWebhook, routeStart, routeRerun},
		Assemble: func(life context.Context, parts *product.Parts) (product.Service, error) {
			return assemble(life, &Deps{Parts: parts, Settings: settings, Bindings: bindings.Open(bindingsDir, parts.Log)})
		},
	}
}

// Deps are the parts of the service.
type Deps struct {
	*product.Parts
	Settings workflowconfig.Settings
	Catalog  *catalog.Catalog
	Launcher *launch.Launcher
	Engine   *engine.Engine
	Queue    *queue.Queue
	Bindings *bindings.Bindings
	Delegate *delegate.Delegate
	Triggers *triggers.Triggers
	Status   *status.Writer
}

// background returns what runs besides the REST API on every replica, until ctx is done. For the work of a single replica, a leader
// is elected in the database.
func (d *Deps) background() []func(context.Context) {
	return []func(context.Context){
		d.catalog,
		d.Engine.Run, // supervises runs; the workers execute their steps
		func(ctx context.Context) { d.Launcher.Run(ctx, d.Log) },
		d.Bindings.Run,
		d.Delegate.Run,
		d.Triggers.Run,
		func(ctx context.Context) { db.Alone(ctx, d.Pool, "alone", d.Log, d.alone) },
	}
}

// alone runs the work of a single replica.
func (d *Deps) alone(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { d.Triggers.RunAlone(ctx) })
	group.Go(func() { d.Status.Run(ctx) })
	group.Go(func() { d.Engine.RunPayloads(ctx) })
	group.Wait()
}

func (d *Deps) catalog(ctx context.Context) {
	if err := d.Catalog.Run(ctx); err != nil && ctx.Err() == nil {
		d.Log.Error("stopped watching Workflows", "error", err)
	}
}

func assemble(life context.Context, d *Deps) (product.Service, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	d.CheckOptional("queue", d.Queue.Ready)
	streams := live.New(live.Options{Origins: d.Config.CORS.Origins, Draining: d.Draining, Log: d.Log})
	s := New(Options{Deps: d, Streams: streams, Trail: d.Trail(answer)})
	// These stop before the parts that they use, also when the start is retried.
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
	return s, d.AwaitResources(life, d.Catalog.WaitSeen, "no Workflows are known; active runs continue")
}

// prepare creates the parts, without requests to the database or the queue.
func (d *Deps) prepare() (err error) {
	if d.Queue, err = queue.New(queue.Options{Binding: backend.ParseBinding(d.Config.Queue.Binding), Name: d.Config.Queue.Name, Log: d.Log}); err != nil {
		return err
	}
	bucket, err := payloads.Open(d.Config.Objects)
	if err != nil {
		return err
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
	d.Catalog = catalog.New(catalog.Options{Resources: d.Resources, Platform: d.Config.Platform, Bindings: d.Bindings, Log: d.Log})
	d.Launcher = launch.New(d.Catalog, d.Engine, d.Pool)
	d.Delegate, err = delegate.New(delegate.Options{
		Engine: d.Engine, Launcher: d.Launcher, Kubernetes: d.Kubernetes, Namespace: d.Config.Namespace, Log: d.Log,
	})
	if err != nil {
		return err
	}
	d.Triggers, err = triggers.New(triggers.Options{
		Catalog: d.Catalog, Launcher: d.Launcher, Bindings: d.Bindings, Pool: d.Pool, Kubernetes: d.Kubernetes, Namespace: d.Config.Namespace, Log: d.Log,
	})
	if err != nil {
		return err
	}
	d.Status = status.New(status.Options{
		Resources: d.Resources, Catalog: d.Catalog, Triggers: d.Triggers, Launcher: d.Launcher, Engine: d.Engine, URL: d.Config.URL, Log: d.Log,
	})
	return nil
}

// The routes that implement Idempotency-Key themselves, or whose bodies are large.
const (
	routeWebhook = http.MethodPost + " " + api.Base + pathWebhook
	routeStart   = http.MethodPost + " " + api.Base + pathWorkflowRuns
	routeRerun   = http.MethodPost + " " + api.Base + pathRerun
)
