// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// retire removes what prune does not see of products that the specification no longer has, and drops their schemas and
// queues where data goes with the Platform.
func (p *pass) retire(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, kind := range productTypes {
		if kind.pick(&p.platform.Spec.Products) != nil {
			wanted[tenantName(p.platform.Namespace, p.platform.Name, kind.name)] = true
			wanted[tenantName(p.platform.Namespace, p.platform.Name, componentIdentity)] = true
			if kind.queue != nil {
				wanted[kind.queue(p.platform)] = true
			}
			continue
		}
		if err := p.retireProduct(ctx, kind); err != nil {
			return err
		}
	}
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropClaimed(ctx, wanted)
}

func (p *pass) retireProduct(ctx context.Context, kind *productType) error {
	if p.platform.Status.Product(kind.name) == nil && p.settled() {
		return nil
	}
	for _, optional := range []operatedKind{routeKind, monitorKind} {
		if err := p.pruneOptional(ctx, kind.name, optional); err != nil {
			return err
		}
	}
	if kind.worker != nil {
		if err := p.pruneOptional(ctx, kind.worker.name, podMonitorKind); err != nil {
			return err
		}
	}
	return p.removeReviewer(ctx, kind)
}

// removeReviewer removes the one child that no namespace holds.
func (p *pass) removeReviewer(ctx context.Context, kind *productType) error {
	if p.defaults.reviewerRole == "" {
		return nil
	}
	var live rbacv1.ClusterRoleBinding
	err := p.client.Get(ctx, client.ObjectKey{Name: reviewerName(p.platform.Namespace, p.platform.Name, kind.name)}, &live)
	if apierrors.IsNotFound(err) || err == nil && !p.ours(&live) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ClusterRoleBinding: %w", err)
	}
	return p.remove(ctx, &live)
}

// dropClaimed drops the claimed roles with their schemas, and queues, that are not wanted, and what they hold.
func (p *pass) dropClaimed(ctx context.Context, wanted map[string]bool) error {
	owner := external.Owner{Client: p.client, Object: p.platform}
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	for _, of := range []struct {
		kind   string
		server *backendType
		drop   func(context.Context, backend.Binding, []external.Claim) error
	}{{kindTenant, postgresqlBackend, p.dropTenants}, {kindQueue, rabbitmqBackend, p.dropQueues}} {
		var gone []external.Claim
		for _, claim := range claims {
			if claim.Kind == of.kind && !wanted[claim.Name] {
				gone = append(gone, claim)
			}
		}
		if len(gone) == 0 {
			continue
		}
		b, err := p.serverOf(ctx, of.server)
		if err != nil {
			return err
		}
		if b.Type != "" {
			if err := of.drop(ctx, b, gone); err != nil {
				return err
			}
		}
		if err := owner.Release(ctx, gone...); err != nil {
			return err
		}
	}
	return nil
}

// serverOf is the server to drop from; empty: it goes with the Platform, or is gone, and takes all along.
func (p *pass) serverOf(ctx context.Context, kind *backendType) (backend.Binding, error) {
	spec := kind.pick(&p.platform.Spec.Backends)
	if spec == nil || !p.platform.DeletionTimestamp.IsZero() && spec.External == nil {
		return backend.Binding{}, nil
	}
	r := &productRun{pass: p}
	return r.bound(ctx, kind)
}

func (p *pass) dropTenants(ctx context.Context, b backend.Binding, claims []external.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	admin, err := p.tenants.open(b)
	if err != nil {
		return external.Explain(kindTenant, claims[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was dropped is committed
	return dropAll(ctx, claims, tenantDriver(admin, nil).Drop)
}

func (p *pass) dropQueues(ctx context.Context, b backend.Binding, claims []external.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	admin, err := p.queues.open(b)
	if err != nil {
		return external.Explain(kindQueue, claims[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was dropped is gone
	return dropAll(ctx, claims, queueDriver(admin).Drop)
}

func dropAll(ctx context.Context, claims []external.Claim, drop func(context.Context, string) error) error {
	for _, claim := range claims {
		if err := drop(ctx, claim.Name); err != nil {
			return external.Explain(claim.Kind, claim.Name, fmt.Errorf("delete: %w; or set spec.deletionPolicy to Retain to leave it", err))
		}
	}
	return nil
}

// finalizeProducts undoes what no owner reference does.
func (p *pass) finalizeProducts(ctx context.Context) error {
	for _, kind := range productTypes {
		for _, component := range kind.components() {
			if err := p.stop(ctx, component); err != nil {
				return err
			}
		}
		if err := p.removeReviewer(ctx, kind); err != nil {
			return err
		}
	}
	p.tenants.forget(client.ObjectKeyFromObject(p.platform))
	p.queues.forget(client.ObjectKeyFromObject(p.platform))
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropClaimed(ctx, nil)
}

// stop removes a component's Deployment, and waits until it is gone: nothing is to write into a schema that is dropped.
func (p *pass) stop(ctx context.Context, component string) error {
	live, err := p.deployment(ctx, component)
	if err != nil || live == nil || !metav1.IsControlledBy(live, p.platform) {
		return err
	}
	if live.DeletionTimestamp.IsZero() {
		if err := p.remove(ctx, live); err != nil {
			return err
		}
	}
	return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "Deployment " + live.Name + " is being removed", After: time.Second}
}
