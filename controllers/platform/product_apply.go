// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// apply makes the children as rendered.
func (r *productRun) apply(ctx context.Context) error {
	if r.children.reviewer != nil {
		// A cluster's object cannot be owned by a namespace's: the finalizer removes it.
		if err := r.deps.Applier.ApplyKept(ctx, r.platform, r.children.reviewer); err != nil {
			return err
		}
	}
	objects := r.children.objects()
	if r.worker != nil {
		objects = append(objects, r.worker.objects()...)
	}
	if err := r.deps.Applier.Apply(ctx, r.platform, objects...); err != nil {
		return err
	}
	if err := r.applyOptional(ctx, routeKind, r.kind.name, r.children.route); err != nil {
		return err
	}
	if r.worker != nil {
		if err := r.applyOptional(ctx, podMonitorKind, r.kind.worker.name, r.worker.monitor); err != nil {
			return err
		}
	}
	return r.applyOptional(ctx, monitorKind, r.kind.name, r.children.monitor)
}

// applyOptional makes a child of a workload, of a kind that the cluster may lack, or removes it. A monitor without its kind is
// left out, for nothing depends on it; an HTTPRoute is what makes the service reachable.
func (r *productRun) applyOptional(ctx context.Context, kind operatedKind, workload string, obj *unstructured.Unstructured) error {
	if obj == nil {
		return r.pruneOptional(ctx, workload, kind)
	}
	versions, err := r.operators.installed(&operatedType{kinds: []operatedKind{kind}})
	switch {
	case meta.IsNoMatchError(err) && kind.group == monitorKind.group:
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

// pruneOptional removes a workload's child of a kind that the cluster may lack. It looks past the cache, for the kind is not watched
// unless somebody uses it; a Platform that is settled is not looked at.
func (p *pass) pruneOptional(ctx context.Context, workload string, kind operatedKind) error {
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
	err = p.deps.Refs.Live.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: workloadName(p.platform.Name, workload)}, live)
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

// rolledOut waits until every replica of service and worker has the current configuration.
func (r *productRun) rolledOut(ctx context.Context) error {
	serving, done := rollout(r.live, r.children.deployment, r.spec.Autoscaling)
	r.row.Replicas = serving
	if !done {
		return r.rolling(ctx, r.kind.name, "the rollout goes on")
	}
	if r.worker != nil {
		if _, done := rollout(r.liveWorker, r.worker.deployment, nil); !done {
			return r.rolling(ctx, r.kind.worker.name, "the rollout of the workers goes on")
		}
	}
	r.row.Ready, r.row.Version = true, versionOf(r.image())
	return nil
}

// rollout tells how many replicas of a Deployment are available as wanted, and whether all are.
func rollout(live, want *appsv1.Deployment, scaled *v1alpha1.Autoscaling) (replicas int32, done bool) {
	if live == nil || live.Spec.Template.Annotations[annotationChecksum] != want.Spec.Template.Annotations[annotationChecksum] ||
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
func (r *productRun) rolling(ctx context.Context, component, otherwise string) error {
	var pods corev1.PodList
	err := r.client.List(ctx, &pods, client.InNamespace(r.platform.Namespace), client.MatchingLabels(selectorLabels(r.platform.Name, component)))
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	trouble := apply.PodTrouble(pods.Items)
	if trouble == "" {
		trouble = otherwise
	}
	return reconcile.Wait(common.ReasonProgressing, "%s", trouble)
}
