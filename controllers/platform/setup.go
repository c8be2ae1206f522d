// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// Product is Platform in the list of products.
var Product = product.Product{
	Name: "platform", AddToScheme: v1alpha1.AddToScheme, Setup: Setup,
	Kinds: []validation.Kind{validation.For(&v1alpha1.Platform{}, validate)},
}

// Setup adds the controllers of Platforms to the manager.
func Setup(d *setup.Deps) error {
	return SetupWith(d, realProbe, postgres.NewTenants)
}

// SetupWith is Setup with another login to backends, and another client of PostgreSQL.
func SetupWith(d *setup.Deps, probe Probe, databases tenants.Open) error {
	mgr := d.Manager
	prober := newProber(probe, d.Options.DriftInterval)
	if err := mgr.Add(prober); err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.Platform{}, referenceIndex, func(obj client.Object) []string {
		return secretsOf(obj.(*v1alpha1.Platform))
	})
	if err != nil {
		return fmt.Errorf("index Platforms: %w", err)
	}
	kinds := &dynamic.Kinds{Mapper: mgr.GetRESTMapper(), Cache: mgr.GetCache(), Wake: ownerByLabels}
	reconciler := newReconciler(d, prober, kinds, databases)
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	byLabels := handler.EnqueueRequestsFromMapFunc(ownerByLabels)
	named := ctrl.NewControllerManagedBy(mgr).Named("platform").WithOptions(d.ControllerOptions()).
		For(&v1alpha1.Platform{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.StatefulSet{}, changed).Owns(&corev1.Service{}, changed).Owns(&corev1.ConfigMap{}, changed).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&networkingv1.NetworkPolicy{}, changed).
		// Credentials and pods have no Platform as their owner.
		Watches(&corev1.Secret{}, byLabels, changed).
		// A key that signs tokens is followed by the next one when every service's Pods have it.
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(platformOf), changed).
		Watches(&corev1.Pod{}, byLabels, changed).
		Watches(&corev1.PersistentVolumeClaim{}, byLabels, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.TypedChannel(prober.wake, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, p *v1alpha1.Platform) []ctrlreconcile.Request {
				return []ctrlreconcile.Request{{NamespacedName: client.ObjectKeyFromObject(p)}}
			}))).
		WatchesRawSource(d.Refs.Names.Source(func(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
			return referring(ctx, mgr.GetClient(), secret)
		}))
	for _, kind := range d.Services {
		named = named.Watches(kind.New(), handler.EnqueueRequestsFromMapFunc(platformOfService), builder.WithPredicates(setup.Existence()))
	}
	controller, err := named.Build(reconciler)
	if err != nil {
		return fmt.Errorf("platform controller: %w", err)
	}
	kinds.Controller = controller
	return nil
}

func newReconciler(d *setup.Deps, prober *prober, kinds *dynamic.Kinds, databases tenants.Open) *reconcile.Reconciler[*v1alpha1.Platform] {
	mgr := d.Manager
	lately := memo.New[client.ObjectKey](d.Options.DriftInterval)
	return &reconcile.Reconciler[*v1alpha1.Platform]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("platform"),
		New: func() *v1alpha1.Platform { return &v1alpha1.Platform{} },
		Forget: func(key client.ObjectKey) {
			prober.forgetAll(key)
			lately.Forget(func(k client.ObjectKey) bool { return k == key })
		},
		NewPass: func(p *v1alpha1.Platform) reconcile.Pass {
			return &pass{
				deps: d, client: mgr.GetClient(), cache: mgr.GetCache(), prober: prober, dynamic: kinds, platform: p,
				databases: databases, lately: lately,
				defaults: defaults{images: d.Options.BackendImages, managerNamespace: d.Options.ManagerNamespace},
			}
		},
	}
}

// platformOf returns the Platform that a child of a service belongs to.
func platformOf(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	name := obj.GetLabels()[common.LabelPlatform]
	if name == "" {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}}}
}

// platformOfService returns the Platform that a service stands on.
func platformOfService(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	s, ok := obj.(common.ServiceObject)
	if !ok {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: s.ServiceSpec().PlatformRef.Name}}}
}

// ownerByLabels maps what belongs to a Platform without being owned by it.
func ownerByLabels(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	labels := obj.GetLabels()
	if labels[common.LabelOwnerKind] != kindPlatform || labels[common.LabelOwnerName] == "" {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: labels[common.LabelOwnerName]}}}
}

// referring finds the Platforms, in whichever namespace, that depend on a Secret.
func referring(ctx context.Context, reader client.Reader, secret client.ObjectKey) []ctrlreconcile.Request {
	return refs.Matching(ctx, reader, &v1alpha1.PlatformList{}, referenceIndex, secret.String())
}
