// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error {
	connections := vault.HTTPClient()
	return SetupWith(d, func(endpoint string) (vault.Client, error) {
		return vault.New(vault.Options{Endpoint: endpoint, HTTP: connections})
	}, time.Now)
}

// SetupWith is Setup with another way to reach Vaults, and another clock.
func SetupWith(d *setup.Deps, open Open, now func() time.Time) error {
	mgr := d.Manager
	workloads, err := workloadCache(d)
	if err != nil {
		return err
	}
	c := &Controller{Client: mgr.GetClient(), Refs: d.Refs, Open: open, Workloads: workloads, Now: now}
	if err := c.index(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := c.setupSecrets(d, workloads); err != nil {
		return err
	}
	if err := registerMetrics(mgr.GetClient()); err != nil {
		return err
	}
	return c.setupPolicies(d)
}

// workloadCache knows, of each workload in the watched namespaces, which core Secrets its Pods refer to.
func workloadCache(d *setup.Deps) (cache.Cache, error) {
	mgr := d.Manager
	options := cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(), DefaultTransform: slim,
		DefaultNamespaces: map[string]cache.Config{},
	}
	for _, namespace := range d.Options.Namespaces {
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	workloads, err := cache.New(mgr.GetConfig(), options)
	if err != nil {
		return nil, fmt.Errorf("cache of workloads: %w", err)
	}
	if err := indexWorkloads(context.Background(), workloads); err != nil {
		return nil, err
	}
	if err := mgr.Add(workloads); err != nil {
		return nil, fmt.Errorf("cache of workloads: %w", err)
	}
	return workloads, nil
}

func (c *Controller) setupSecrets(d *setup.Deps, workloads cache.Cache) error {
	mgr := d.Manager
	reconciler := &reconcile.Reconciler[*vaultv1alpha1.Secret]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("vault-secret"),
		New: func() *vaultv1alpha1.Secret { return &vaultv1alpha1.Secret{} }, NewPass: c.NewPass, Forget: c.Forget,
	}
	b := ctrl.NewControllerManagedBy(mgr).
		For(&vaultv1alpha1.Secret{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, deletion(), told()))).
		Watches(&vaultv1alpha1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(ownerOf), builder.WithPredicates(setup.NotOwnCreate())).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.platformUsers), builder.WithPredicates(setup.Existence())).
		Watches(&vaultv1alpha1.VaultService{}, service.ByPlatform(c.platformUsers), builder.WithPredicates(service.ServingChanged())).
		WatchesRawSource(d.Refs.Names.Source(c.secretUsers))
	for _, kind := range workloadKinds() {
		b = b.WatchesRawSource(source.Kind(workloads, kind, handler.EnqueueRequestsFromMapFunc(c.usedBy), slimChanged()))
	}
	if err := b.WithOptions(d.ControllerOptions()).Named("vault-secret").Complete(reconciler); err != nil {
		return fmt.Errorf("vault Secret controller: %w", err)
	}
	return nil
}

func (c *Controller) setupPolicies(d *setup.Deps) error {
	mgr := d.Manager
	reconciler := &reconcile.Reconciler[*vaultv1alpha1.AccessPolicy]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("vault-accesspolicy"),
		New: func() *vaultv1alpha1.AccessPolicy { return &vaultv1alpha1.AccessPolicy{} },
		NewPass: func(p *vaultv1alpha1.AccessPolicy) reconcile.Pass {
			return &policyPass{client: mgr.GetClient(), policy: p}
		},
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&vaultv1alpha1.AccessPolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.platformPolicies), builder.WithPredicates(setup.Existence())).
		Watches(&vaultv1alpha1.VaultService{}, service.ByPlatform(c.platformPolicies), builder.WithPredicates(service.ServingChanged())).
		WithOptions(d.ControllerOptions()).Named("vault-accesspolicy").Complete(reconciler)
	if err != nil {
		return fmt.Errorf("AccessPolicy controller: %w", err)
	}
	return nil
}

// deletion lets the start of a deletion through, which changes no generation of a resource without finalizers.
func deletion() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(obj client.Object) bool { return !obj.GetDeletionTimestamp().IsZero() })
}

