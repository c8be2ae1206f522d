// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// apply makes the children as rendered.
func (r *productRun) apply(ctx context.Context) error {
	if r.children.reviewer != nil {
		// A cluster's object cannot be owned by a namespace's: the finalizer removes it.
		if err := r.deps.Applier.ApplyKept(ctx, r.platform, r.children.reviewer); err != nil {
			return err
		}
	}
	if err := r.deps.Applier.Apply(ctx, r.platform, r.children.objects()...); err != nil {
		return err
	}
	if err := r.applyOptional(ctx, routeKind, r.children.route); err != nil {
		return err
	}
	return r.applyOptional(ctx, monitorKind, r.children.monitor)
}

// applyOptional makes a child of a kind that the cluster may lack, or removes it. A ServiceMonitor without its kind is left
// out, for nothing depends on it; an HTTPRoute is what makes the service reachable.
func (r *productRun) applyOptional(ctx context.Context, kind operatedKind, obj *unstructured.Unstructured) error {
	if obj == nil {
		return r.pruneOptional(ctx, r.kind, kind)
	}
	versions, err := r.operators.installed(&operatedType{kinds: []operatedKind{kind}})
	switch {
	case meta.IsNoMatchError(err) && kind.kind == monitorKind.kind:
		r.again = sooner(r.again, retryCRD)
		return nil
	case meta.IsNoMatchError(err):
		return &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: retryCRD, Message: fmt.Sprintf(
			"%s.httpRoute: the cluster has no %s; install the CRDs of the Gateway API, or use ingress", productPath(r.kind.name), kind.kind)}
	case err != nil:
		return fmt.Errorf("%s: %w", kind.kind, err)
	}
	obj.SetGroupVersionKind(versions[kind.kind])
	return r.deps.Applier.Apply(ctx, r.platform, obj)
}

// settled tells that the specification was brought to Ready: what it does not ask for is gone.
func (p *pass) settled() bool {
	return p.platform.Status.ObservedGeneration == p.platform.Generation && meta.IsStatusConditionTrue(p.platform.Status.Conditions, common.ConditionReady)
}

// pruneOptional removes a child of a kind that the cluster may lack. It looks past the cache, for the kind is not watched
// unless somebody uses it; a Platform that is settled is not looked at.
func (p *pass) pruneOptional(ctx context.Context, product *productType, kind operatedKind) error {
	if p.settled() {
		return nil
	}
	mapping, err := p.deps.Manager.GetRESTMapper().RESTMapping(schema.GroupKind{Group: kind.group, Kind: kind.kind}, kind.versions...)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind.kind, err)
	}
	live := &metav1.PartialObjectMetadata{}
	live.SetGroupVersionKind(mapping.GroupVersionKind)
	err = p.deps.Refs.Live.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: workloadName(p.platform.Name, product.name)}, live)
	if apierrors.IsNotFound(err) || err == nil && !p.ours(live) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", kind.kind, err)
	}
	return p.remove(ctx, live)
}

func (p *pass) remove(ctx context.Context, obj client.Object) error {
	uid := obj.GetUID()
	err := p.client.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", obj.GetName(), err)
	}
	return nil
}

// rolledOut waits until every replica serves the current configuration.
func (r *productRun) rolledOut(ctx context.Context) error {
	want := r.children.deployment
	live := r.live
	if live == nil || live.Spec.Template.Annotations[annotationChecksum] != want.Spec.Template.Annotations[annotationChecksum] ||
		live.Spec.Template.Spec.Containers[0].Image != want.Spec.Template.Spec.Containers[0].Image {
		// What was just written is not in the cache yet.
		return r.rolling(ctx)
	}
	s := &live.Status
	replicas := ptr.Deref(live.Spec.Replicas, 1)
	least := replicas
	if a := r.spec.Autoscaling; a != nil {
		least = max(a.MinReplicas, 1) // those that are being added do not make the others less ready
	}
	if s.ObservedGeneration >= live.Generation {
		r.row.Replicas = min(s.UpdatedReplicas, s.AvailableReplicas)
	}
	current := s.ObservedGeneration >= live.Generation && s.UpdatedReplicas == s.Replicas && s.AvailableReplicas >= least
	if r.spec.Autoscaling == nil {
		current = current && s.Replicas == replicas
	}
	if !current {
		return r.rolling(ctx)
	}
	r.row.Ready, r.row.Version = true, versionOf(r.image())
	return nil
}

