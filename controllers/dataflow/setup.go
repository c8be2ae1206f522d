// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error {
	return SetupWith(d, Backends{Kafka: kafka.New, ClickHouse: clickhouse.New, Postgres: postgres.New}, AskHTTP())
}

// SetupWith is Setup with other ways to reach backends and workers.
func SetupWith(d *setup.Deps, backends Backends, ask Ask) error {
	mgr := d.Manager
	monitor := NewMonitor(mgr.GetClient(), ask)
	if err := mgr.Add(monitor); err != nil {
		return fmt.Errorf("pipeline monitor: %w", err)
	}
	c := &Controller{
		Client: mgr.GetClient(), Applier: d.Applier, Refs: d.Refs, Backends: backends, Monitor: monitor,
		WorkerImage: d.Options.WorkerImage, AllowPrivate: d.Options.AllowPrivateAddresses, DriftInterval: d.Options.DriftInterval,
		checked: map[types.UID]check{}, valid: map[types.UID]string{},
	}
	if err := c.index(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	reconciler := &reconcile.Reconciler[*dataflowv1alpha1.Pipeline]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("pipeline"),
		New: func() *dataflowv1alpha1.Pipeline { return &dataflowv1alpha1.Pipeline{} }, NewPass: c.NewPass, Forget: c.Forget,
	}
	drift := builder.WithPredicates(setup.NotOwnCreate())
	pipelines := handler.TypedEnqueueRequestForObject[*dataflowv1alpha1.Pipeline]{}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&dataflowv1alpha1.Pipeline{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, deletion()))).
		Owns(&appsv1.Deployment{}, drift).Owns(&batchv1.Job{}, drift).Owns(&corev1.Secret{}, drift).Owns(&corev1.Service{}, drift).
		Owns(&networkingv1.NetworkPolicy{}, drift).Owns(&policyv1.PodDisruptionBudget{}, drift).
		Watches(&dataflowv1alpha1.Pipeline{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.users), builder.WithPredicates(backendsChanged())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.bindingUsers)).
		Watches(&vaultv1alpha1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.vaultUsers), builder.WithPredicates(destinationChanged())).
		WatchesRawSource(d.Refs.Names.Source(c.secretUsers)).
		WatchesRawSource(source.Channel(monitor.Events, &pipelines)).
		WithOptions(d.ControllerOptions()).
		Named("pipeline").
		Complete(reconciler)
	if err != nil {
		return fmt.Errorf("pipeline controller: %w", err)
	}
	return nil
}

// deletion lets the start of a deletion through, which changes no generation of a resource without finalizers.
func deletion() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(obj client.Object) bool { return !obj.GetDeletionTimestamp().IsZero() })
}

// backendsChanged lets through what a Pipeline can see of a Platform.
func backendsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*platformv1alpha1.Platform)
		after, isPlatform := e.ObjectNew.(*platformv1alpha1.Platform)
		return !ok || !isPlatform || before.Generation != after.Generation || !equality.Semantic.DeepEqual(before.Status.Backends, after.Status.Backends)
	}}
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	for field, extract := range map[string]func(*dataflowv1alpha1.Pipeline) []string{
		indexSecrets: secretKeys, indexVault: vaultKeys, indexPlatform: platformKeys, indexExternal: externalKeys,
	} {
		err := indexer.IndexField(context.Background(), &dataflowv1alpha1.Pipeline{}, field, func(obj client.Object) []string {
			pipeline, ok := obj.(*dataflowv1alpha1.Pipeline)
			if !ok {
				return nil
			}
			return extract(pipeline)
		})
		if err != nil {
			return fmt.Errorf("index Pipelines by %s: %w", field, err)
		}
	}
	return nil
}

// secretKeys are the foreign Secrets that a Pipeline names: "namespace/name".
func secretKeys(p *dataflowv1alpha1.Pipeline) []string {
	var out []string
	for _, comp := range components(p) {
		if comp.ref != nil && (comp.ref.Kind == common.ConnectionSecret || comp.ref.Kind == "") {
			out = append(out, or(comp.ref.Namespace, p.Namespace)+"/"+comp.ref.Name)
		}
	}
	return out
}

// platformKeys are the Platforms that a Pipeline names; "namespace/" stands for the only one of its namespace.
func platformKeys(p *dataflowv1alpha1.Pipeline) []string {
	var out []string
	if p.Spec.PlatformRef != nil {
		out = append(out, or(p.Spec.PlatformRef.Namespace, p.Namespace)+"/"+p.Spec.PlatformRef.Name)
	}
	for _, comp := range components(p) {
		info, known := connectorInfo(comp.kind, comp.typ)
		switch {
		case comp.ref != nil && comp.ref.Kind == common.ConnectionPlatform:
			out = append(out, or(comp.ref.Namespace, p.Namespace)+"/"+comp.ref.Name)
		case comp.ref == nil && p.Spec.PlatformRef == nil && known && info.Binding != "":
			out = append(out, p.Namespace+"/")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *Controller) matching(ctx context.Context, field, value string) []ctrlreconcile.Request {
	return refs.Matching(ctx, c.Client, &dataflowv1alpha1.PipelineList{}, field, value)
}

// users are the Pipelines of a Platform.
func (c *Controller) users(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	return refs.PlatformUsers(ctx, c.Client, &dataflowv1alpha1.PipelineList{}, indexPlatform, platform)
}

// bindingUsers are the Pipelines of the Platform, or of the vault Secret, whose binding Secret changed.
func (c *Controller) bindingUsers(ctx context.Context, secret client.Object) []ctrlreconcile.Request {
	if secret.GetLabels()[common.LabelOwnerKind] == string(common.ConnectionVaultSecret) {
		return c.matching(ctx, indexVault, secret.GetNamespace()+"/"+secret.GetAnnotations()[vaultv1alpha1.AnnotationSecret])
	}
	owner := metav1.GetControllerOf(secret)
	if owner == nil || owner.Kind != "Platform" {
		return nil
	}
	platform := &platformv1alpha1.Platform{}
	platform.Namespace, platform.Name = secret.GetNamespace(), owner.Name
	return c.users(ctx, platform)
}

// secretUsers are the Pipelines that name a foreign Secret.
func (c *Controller) secretUsers(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
	return c.matching(ctx, indexSecrets, secret.String())
}

// rivals are the Pipelines that name the same external objects: when the older one goes or changes, a younger may win.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	pipeline, ok := obj.(*dataflowv1alpha1.Pipeline)
	if !ok {
		return nil
	}
	var out []ctrlreconcile.Request
	for _, key := range externalKeys(pipeline) {
		for _, request := range c.matching(ctx, indexExternal, key) {
			if request.NamespacedName != client.ObjectKeyFromObject(pipeline) {
				out = append(out, request)
			}
		}
	}
	return out
}
