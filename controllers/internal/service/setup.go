// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services;secrets;serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;podmonitors,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// What a manager of all namespaces needs to bind services to the role that reviews tokens stands in
// config/rbac/token_reviewer.yaml: a manager of some namespaces must not have it.

// Setup adds the controller of a product's service to the manager.
func Setup(d *setup.Deps, kind *Type) error {
	return SetupWith(d, kind, postgres.NewTenants, rabbitmq.New)
}

// SetupWith is Setup with other clients of PostgreSQL and RabbitMQ.
func SetupWith(d *setup.Deps, kind *Type, databases tenants.Open, brokers func(backend.Binding) (rabbitmq.Admin, error)) error {
	mgr := d.Manager
	gvk, err := apiutil.GVKForObject(kind.New(), mgr.GetScheme())
	if err != nil {
		return fmt.Errorf("service of %s: %w", kind.Product, err)
	}
	if err := Index(mgr.GetFieldIndexer(), kind); err != nil {
		return err
	}
	w := &wiring{deps: d, kind: kind, client: mgr.GetClient(), owner: gvk.Kind}
	kinds := &dynamic.Kinds{Mapper: mgr.GetRESTMapper(), Cache: mgr.GetCache(), Wake: w.byOwner}
	lately, valid := memo.New[comparedKey](d.Options.DriftInterval), validation.NewMemo(kind.check)
	reconciler := &reconcile.Reconciler[Object]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder(strings.ToLower(gvk.Kind)), New: kind.New,
		Forget: func(key client.ObjectKey) {
			lately.Forget(func(k comparedKey) bool { return k.service == key })
			valid.Forget(key)
		},
		NewPass: func(obj Object) reconcile.Pass {
			return &pass{
				deps: d, client: mgr.GetClient(), open: Openers{databases: databases, brokers: brokers}, lately: lately, valid: valid, dynamic: kinds,
				kind: kind, gvk: gvk, service: obj, spec: obj.ServiceSpec(), serving: obj.ServiceStatus().Replicas,
			}
		},
	}
	kinds.Controller, err = w.watch(ctrl.NewControllerManagedBy(mgr).Named(strings.ToLower(gvk.Kind))).
		WithOptions(d.ControllerOptions()).Build(reconciler)
	if err != nil {
		return fmt.Errorf("%s controller: %w", gvk.Kind, err)
	}
	return nil
}

