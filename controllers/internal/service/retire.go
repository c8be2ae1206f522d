// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/internal/backend"
)

// prune removes the children that the specification no longer asks for. Until every Pod has the current configuration those
// before it stay as well: a Pod that restarts must find what it was started with.
func (p *pass) prune(ctx context.Context, want *children, rolledOut bool) error {
	platform := p.spec.PlatformRef.Name
	retain := map[string]bool{"Secret/" + tenants.SecretName(platform, p.kind.Product): true}
	for _, obj := range want.objects() {
		retain[p.deps.Applier.Key(obj)] = true
	}
	if p.kind.BindingsDir != "" {
		retain["Secret/"+common.BindingsName(platform, p.kind.Product)] = true
	}
	if p.kind.Retained != nil {
		for _, name := range p.kind.Retained(platform) {
			retain["Secret/"+name] = true
		}
	}
	if !rolledOut {
		if err := p.retainConfigs(ctx, want, retain); err != nil {
			return err
		}
	}
	return p.deps.Applier.Prune(ctx, p.service, retain)
}

func (p *pass) retainConfigs(ctx context.Context, want *children, retain map[string]bool) error {
	for _, c := range want.components() {
		var secrets corev1.SecretList
		labels := client.MatchingLabels(selectorLabels(p.spec.PlatformRef.Name, c.name))
		if err := p.client.List(ctx, &secrets, client.InNamespace(p.service.GetNamespace()), labels, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list configurations: %w", err)
		}
		for i := range secrets.Items {
			if strings.HasPrefix(secrets.Items[i].Name, configPrefix(p.spec.PlatformRef.Name, c.name)) {
				retain["Secret/"+secrets.Items[i].Name] = true
			}
		}
	}
	return nil
}

// Finalize implements reconcile.Pass: it undoes what no owner reference does.
func (p *pass) Finalize(ctx context.Context) error {
	for _, component := range p.kind.Components() {
		if err := p.stop(ctx, component); err != nil {
			return err
		}
	}
	if err := p.removeReviewer(ctx); err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(p.service)
	p.lately.Forget(func(k comparedKey) bool { return k.service == key })
	if p.spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropClaimed(ctx)
}

// stop removes a component's Deployment, and waits until it is gone: nothing is to write into a schema that is dropped.
func (p *pass) stop(ctx context.Context, component string) error {
	live, err := p.deployment(ctx, component)
	if err != nil || live == nil {
		return err
	}
	if live.DeletionTimestamp.IsZero() {
		if err := p.remove(ctx, live); err != nil {
			return err
		}
	}
	return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "Deployment " + live.Name + " is being removed", After: time.Second}
}

// removeReviewer removes the one child that is in no namespace.
func (p *pass) removeReviewer(ctx context.Context) error {
	if p.deps.Options.TokenReviewerRole == "" {
		return nil
	}
	var live rbacv1.ClusterRoleBinding
	err := p.client.Get(ctx, client.ObjectKey{Name: reviewerName(p.service.GetNamespace(), p.spec.PlatformRef.Name, p.kind.Product)}, &live)
	if apierrors.IsNotFound(err) || err == nil && (live.Labels[common.LabelOwnerKind] != p.gvk.Kind || live.Labels[common.LabelOwnerName] != p.service.GetName()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ClusterRoleBinding: %w", err)
	}
	return p.remove(ctx, &live)
}

// dropClaimed drops the service's role with its schema, and its queue, and what they hold.
func (p *pass) dropClaimed(ctx context.Context) error {
	owner := external.Owner{Client: p.client, Object: p.service}
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	for _, of := range []struct {
		kind, backend string
		drop          func(context.Context, backend.Binding, []external.Claim) error
	}{
		{tenants.Kind, platformv1alpha1.BackendPostgreSQL, func(ctx context.Context, b backend.Binding, claims []external.Claim) error {
			return tenants.Drop(ctx, p.open.databases, b, claims)
		}},
		{kindQueue, platformv1alpha1.BackendRabbitMQ, func(ctx context.Context, b backend.Binding, claims []external.Claim) error {
			return dropQueues(ctx, p.open.brokers, b, claims)
		}},
	} {
		var gone []external.Claim
		for _, claim := range claims {
			if claim.Kind == of.kind {
				gone = append(gone, claim)
			}
		}
		if len(gone) == 0 {
			continue
		}
		b, err := p.serverOf(ctx, of.backend)
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

// serverOf returns the server to drop from; empty: it is gone, or goes with its Platform, and takes all along.
func (p *pass) serverOf(ctx context.Context, name string) (backend.Binding, error) {
	var platform platformv1alpha1.Platform
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.service.GetNamespace(), Name: p.spec.PlatformRef.Name}, &platform)
	if apierrors.IsNotFound(err) {
		return backend.Binding{}, nil
	}
	if err != nil {
		return backend.Binding{}, fmt.Errorf("read Platform: %w", err)
	}
	spec := platform.Spec.Backends.ByName()[name]
	goes := !platform.DeletionTimestamp.IsZero() && platform.Spec.DeletionPolicy == common.DeletionDelete
	if spec == nil || goes && spec.External == nil {
		return backend.Binding{}, nil
	}
	return p.binding(ctx, &platform, name)
}