// rolling says what keeps the Pods from being Ready; their own events end the wait.
func (r *productRun) rolling(ctx context.Context) error {
	var pods corev1.PodList
	err := r.client.List(ctx, &pods, client.InNamespace(r.platform.Namespace), client.MatchingLabels(selectorLabels(r.platform.Name, r.kind.name)))
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	trouble := apply.PodTrouble(pods.Items)
	if trouble == "" {
		trouble = "the rollout goes on"
	}
	return reconcile.Wait(common.ReasonProgressing, "%s", trouble)
}

// retire removes what prune does not see of products that the specification no longer has, and drops their schemas where
// data goes with the Platform.
func (p *pass) retire(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, kind := range productTypes {
		if kind.pick(&p.platform.Spec.Products) != nil {
			wanted[tenantName(p.platform.Namespace, p.platform.Name, kind.name)] = true
			wanted[tenantName(p.platform.Namespace, p.platform.Name, componentIdentity)] = true
			continue
		}
		if err := p.retireProduct(ctx, kind); err != nil {
			return err
		}
	}
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropTenants(ctx, wanted)
}

func (p *pass) retireProduct(ctx context.Context, kind *productType) error {
	if p.platform.Status.Product(kind.name) == nil && p.settled() {
		return nil
	}
	for _, optional := range []operatedKind{routeKind, monitorKind} {
		if err := p.pruneOptional(ctx, kind, optional); err != nil {
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

// dropTenants drops the claimed roles and schemas that are not wanted, and what they hold.
func (p *pass) dropTenants(ctx context.Context, wanted map[string]bool) error {
	owner := external.Owner{Client: p.client, Object: p.platform}
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	var gone []external.Claim
	for _, claim := range claims {
		if claim.Kind == kindTenant && !wanted[claim.Name] {
			gone = append(gone, claim)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	b, err := p.serverOf(ctx)
	if err != nil {
		return err
	}
	if b.Type != "" {
		if err := p.drop(ctx, b, gone); err != nil {
			return err
		}
	}
	return owner.Release(ctx, gone...)
}

// serverOf is the PostgreSQL to drop from; empty: it goes with the Platform, or is gone, and takes all along.
func (p *pass) serverOf(ctx context.Context) (backend.Binding, error) {
	spec := p.platform.Spec.Backends.PostgreSQL
	if spec == nil || !p.platform.DeletionTimestamp.IsZero() && spec.External == nil {
		return backend.Binding{}, nil
	}
	r := &productRun{pass: p}
	return r.bound(ctx, postgresqlBackend)
}

func (p *pass) drop(ctx context.Context, b backend.Binding, claims []external.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	admin, err := p.tenants.open(b)
	if err != nil {
		return external.Explain(kindTenant, claims[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was dropped is committed
	driver := tenantDriver(admin, nil)
	for _, claim := range claims {
		if err := driver.Drop(ctx, claim.Name); err != nil {
			return external.Explain(kindTenant, claim.Name, fmt.Errorf("delete: %w; or set spec.deletionPolicy to Retain to leave it", err))
		}
	}
	return nil
}

// finalizeProducts undoes what no owner reference does.
func (p *pass) finalizeProducts(ctx context.Context) error {
	for _, kind := range productTypes {
		if err := p.stop(ctx, kind); err != nil {
			return err
		}
		if err := p.removeReviewer(ctx, kind); err != nil {
			return err
		}
	}
	p.tenants.forget(client.ObjectKeyFromObject(p.platform))
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropTenants(ctx, nil)
}

// stop removes a service's Deployment, and waits until it is gone: nothing is to write into a schema that is dropped.
func (p *pass) stop(ctx context.Context, kind *productType) error {
	var live appsv1.Deployment
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: workloadName(p.platform.Name, kind.name)}, &live)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(&live, p.platform) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Deployment: %w", err)
	}
	if live.DeletionTimestamp.IsZero() {
		if err := p.remove(ctx, &live); err != nil {
			return err
		}
	}
	return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "Deployment " + live.Name + " is being removed", After: time.Second}
}
