// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// managed makes a server of our own and its binding, and waits until its pod is Ready.
func (p *pass) managed(ctx context.Context, kind *backendType, spec *v1alpha1.ManagedBackend) (backend.Binding, error) {
	path := fieldPath(kind.name, v1alpha1.ModeManaged)
	if kind.server == nil {
		return backend.Binding{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: not supported for %s; use external", path, kind.title)
	}
	if err := reconcile.Invalid(kind.validateManaged(path, spec)); err != nil {
		return backend.Binding{}, err
	}
	b, err := p.credentials(ctx, kind)
	if err != nil {
		return b, err
	}
	name := workloadName(p.platform.Name, kind.name)
	b.Host, b.Port = serviceHost(name, p.platform.Namespace), strconv.Itoa(int(kind.port))
	if kind.bind != nil {
		kind.bind(&b)
	}
	children := renderManaged(p.platform, kind, spec, p.defaults)
	var live appsv1.StatefulSet
	err = p.client.Get(ctx, client.ObjectKeyFromObject(children.statefulSet), &live)
	if client.IgnoreNotFound(err) != nil {
		return b, fmt.Errorf("read StatefulSet %s: %w", name, err)
	}
	exists := err == nil
	if exists && !sameClaims(live.Spec.VolumeClaimTemplates, children.statefulSet.Spec.VolumeClaimTemplates) {
		// The template of a live StatefulSet's claims is immutable, so the claim itself grows.
		children.statefulSet.Spec.VolumeClaimTemplates = live.Spec.VolumeClaimTemplates
	}
	if err := p.deps.Applier.Apply(ctx, p.platform, children.objects()...); err != nil {
		return b, err
	}
	if err := p.bindTo(ctx, kind, &b, v1alpha1.ModeManaged, ""); err != nil {
		return b, err
	}
	if err := p.growVolume(ctx, kind, path, sizeOf(spec.Storage)); err != nil {
		return b, err
	}
	if !exists || !rolledOut(&live, children.statefulSet.Annotations[annotationRevision]) {
		p.prober.forget(p.probeKey(kind))
		return b, p.podWait(ctx, kind)
	}
	return b, nil
}

// sameClaims compares what a specification can change: the sizes.
func sameClaims(live, desired []corev1.PersistentVolumeClaim) bool {
	return slices.EqualFunc(live, desired, func(a, b corev1.PersistentVolumeClaim) bool {
		return a.Name == b.Name && a.Spec.Resources.Requests.Storage().Cmp(*b.Spec.Resources.Requests.Storage()) == 0
	})
}

// rolledOut reports whether the one Pod is Ready and has the revision.
func rolledOut(s *appsv1.StatefulSet, revision string) bool {
	return s.Annotations[annotationRevision] == revision && s.Status.ObservedGeneration >= s.Generation &&
		s.Status.ReadyReplicas >= 1 && s.Status.UpdatedReplicas >= 1 && s.Status.CurrentRevision == s.Status.UpdateRevision
}

// podWait says why the pod is not Ready; the pod's own events end the wait.
func (p *pass) podWait(ctx context.Context, kind *backendType) error {
	var pods corev1.PodList
	err := p.client.List(ctx, &pods, client.InNamespace(p.platform.Namespace), client.MatchingLabels(selectorLabels(p.platform.Name, kind.name)))
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	trouble := apply.PodTrouble(pods.Items)
	if trouble == "" {
		trouble = "the pod starts"
	}
	return reconcile.Wait(common.ReasonProgressing, "%s", trouble)
}

// growVolume asks for a larger volume where the specification does.
func (p *pass) growVolume(ctx context.Context, kind *backendType, path string, size resource.Quantity) error {
	var claim corev1.PersistentVolumeClaim
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: claimName(p.platform.Name, kind.name)}, &claim)
	if apierrors.IsNotFound(err) {
		return nil // the StatefulSet controller makes it
	}
	if err != nil {
		return fmt.Errorf("read PersistentVolumeClaim: %w", err)
	}
	if size.Cmp(*claim.Spec.Resources.Requests.Storage()) <= 0 {
		return nil
	}
	grown := claim.DeepCopy()
	grown.Spec.Resources.Requests[corev1.ResourceStorage] = size
	err = p.client.Patch(ctx, grown, client.MergeFrom(&claim))
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
		return reconcile.Stall(common.ReasonInvalidSpec,
			"%s.storage.size: the volume cannot grow: %v; choose a storage class with allowVolumeExpansion, or the former size", path, err)
	}
	if err != nil {
		return fmt.Errorf("grow PersistentVolumeClaim %s: %w", claim.Name, err)
	}
	return nil
}
