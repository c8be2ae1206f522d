// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/validation"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error {
	connections := vault.HTTPClient()
	return SetupWith(d, func(endpoint string) (vault.Client, error) {
		return vault.New(vault.Options{Endpoint: endpoint, HTTP: connections})
	}, time.Now)
}

// SetupWith is Setup with another client of Vaults, and another clock.
func SetupWith(d *setup.Deps, open Open, now func() time.Time) error {
	mgr := d.Manager
	workloads, err := workloadCache(d)
	if err != nil {
		return err
	}
	c := &Controller{Client: mgr.GetClient(), Refs: d.Refs, Open: open, Workloads: workloads, Now: now, polled: memo.New[client.ObjectKey](pollInterval),
		valid: validation.NewMemo(validateSecret)}
	c.polled.Now = now
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

// workloadCache returns a cache that has, for each workload in the watched namespaces, the core Secrets that its Pods refer to.
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
	secrets := setup.Kind[*vaultv1alpha1.Secret]{Name: "vault-secret", Like: &vaultv1alpha1.Secret{}, NewPass: c.NewPass, Forget: c.Forget}
	b := secrets.Builder(d, setup.Deletion(), reported()).
		Watches(&vaultv1alpha1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(ownerOf), builder.WithPredicates(setup.NotOwnCreate())).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.platformUsers), builder.WithPredicates(setup.Existence())).
		Watches(&vaultv1alpha1.VaultService{}, service.ByPlatform(c.platformUsers), builder.WithPredicates(service.ServingChanged())).
		WatchesRawSource(d.Refs.Names.Source(c.secretUsers))
	for _, kind := range workloadKinds() {
		b = b.WatchesRawSource(source.Kind(workloads, kind, handler.EnqueueRequestsFromMapFunc(c.usedBy), slimChanged()))
	}
	return secrets.Complete(d, b)
}

func (c *Controller) setupPolicies(d *setup.Deps) error {
	valid := validation.NewMemo(validatePolicy)
	policies := setup.Kind[*vaultv1alpha1.AccessPolicy]{
		Name: "vault-accesspolicy", Like: &vaultv1alpha1.AccessPolicy{},
		NewPass: func(p *vaultv1alpha1.AccessPolicy) reconcile.Pass {
			return &policyPass{client: c.Client, valid: valid, policy: p}
		},
		Forget: valid.Forget,
	}
	return policies.Complete(d, policies.Builder(d).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.platformPolicies), builder.WithPredicates(setup.Existence())).
		Watches(&vaultv1alpha1.VaultService{}, service.ByPlatform(c.platformPolicies), builder.WithPredicates(service.ServingChanged())))
}

// reported selects a new version in the service's annotation.
func reported() predicate.Predicate {
	return setup.Updated(func(was, is client.Object) bool {
		return was.GetAnnotations()[vaultv1alpha1.AnnotationVersion] != is.GetAnnotations()[vaultv1alpha1.AnnotationVersion]
	})
}

// slimChanged selects workloads whose cached part has changed.
func slimChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
	}}
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	err := refs.Index(context.Background(), indexer, &vaultv1alpha1.Secret{}, refs.Fields[*vaultv1alpha1.Secret]{
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
	})
	if err != nil {
		return err
	}
	return refs.Index(context.Background(), indexer, &vaultv1alpha1.AccessPolicy{}, refs.Fields[*vaultv1alpha1.AccessPolicy]{
		indexPlatform: func(p *vaultv1alpha1.AccessPolicy) []string {
			return []string{refs.PlatformKey(p.Namespace, p.Spec.PlatformRef)}
		},
	})
}

// sourceKeys returns the core Secrets that a Secret copies.
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

// rivals returns requests for the Secrets that declare the same path: one may win when this one changes.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	secret, ok := obj.(*vaultv1alpha1.Secret)
	if !ok {
		return nil
	}
	return refs.Others(ctx, c.Client, secret, &vaultv1alpha1.SecretList{}, indexPath, secret.Namespace+"/"+secret.StorePath())
}

// ownerOf returns a request for the Secret that wrote a destination.
func ownerOf(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	name := obj.GetAnnotations()[vaultv1alpha1.AnnotationSecret]
	if obj.GetLabels()[common.LabelOwnerKind] != ownerKind || name == "" {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: client.ObjectKey{Namespace: obj.GetNamespace(), Name: name}}}
}

// secretUsers returns requests for the Secrets that copy a core Secret and, when it was deleted, for those that write one of
// its name. Existing destinations are for ownerOf.
func (c *Controller) secretUsers(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
	out := c.matching(ctx, indexSource, secret.String())
	if c.Refs.Version(secret) != "" {
		return out
	}
	return append(out, c.matching(ctx, indexDestination, secret.String())...)
}

// usedBy returns requests for the Secrets whose destinations a workload's Pods refer to.
func (c *Controller) usedBy(ctx context.Context, workload client.Object) []ctrlreconcile.Request {
	var out []ctrlreconcile.Request
	for name := range parseUses(workload) {
		out = append(out, c.matching(ctx, indexDestination, workload.GetNamespace()+"/"+name)...)
	}
	return out
}
