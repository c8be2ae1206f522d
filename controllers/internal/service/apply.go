// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/workload"
)

// apply makes the children as rendered.
func (p *pass) apply(ctx context.Context, want *children) error {
	if want.reviewer != nil {
		// A cluster's object cannot be owned by a namespace's: the finalizer removes it.
		if err := p.deps.Applier.ApplyKept(ctx, p.service, want.reviewer); err != nil {
			return err
		}
	}
	if err := p.deps.Applier.Apply(ctx, p.service, want.objects()...); err != nil {
		return err
	}
	if err := p.applyOptional(ctx, routeKind, p.kind.Product, want.route); err != nil {
		return err
	}
	if err := p.applyOptional(ctx, monitorKind, p.kind.Product, want.component.monitor); err != nil || want.worker == nil {
		return err
	}
	return p.applyOptional(ctx, podMonitorKind, want.worker.name, want.worker.monitor)
}

// applyOptional makes a child of a component, of a kind that the cluster may lack, or removes it. A monitor without its kind is
// left out, for nothing depends on it; an HTTPRoute is what makes the service reachable.
func (p *pass) applyOptional(ctx context.Context, kind dynamic.Kind, component string, obj *unstructured.Unstructured) error {
	if obj == nil {
		return p.pruneOptional(ctx, kind, component)
	}
	versions, err := p.dynamic.Installed(kind)
	switch {
	case meta.IsNoMatchError(err) && kind.Group == monitorKind.Group:
		p.again = workload.Sooner(p.again, dynamic.Retry)
		return nil
	case meta.IsNoMatchError(err):
		return &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: dynamic.Retry, Message: fmt.Sprintf(
			"spec.httpRoute: the cluster has no %s; install the CRDs of the Gateway API, or use spec.ingress", kind.Kind)}
	case err != nil:
		return fmt.Errorf("%s: %w", kind.Kind, err)
	}
	obj.SetGroupVersionKind(versions[kind.Kind])
	return p.deps.Applier.Apply(ctx, p.service, obj)
}

// pruneOptional removes a component's child of a kind that the cluster may lack. It looks past the cache, for the kind is not
// watched unless somebody uses it; what is settled is not looked at.
func (p *pass) pruneOptional(ctx context.Context, kind dynamic.Kind, component string) error {
	status := p.service.ServiceStatus()
	if status.ObservedGeneration == p.service.GetGeneration() && meta.IsStatusConditionTrue(status.Conditions, common.ConditionReady) {
		return nil
	}
	mapping, err := p.dynamic.Mapper.RESTMapping(kind.GroupKind(), kind.Versions...)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind.Kind, err)
	}
	live := &metav1.PartialObjectMetadata{}
	live.SetGroupVersionKind(mapping.GroupVersionKind)
	err = p.deps.Refs.Live.Get(ctx, client.ObjectKey{Namespace: p.service.GetNamespace(), Name: p.componentName(component)}, live)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(live, p.service) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", kind.Kind, err)
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

// rolledOut waits until every replica of service and worker has the current configuration.
func (p *pass) rolledOut(ctx context.Context, now *observed, want *children) error {
	serving, done := Rollout(now.service, want.component.deployment, p.spec.Autoscaling)
	p.serving = serving
	if !done {
		return p.rolling(ctx, p.kind.Product, "the rollout goes on")
	}
	if want.worker != nil {
		if _, done := Rollout(now.worker, want.worker.deployment, nil); !done {
			return p.rolling(ctx, want.worker.name, "the rollout of the workers goes on")
		}
	}
	p.version = versionOf(want.component.deployment.Spec.Template.Spec.Containers[0].Image)
	return nil
}

// Rollout returns how many replicas of a Deployment are available as wanted, and whether all are; scaled is nil when nothing
// else chooses the replicas.
func Rollout(live, want *appsv1.Deployment, scaled *common.Autoscaling) (replicas int32, done bool) {
	if live == nil || live.Spec.Template.Annotations[workload.AnnotationChecksum] != want.Spec.Template.Annotations[workload.AnnotationChecksum] ||
		live.Spec.Template.Spec.Containers[0].Image != want.Spec.Template.Spec.Containers[0].Image {
		// What was just written is not in the cache yet.
		return 0, false
	}
	s := &live.Status
	if s.ObservedGeneration < live.Generation {
		return 0, false
	}
	all := ptr.Deref(live.Spec.Replicas, 1)
	least := all
	if scaled != nil {
		least = max(scaled.MinReplicas, 1) // those that are being added do not make the others less ready
	}
	done = s.UpdatedReplicas == s.Replicas && s.AvailableReplicas >= least && (scaled != nil || s.Replicas == all)
	return min(s.UpdatedReplicas, s.AvailableReplicas), done
}

// rolling says what keeps a component's Pods from being Ready; their own events end the wait.
func (p *pass) rolling(ctx context.Context, component, otherwise string) error {
	var pods corev1.PodList
	err := p.client.List(ctx, &pods, client.InNamespace(p.service.GetNamespace()), client.MatchingLabels(selectorLabels(p.spec.PlatformRef.Name, component)))
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	trouble := apply.PodTrouble(pods.Items)
	if trouble == "" {
		trouble = otherwise
	}
	return reconcile.Wait(common.ReasonProgressing, "%s", trouble)
}

// versionOf returns an image's tag; empty when it has none.
func versionOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		return image[colon+1:]
	}
	return ""
}