// told lets the service's annotation through.
func told() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, DeleteFunc: func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetAnnotations()[vaultv1alpha1.AnnotationVersion] != e.ObjectNew.GetAnnotations()[vaultv1alpha1.AnnotationVersion]
		},
	}
}

// slimChanged lets a workload through when what is known of it here has changed.
func slimChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
	}}
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	for field, extract := range map[string]func(*vaultv1alpha1.Secret) []string{
		indexPath: func(s *vaultv1alpha1.Secret) []string { return []string{s.Namespace + "/" + s.StorePath()} },
		indexPlatform: func(s *vaultv1alpha1.Secret) []string {
			return []string{refs.PlatformKey(s.Namespace, s.Spec.PlatformRef)}
		},
		indexSource: sourceKeys,
		indexDestination: func(s *vaultv1alpha1.Secret) []string {
			if s.Spec.Destination == nil {
				return nil
			}
			return []string{s.Namespace + "/" + s.DestinationName()}
		},
	} {
		err := indexer.IndexField(context.Background(), &vaultv1alpha1.Secret{}, field, func(obj client.Object) []string {
			s, ok := obj.(*vaultv1alpha1.Secret)
			if !ok {
				return nil
			}
			return extract(s)
		})
		if err != nil {
			return fmt.Errorf("index Secrets by %s: %w", field, err)
		}
	}
	err := indexer.IndexField(context.Background(), &vaultv1alpha1.AccessPolicy{}, indexPlatform, func(obj client.Object) []string {
		p, ok := obj.(*vaultv1alpha1.AccessPolicy)
		if !ok {
			return nil
		}
		return []string{refs.PlatformKey(p.Namespace, p.Spec.PlatformRef)}
	})
	if err != nil {
		return fmt.Errorf("index AccessPolicies by Platform: %w", err)
	}
	return nil
}

// sourceKeys are the core Secrets that a Secret copies.
func sourceKeys(s *vaultv1alpha1.Secret) []string {
	var out []string
	for _, r := range references(s) {
		out = append(out, s.Namespace+"/"+r.ref.Name)
	}
	return out
}

func (c *Controller) matching(ctx context.Context, field, value string) []ctrlreconcile.Request {
	return refs.Matching(ctx, c.Client, &vaultv1alpha1.SecretList{}, field, value)
}

func (c *Controller) platformUsers(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	return refs.PlatformUsers(ctx, c.Client, &vaultv1alpha1.SecretList{}, indexPlatform, platform)
}

func (c *Controller) platformPolicies(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	return refs.PlatformUsers(ctx, c.Client, &vaultv1alpha1.AccessPolicyList{}, indexPlatform, platform)
}

// rivals are the Secrets that declare the same path, or want the same destination: when the older one goes or changes, a
// younger may win.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	secret, ok := obj.(*vaultv1alpha1.Secret)
	if !ok {
		return nil
	}
	found := c.matching(ctx, indexPath, secret.Namespace+"/"+secret.StorePath())
	var out []ctrlreconcile.Request
	for _, request := range found {
		if request.NamespacedName != client.ObjectKeyFromObject(secret) {
			out = append(out, request)
		}
	}
	return out
}

// ownerOf is the Secret that wrote a destination.
func ownerOf(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	name := obj.GetAnnotations()[vaultv1alpha1.AnnotationSecret]
	if obj.GetLabels()[common.LabelOwnerKind] != ownerKind || name == "" {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: client.ObjectKey{Namespace: obj.GetNamespace(), Name: name}}}
}

// secretUsers are the Secrets that copy a core Secret, or, when it has gone, want to write one of its name. What happens to
// the destinations that are there is for ownerOf.
func (c *Controller) secretUsers(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
	out := c.matching(ctx, indexSource, secret.String())
	if c.Refs.Version(secret) != "" {
		return out
	}
	return append(out, c.matching(ctx, indexDestination, secret.String())...)
}

// usedBy are the Secrets whose destinations a workload's Pods refer to.
func (c *Controller) usedBy(ctx context.Context, workload client.Object) []ctrlreconcile.Request {
	var out []ctrlreconcile.Request
	for name := range parseUses(workload) {
		out = append(out, c.matching(ctx, indexDestination, workload.GetNamespace()+"/"+name)...)
	}
	return out
}
