// SPDX-License-Identifier: Apache-2.0

// Package setup has the dependencies of every controller set, and the caches that they share.
package setup

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/itechsmart/operator/controllers/internal/admission"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

// Options are the flags of the manager that controllers need.
type Options struct {
	// Namespaces to watch; empty means all.
	Namespaces []string
	// Images are the operator's own programs.
	Images Images
	// BackendImages replaces the default image of a managed backend, by its name.
	BackendImages map[string]string
	// Concurrency is MaxConcurrentReconciles of each controller.
	Concurrency int
	// AllowPrivateAddresses lets connectors call loopback, link-local and private addresses that a tenant names.
	AllowPrivateAddresses bool
	// DriftInterval is the interval at which external objects are compared with their specification.
	DriftInterval time.Duration
	// ManagerNamespace is where the manager runs; NetworkPolicies let it in. Empty: outside of the cluster.
	ManagerNamespace string
	// ManagerServiceAccount is whose token the manager calls the products with. Empty: outside of the cluster.
	ManagerServiceAccount string
	// TokenReviewerRole is the ClusterRole that the products are bound to, so that they can have tokens reviewed. Empty:
	// the manager binds nobody, and who installed the operator does.
	TokenReviewerRole string
	// ServiceRolePrefix begins the names of the ClusterRoles of product services: <prefix>-<product>-service.
	ServiceRolePrefix string
	// Webhooks serves the validating webhooks; nil: there are none.
	Webhooks *admission.Server
}

// Images of the operator's own programs.
type Images struct {
	// Registry and Tag of the images that Overrides does not replace.
	Registry, Tag string
	// Overrides are complete image references by program.
	Overrides map[string]string
}

// Of returns the image of a program.
func (i Images) Of(program string) string {
	if image := i.Overrides[program]; image != "" {
		return image
	}
	return i.Registry + "/" + program + ":" + i.Tag
}

// ServiceKind is a service kind.
type ServiceKind struct {
	Product, Kind string
	New           func() client.Object
	NewList       func() client.ObjectList
}

// Deps are the dependencies of every controller set.
type Deps struct {
	Manager ctrl.Manager
	Applier *apply.Applier
	Refs    *refs.Resolver
	Options Options
	// Services are the service kinds of all products.
	Services []ServiceKind
}

// CacheOptions limits the manager's cache to the operator's own children, without Secrets and Pods of others.
func CacheOptions(namespaces []string) cache.Options {
	own := labels.SelectorFromSet(labels.Set{apply.LabelManagedBy: apply.ManagedBy})
	options := cache.Options{
		DefaultTransform: slim,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Label: own}, &corev1.PersistentVolumeClaim{}: {Label: own}, &rbacv1.ClusterRoleBinding{}: {Label: own},
		},
	}
	for _, kind := range apply.Kinds() {
		options.ByObject[kind] = cache.ByObject{Label: own}
	}
	options.DefaultNamespaces = defaultNamespaces(namespaces)
	return options
}

func defaultNamespaces(namespaces []string) map[string]cache.Config {
	if len(namespaces) == 0 {
		return nil
	}
	out := map[string]cache.Config{}
	for _, namespace := range namespaces {
		out[namespace] = cache.Config{}
	}
	return out
}

// New creates the shared dependencies and registers them with the manager.
func New(mgr ctrl.Manager, options Options) (*Deps, error) {
	if options.Concurrency <= 0 {
		options.Concurrency = 10
	}
	if options.DriftInterval <= 0 {
		options.DriftInterval = 5 * time.Minute
	}
	names, err := refs.NewNames(mgr.GetConfig(), mgr.GetHTTPClient(), options.Namespaces)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(names); err != nil {
		return nil, fmt.Errorf("watch of Secret names: %w", err)
	}
	if err := apply.Index(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	if options.Webhooks != nil {
		if err := options.Webhooks.Setup(mgr); err != nil {
			return nil, err
		}
	}
	return &Deps{
		Manager: mgr, Options: options,
		Applier: apply.New(mgr.GetClient(), mgr.GetScheme(), mgr.GetCache(), mgr.GetAPIReader()),
		Refs:    &refs.Resolver{Live: mgr.GetAPIReader(), Names: names, Namespaces: options.Namespaces},
	}, nil
}

// ControllerOptions returns the options of every controller.
func (d *Deps) ControllerOptions() controller.Options {
	warm := true
	return controller.Options{
		MaxConcurrentReconciles: d.Options.Concurrency, EnableWarmup: &warm,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](200*time.Millisecond, time.Minute),
	}
}

// Existence selects creations and deletions.
func Existence() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}

// NotOwnCreate is for children. It ignores creations, since the pass that created the child knows.
func NotOwnCreate() predicate.Predicate {
	return predicate.Funcs{CreateFunc: func(event.CreateEvent) bool { return false }}
}
