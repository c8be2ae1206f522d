// SPDX-License-Identifier: Apache-2.0

// Package vault has the controllers of vault Secrets and of AccessPolicies.
package vault

import (
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
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
	// lookInterval is how often the store is asked for what no event told of.
	lookInterval = time.Hour
	// periodicInterval is that of refresh policy Periodic, when the Secret does not say.
	periodicInterval = 10 * time.Minute
	// staleInterval is how often a value with an old root key is looked at.
	staleInterval = time.Minute
	// sealedInterval is how often a sealed Vault is asked again; its Platform's status wakes sooner.
	sealedInterval = 30 * time.Second
	// missingInterval is how often what others are to write is looked for; the service's annotation wakes sooner.
	missingInterval = time.Minute
)

// Open makes a client of the Vault at an endpoint.
type Open func(endpoint string) (vault.Client, error)

// Controller is what passes over Secrets share.
type Controller struct {
	Client client.Client
	Refs   *refs.Resolver
	Open   Open
	// Workloads knows which workloads refer to which core Secrets.
	Workloads client.Reader
	// Now is the clock.
	Now func() time.Time

	// looked holds the Secrets that the store was asked about lately.
	looked *memo.Lately[client.ObjectKey]
}

// pass is one pass over one Secret.
type pass struct {
	c        *Controller
	secret   *vaultv1alpha1.Secret
	platform *platformv1alpha1.Platform
	client   vault.Client // nil until it is needed
	// hash identifies the declaration, declared is it; nil until it is needed.
	hash     string
	declared *vault.Apply
	rotating string // the token of a rotation that is due
	written  int64  // the version that the destination has; 0: none
}

// NewPass implements the frame's contract.
func (c *Controller) NewPass(s *vaultv1alpha1.Secret) reconcile.Pass {
	return &pass{c: c, secret: s}
}

// Forget drops what is remembered of a Secret that is gone.
func (c *Controller) Forget(key client.ObjectKey) { c.looked.Delete(key) }

// Steps lead from the declaration to a destination that holds its value.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{
		{Name: "platform", Run: p.findPlatform},
		{Name: "expressions", Run: p.expressions},
		{Name: "conflicts", Run: p.conflicts},
		{Name: "source", Run: p.identify},
		{Name: "store", Run: p.store},
		{Name: "destination", Run: p.sync},
		{Name: "restart", Run: p.restart},
		{Name: "clean-up", Run: p.leave},
		{Name: "expiry", Run: p.expiry},
	}
}
