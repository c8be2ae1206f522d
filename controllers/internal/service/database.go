// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// databases are the schemas of a service, as its Pods and its workers' log in.
type databases struct {
	own, identity, worker config.Database
}

// databases makes the service's role and schema, and finds the one that all services of the Platform share.
func (p *pass) databases(ctx context.Context, platform *platformv1alpha1.Platform, server backend.Binding, now *observed) (*databases, error) {
	size, err := servicePools(platform, p.spec)
	if err != nil {
		return nil, err
	}
	var workers pools
	if p.kind.Worker != nil {
		if workers, err = workerPools(platform, p.kind.Worker.Spec(p.service)); err != nil {
			return nil, err
		}
	}
	identity, err := p.identity(ctx, platform)
	if err != nil {
		return nil, err
	}
	own, err := tenants.Ensure(ctx, p.retainer(), platform.Name, p.kind.Product, p.labels(p.kind.Product))
	if err != nil {
		return nil, err
	}
	own.Connections = size.total + workers.total
	if err := p.ensureTenant(ctx, platform, server, own, now); err != nil {
		return nil, err
	}
	return &databases{
		own: own.Binding(server, size.own), identity: identity.Binding(server, size.identity), worker: own.Binding(server, workers.own),
	}, nil
}

// identity returns the role and schema of users and their roles, which the Platform makes.
func (p *pass) identity(ctx context.Context, platform *platformv1alpha1.Platform) (*tenants.Tenant, error) {
	secret, err := p.ofPlatform(ctx, platform, tenants.SecretName(platform.Name, platformv1alpha1.ComponentIdentity))
	if err != nil {
		return nil, err
	}
	t, err := tenants.Read(secret, tenants.Name(platform.Namespace, platform.Name, platformv1alpha1.ComponentIdentity))
	return &t, err
}

// ofPlatform reads a Secret that the Platform makes for its services.
func (p *pass) ofPlatform(ctx context.Context, platform *platformv1alpha1.Platform, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: platform.Namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, reconcile.Wait(common.ReasonReferenceNotReady, "Secret %s of Platform %s does not exist yet; its status says what it waits for", name, platform.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return &secret, nil
}

// ensureTenant makes role and schema when what they should be has changed, and else every drift interval.
func (p *pass) ensureTenant(ctx context.Context, platform *platformv1alpha1.Platform, server backend.Binding, own tenants.Tenant, now *observed) error {
	owner := external.Owner{Client: p.client, Object: p.service}
	return p.compared(ctx, tenants.Kind, own.Checksum(owner, server), platform, platformv1alpha1.BackendPostgreSQL, now, func(ctx context.Context) error {
		return tenants.Make(ctx, p.open.databases, owner, connectionName(platform.Namespace, platform.Name, platformv1alpha1.BackendPostgreSQL), server, own)
	})
}

// compared runs make on a server when sum has changed since it last succeeded, and every drift interval. While the server does
// not answer, a running service keeps running: the Platform's status says what is wrong.
func (p *pass) compared(ctx context.Context, what, sum string, platform *platformv1alpha1.Platform, name string, now *observed, make func(context.Context) error) error {
	key := comparedKey{service: client.ObjectKeyFromObject(p.service), what: what}
	due, left := p.lately.Due(key, sum)
	if !due {
		p.again = workload.Sooner(p.again, left)
		return nil
	}
	if !up(platform, name) {
		if now.started() {
			return nil
		}
		return awaited(platform, name)
	}
	if err := make(ctx); err != nil {
		return err
	}
	p.lately.Done(key, sum)
	p.again = workload.Sooner(p.again, p.deps.Options.DriftInterval)
	return nil
}

// comparedKey is one kind of object in one server of one service.
type comparedKey struct {
	service client.ObjectKey
	what    string
}
