// SPDX-License-Identifier: Apache-2.0

// Package vault implements the controllers of vault Secrets and AccessPolicies.
package vault

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/validation"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets/finalizers,verbs=update
// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets;daemonsets,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=batch,resources=cronjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const (
	// pollInterval is the interval at which the Vault is polled for changes that no event reported.
	pollInterval = time.Hour
	// periodicInterval is the default of refresh policy Periodic.
	periodicInterval = 10 * time.Minute
	// staleInterval is the interval at which the Vault is polled about a value with an old root key.
	staleInterval = time.Minute
	// sealedInterval is the interval at which a sealed Vault is polled, if no watch event comes sooner.
	sealedInterval = 30 * time.Second
	// missingInterval is the interval at which the Vault is polled for a value that others must write, if the service's annotation does not come sooner.
	missingInterval = time.Minute
)

// Open returns a client of the Vault at an endpoint.
type Open func(endpoint string) (vault.Client, error)

// Controller holds what all passes over Secrets share.
type Controller struct {
	Client client.Client
	Refs   *refs.Resolver
	Open   Open
	// Workloads caches which workloads refer to which core Secrets.
	Workloads client.Reader
	// Now is the clock.
	Now func() time.Time

	// polled remembers which Secrets the Vault was asked about lately, and valid which are valid.
	polled *memo.Lately[client.ObjectKey]
	valid  *validation.Memo[*vaultv1alpha1.Secret]
}

// pass is one pass over one Secret.
type pass struct {
	c        *Controller
	secret   *vaultv1alpha1.Secret
	platform *platformv1alpha1.Platform
	service  service.Object // the Platform's Vault
	client   vault.Client   // nil until it is needed
	// hash identifies the declaration. declared is nil until it is needed.
	hash     string
	declared *vault.Apply
	rotating string // the token of a rotation that is due
	written  int64  // the version that the destination has; 0: none
}

// NewPass returns the pass for a Secret.
func (c *Controller) NewPass(s *vaultv1alpha1.Secret) reconcile.Pass {
	return &pass{c: c, secret: s}
}

// Forget drops what is remembered of a Secret that no longer exists.
func (c *Controller) Forget(key client.ObjectKey) {
	c.polled.Delete(key)
	c.valid.Forget(key)
}

func (p *pass) validate(context.Context) error { return p.c.valid.Check(p.secret) }

// Steps implements reconcile.Pass.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{
		{Name: "validation", Run: p.validate},
		{Name: "platform", Run: p.findPlatform},
		{Name: "conflicts", Run: p.conflicts},
		{Name: "source", Run: p.identify},
		{Name: "store", Run: p.store},
		{Name: "destination", Run: p.sync},
		{Name: "restart", Run: p.restart},
		{Name: "clean-up", Run: p.leave},
		{Name: "expiry", Run: p.expiry},
	}
}