// Index indexes the services of a kind by their Platform, for Of, and by the Secrets that they refer to. Setup does it too.
func Index(indexer client.FieldIndexer, kind *Type) error {
	for field, extract := range map[string]func(Object) []string{
		IndexPlatform: func(o Object) []string { return []string{platformKey(o)} },
		indexSecrets: func(o Object) []string {
			if kind.References == nil {
				return nil
			}
			var out []string
			for _, name := range kind.References(o) {
				out = append(out, o.GetNamespace()+"/"+name)
			}
			return out
		},
	} {
		err := indexer.IndexField(context.Background(), kind.New(), field, func(obj client.Object) []string {
			if o, ok := obj.(Object); ok {
				return extract(o)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("index services of %s by %s: %w", kind.Product, field, err)
		}
	}
	return nil
}

func platformKey(o Object) string { return o.GetNamespace() + "/" + o.ServiceSpec().PlatformRef.Name }

// wiring maps events to the services that they concern.
type wiring struct {
	deps   *setup.Deps
	kind   *Type
	client client.Client
	owner  string // the service kind
}

func (w *wiring) watch(b *builder.Builder) *builder.Builder {
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	specChanged := builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))
	byOwner, byPlatform := handler.EnqueueRequestsFromMapFunc(w.byOwner), handler.EnqueueRequestsFromMapFunc(w.byPlatform)
	b = b.For(w.kind.New(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(w.kind.New(), handler.EnqueueRequestsFromMapFunc(w.rivals), builder.WithPredicates(setup.Existence())).
		Watches(&appsv1.Deployment{}, byOwner, changed).
		Watches(&corev1.Service{}, byOwner, changed).Watches(&corev1.ServiceAccount{}, byOwner, changed).
		Watches(&corev1.Pod{}, byOwner, changed).Watches(&rbacv1.RoleBinding{}, byOwner, changed).
		Watches(&networkingv1.NetworkPolicy{}, byOwner, changed).
		Watches(&policyv1.PodDisruptionBudget{}, byOwner, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&networkingv1.Ingress{}, byOwner, specChanged).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, byOwner, builder.WithPredicates(autoscalerChanged())).
		// Those of the service itself, and those that its Platform makes for it.
		Watches(&corev1.Secret{}, byOwner, changed).Watches(&corev1.Secret{}, byPlatform, changed).
		Watches(&platformv1alpha1.Platform{}, byPlatform, builder.WithPredicates(platformChanged())).
		WatchesRawSource(w.deps.Refs.Names.Source(w.bySecret))
	if w.deps.Options.TokenReviewerRole != "" {
		// Of all namespaces' bindings, those of ours: another manager may work in the others.
		ours := predicate.NewPredicateFuncs(func(obj client.Object) bool {
			namespaces := w.deps.Options.Namespaces
			return len(namespaces) == 0 || slices.Contains(namespaces, obj.GetLabels()[labelOwnerNamespace])
		})
		b = b.Watches(&rbacv1.ClusterRoleBinding{}, byOwner, builder.WithPredicates(ours, predicate.ResourceVersionChangedPredicate{}))
	}
	return b
}

// byOwner returns the services on the Platform of an object that belongs to a service of the kind: its owner, and the younger one
// that waits until the children of a deleted one are gone.
func (w *wiring) byOwner(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	labels := obj.GetLabels()
	if labels[common.LabelOwnerKind] != w.owner || labels[common.LabelPlatform] == "" {
		return nil
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = labels[labelOwnerNamespace]
	}
	return w.matching(ctx, IndexPlatform, namespace+"/"+labels[common.LabelPlatform])
}

// byPlatform returns the services on a Platform, or on the one whose child a Secret is.
func (w *wiring) byPlatform(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	name := obj.GetName()
	if _, isPlatform := obj.(*platformv1alpha1.Platform); !isPlatform {
		if obj.GetLabels()[common.LabelOwnerKind] != "Platform" {
			return nil
		}
		name = obj.GetLabels()[common.LabelOwnerName]
	}
	return w.matching(ctx, IndexPlatform, obj.GetNamespace()+"/"+name)
}

// bySecret returns the services that depend on a user's Secret: by their own specification, or by their Platform's.
func (w *wiring) bySecret(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
	out := w.matching(ctx, indexSecrets, secret.String())
	var platforms platformv1alpha1.PlatformList
	if err := w.client.List(ctx, &platforms, client.InNamespace(secret.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return out // the cache answers; it fails only while the manager stops
	}
	for i := range platforms.Items {
		for _, c := range platforms.Items[i].Spec.Auth.Clients {
			if c.SecretRef != nil && c.SecretRef.Name == secret.Name {
				out = append(out, w.matching(ctx, IndexPlatform, secret.Namespace+"/"+platforms.Items[i].Name)...)
				break
			}
		}
	}
	return out
}

// rivals returns the other services on the Platform of one that comes or goes.
func (w *wiring) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	o, ok := obj.(Object)
	if !ok {
		return nil
	}
	found := w.matching(ctx, IndexPlatform, platformKey(o))
	return slices.DeleteFunc(found, func(r ctrlreconcile.Request) bool { return r.NamespacedName == client.ObjectKeyFromObject(obj) })
}

func (w *wiring) matching(ctx context.Context, field, value string) []ctrlreconcile.Request {
	return refs.Matching(ctx, w.client, w.kind.NewList(), field, value)
}

// platformChanged lets a Platform through when its specification changes, or what its status says of its backends.
func platformChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, wasOne := e.ObjectOld.(*platformv1alpha1.Platform)
		is, isOne := e.ObjectNew.(*platformv1alpha1.Platform)
		return !wasOne || !isOne || was.Generation != is.Generation || was.DeletionTimestamp.IsZero() != is.DeletionTimestamp.IsZero() ||
			!equality.Semantic.DeepEqual(was.Status.Backends, is.Status.Backends)
	}}
}

// autoscalerChanged is for HorizontalPodAutoscalers, which have no generation: their status is written every few seconds.
func autoscalerChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, wasOne := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
		is, isOne := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
		return !wasOne || !isOne || !equality.Semantic.DeepEqual(was.Spec, is.Spec) || !equality.Semantic.DeepEqual(was.Labels, is.Labels)
	}}
}
