// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// workerProgram is the program that the Pods of a Pipeline run.
const workerProgram = "dataflow-worker"

// Product is DataFlow in the list of products.
var Product = product.Product{
	Name: "dataflow", AddToScheme: dataflowv1alpha1.AddToScheme, Setup: Setup, Workers: []string{workerProgram},
	Kinds: []validation.Kind{validation.For(&dataflowv1alpha1.Pipeline{}, validate)},
}

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error {
	return SetupWith(d, Backends{Kafka: kafka.New, ClickHouse: clickhouse.New, Postgres: postgres.New}, AskHTTP())
}

// SetupWith is Setup with other clients of backends and workers.
func SetupWith(d *setup.Deps, backends Backends, ask Ask) error {
	mgr := d.Manager
	monitor := NewMonitor(mgr.GetClient(), ask)
	if err := mgr.Add(monitor); err != nil {
		return fmt.Errorf("pipeline monitor: %w", err)
	}
	c := &Controller{
		Client: mgr.GetClient(), Applier: d.Applier, Refs: d.Refs, Backends: backends, Monitor: monitor,
		WorkerImage: d.Options.Images.Of(workerProgram), AllowPrivate: d.Options.AllowPrivateAddresses, DriftInterval: d.Options.DriftInterval,
		checked: memo.New[client.ObjectKey](d.Options.DriftInterval), valid: validation.NewMemo(validate),
	}
	if err := c.index(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	drift := builder.WithPredicates(setup.NotOwnCreate())
	monitored := handler.TypedEnqueueRequestForObject[*dataflowv1alpha1.Pipeline]{}
	users := connections.Users{Reader: mgr.GetClient(), List: func() client.ObjectList { return &dataflowv1alpha1.PipelineList{} }}
	pipelines := setup.Kind[*dataflowv1alpha1.Pipeline]{Name: "pipeline", Like: &dataflowv1alpha1.Pipeline{}, NewPass: c.NewPass, Forget: c.Forget}
	b := pipelines.Builder(d, setup.Deletion()).
		Owns(&appsv1.Deployment{}, drift).Owns(&batchv1.Job{}, drift).Owns(&corev1.Secret{}, drift).Owns(&corev1.Service{}, drift).
		Owns(&networkingv1.NetworkPolicy{}, drift).Owns(&policyv1.PodDisruptionBudget{}, drift).
		Watches(&dataflowv1alpha1.Pipeline{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(users.OfPlatform), builder.WithPredicates(connections.BackendsChanged())).
		WatchesRawSource(source.Channel(monitor.Events, &monitored))
	return pipelines.Complete(d, users.Watch(b, d.Refs.Names, nil))
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	return refs.Index(context.Background(), indexer, &dataflowv1alpha1.Pipeline{}, refs.Fields[*dataflowv1alpha1.Pipeline]{
		connections.IndexSecrets:  func(p *dataflowv1alpha1.Pipeline) []string { return connections.SecretKeys(references(p)) },
		connections.IndexVault:    func(p *dataflowv1alpha1.Pipeline) []string { return connections.VaultKeys(references(p)) },
		connections.IndexPlatform: platformKeys,
		indexExternal:             externalKeys,
	})
}

// references returns the connections that a Pipeline's components name.
func references(p *dataflowv1alpha1.Pipeline) []connections.Target {
	var out []connections.Target
	for _, comp := range components(p) {
		if comp.ref != nil {
			out = append(out, connections.TargetOf(comp.ref, p.Namespace, ""))
		}
	}
	return out
}

// platformKeys returns the Platforms that a Pipeline uses; "namespace/" stands for the only one of its namespace.
func platformKeys(p *dataflowv1alpha1.Pipeline) []string {
	out := connections.PlatformKeys(references(p))
	if p.Spec.PlatformRef != nil {
		out = append(out, cmp.Or(p.Spec.PlatformRef.Namespace, p.Namespace)+"/"+p.Spec.PlatformRef.Name)
	}
	for _, comp := range components(p) {
		info, known := connectorInfo(comp.kind, comp.typ)
		if comp.ref == nil && p.Spec.PlatformRef == nil && known && info.Binding != "" {
			out = append(out, p.Namespace+"/")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rivals returns requests for the Pipelines that name the same external objects: one may win when this one changes.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	pipeline, ok := obj.(*dataflowv1alpha1.Pipeline)
	if !ok {
		return nil
	}
	return refs.Others(ctx, c.Client, pipeline, &dataflowv1alpha1.PipelineList{}, indexExternal, externalKeys(pipeline)...)
}
