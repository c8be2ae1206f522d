// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error {
	return setupWith(d, realProbe, stores{databases: postgres.NewTenants, brokers: rabbitmq.New})
}

// stores is how the servers are opened that products' objects are made in.
type stores struct {
	databases openDatabases
	brokers   openBrokers
}

func setupWith(d *setup.Deps, probe probeFunc, open stores) error {
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
	operators := &operators{mapper: mgr.GetRESTMapper(), cache: mgr.GetCache(), wake: ownerByLabels, watched: map[schema.GroupVersionKind]bool{}}
	reconciler := newReconciler(d, prober, operators, open)
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	specChanged := builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))
	byLabels := handler.EnqueueRequestsFromMapFunc(ownerByLabels)
	named := ctrl.NewControllerManagedBy(mgr).Named("platform").WithOptions(d.ControllerOptions()).
		For(&v1alpha1.Platform{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.StatefulSet{}, changed).Owns(&corev1.Service{}, changed).Owns(&corev1.ConfigMap{}, changed).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&networkingv1.NetworkPolicy{}, changed).
		Owns(&appsv1.Deployment{}, changed).Owns(&corev1.ServiceAccount{}, changed).
		Owns(&rbacv1.Role{}, changed).Owns(&rbacv1.RoleBinding{}, changed).
		Owns(&networkingv1.Ingress{}, specChanged).Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(autoscalerChanged())).
		// Credentials and pods have no Platform as their owner.
		Watches(&corev1.Secret{}, byLabels, changed).
		Watches(&corev1.Pod{}, byLabels, changed).
		Watches(&corev1.PersistentVolumeClaim{}, byLabels, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.TypedChannel(prober.wake, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, p *v1alpha1.Platform) []ctrlreconcile.Request {
				return []ctrlreconcile.Request{{NamespacedName: client.ObjectKeyFromObject(p)}}
			}))).
		WatchesRawSource(d.Refs.Names.Source(func(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
			return referring(ctx, mgr.GetClient(), secret)
		}))
	if d.Options.TokenReviewerRole != "" {
		// Of all namespaces' bindings, those of ours: another manager may work in the others.
		ours := predicate.NewPredicateFuncs(func(obj client.Object) bool {
			return len(d.Options.Namespaces) == 0 || slices.Contains(d.Options.Namespaces, obj.GetLabels()[labelOwnerNamespace])
		})
		named = named.Watches(&rbacv1.ClusterRoleBinding{}, byLabels, builder.WithPredicates(ours, predicate.ResourceVersionChangedPredicate{}))
	}
	controller, err := named.Build(reconciler)
	if err != nil {
		return fmt.Errorf("platform controller: %w", err)
	}
	operators.controller = controller
	return nil
}

func newReconciler(d *setup.Deps, prober *prober, operators *operators, open stores) *reconcile.Reconciler[*v1alpha1.Platform] {
	mgr := d.Manager
	tenants := &databases{open: open.databases, checks: newChecks(d.Options.DriftInterval)}
	queues := &queues{open: open.brokers, checks: newChecks(d.Options.DriftInterval)}
	return &reconcile.Reconciler[*v1alpha1.Platform]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("platform"),
		New:    func() *v1alpha1.Platform { return &v1alpha1.Platform{} },
		Forget: prober.forgetAll,
		NewPass: func(p *v1alpha1.Platform) reconcile.Pass {
			return &pass{
				deps: d, client: mgr.GetClient(), cache: mgr.GetCache(), prober: prober, operators: operators, platform: p,
				tenants: tenants, queues: queues,
				defaults: defaults{
					images: d.Options.BackendImages, productImages: d.Options.ProductImages, reviewerRole: d.Options.TokenReviewerRole,
					allowPrivate: d.Options.AllowPrivateAddresses, managerNamespace: d.Options.ManagerNamespace, managerServiceAccount: d.Options.ManagerServiceAccount,
				},
			}
		},
	}
}

// ownerByLabels maps what belongs to a Platform without being owned by it.
func ownerByLabels(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	labels := obj.GetLabels()
	if labels[common.LabelOwnerKind] != kindPlatform || labels[common.LabelOwnerName] == "" {
		return nil
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = labels[labelOwnerNamespace]
	}
	return []ctrlreconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: labels[common.LabelOwnerName]}}}
}

// referring finds the Platforms, in whichever namespace, that depend on a Secret.
func referring(ctx context.Context, reader client.Reader, secret client.ObjectKey) []ctrlreconcile.Request {
	return refs.Matching(ctx, reader, &v1alpha1.PlatformList{}, referenceIndex, secret.String())
}
