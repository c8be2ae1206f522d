// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

const (
	// retryRefused is the delay before bindings that the API server rejected are retried.
	retryRefused = time.Minute
	// restAfterWrite keeps a thousand Workflows that are made at once from being as many writes of one large Secret.
	restAfterWrite = time.Second
)

// bindings writes, for each Platform, the one Secret with what its Workflows name. It is made from all of them again each
// time, so that a crash at any write leaves nothing that the next look does not mend.
type bindings struct {
	*Controller
	recorder events.EventRecorder

	mu      sync.Mutex
	written map[client.ObjectKey]time.Time
}

// Reconcile implements controller-runtime's reconcile.Reconciler; requests name Platforms.
func (b *bindings) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var platform platformv1alpha1.Platform
	if err := b.Client.Get(ctx, req.NamespacedName, &platform); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	owner, err := serviceType.Of(ctx, b.Client, platform.Namespace, platform.Name)
	if err != nil || owner == nil || !owner.GetDeletionTimestamp().IsZero() {
		return ctrl.Result{}, err // it goes with the service
	}
	content, again, err := b.gather(ctx, &platform)
	if err != nil {
		return ctrl.Result{}, err
	}
	secret, err := bindingsSecret(owner, content)
	if err != nil {
		return ctrl.Result{}, err
	}
	if b.Applier.Unchanged(ctx, owner, secret) {
		return ctrl.Result{RequeueAfter: again}, b.wake(ctx, secret)
	}
	if rest := b.rest(req.NamespacedName); rest > 0 {
		return ctrl.Result{RequeueAfter: rest}, nil
	}
	err = b.Applier.Apply(ctx, owner, secret)
	var refused *reconcile.Terminal
	if errors.As(err, &refused) {
		b.recorder.Eventf(owner, nil, corev1.EventTypeWarning, refused.Reason, "Bindings", "%s", refused.Message)
		return ctrl.Result{RequeueAfter: retryRefused}, nil
	}
	return ctrl.Result{RequeueAfter: again}, err // the write comes here again, and wakes who reads it
}

// rest returns how long the next write must wait; zero: it may start, and is recorded.
func (b *bindings) rest(platform client.ObjectKey) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if left := b.written[platform].Add(restAfterWrite).Sub(now); left > 0 {
		return left
	}
	if b.written == nil {
		b.written = map[client.ObjectKey]time.Time{}
	}
	b.written[platform] = now
	return 0
}

// wake has the Pods that mount the bindings see them at once: kubelet looks at what a Pod mounts when the Pod changes, and
// else about once a minute.
func (b *bindings) wake(ctx context.Context, secret *corev1.Secret) error {
	var live corev1.Secret
	if err := b.Client.Get(ctx, client.ObjectKeyFromObject(secret), &live); err != nil {
		return client.IgnoreNotFound(err)
	}
	var pods corev1.PodList
	owner := client.MatchingLabels{common.LabelPlatform: secret.Labels[common.LabelPlatform]}
	if err := b.Client.List(ctx, &pods, client.InNamespace(secret.Namespace), owner); err != nil {
		return fmt.Errorf("list Pods: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !pod.DeletionTimestamp.IsZero() || !mounts(pod, secret.Name) || pod.Annotations[annotationBindings] == live.ResourceVersion {
			continue
		}
		base := pod.DeepCopy()
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[annotationBindings] = live.ResourceVersion // and not a sum, which would tell of credentials
		if err := b.Client.Patch(ctx, pod, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("wake Pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

func mounts(pod *corev1.Pod, secret string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == secret })
}

// gather resolves what the Platform's Workflows name, and tells when to look again (zero: a watch tells). One that is not
// accepted, or names something that is not there, is left out; its own status says why.
func (b *bindings) gather(ctx context.Context, platform *platformv1alpha1.Platform) (*config.Bindings, time.Duration, error) {
	var platforms platformv1alpha1.PlatformList
	var workflows workflowv1alpha1.WorkflowList
	if err := b.Client.List(ctx, &platforms, client.InNamespace(platform.Namespace)); err != nil {
		return nil, 0, fmt.Errorf("list Platforms: %w", err)
	}
	if err := b.Client.List(ctx, &workflows, client.InNamespace(platform.Namespace)); err != nil {
		return nil, 0, fmt.Errorf("list Workflows: %w", err)
	}
	content, again := &config.Bindings{Shared: len(platforms.Items) > 1}, time.Duration(0)
	for i := range workflows.Items {
		w := &workflows.Items[i]
		if !runsOn(w, platform.Name) || w.Spec.PlatformRef == nil && content.Shared || b.check(w) != nil {
			continue
		}
		found, err := b.resolve(ctx, w)
		after, known := retryAfter(err)
		if !known {
			return nil, 0, err // it may be there for all we know: better late than without it
		}
		if after > 0 && (again == 0 || after < again) {
			again = after
		}
		if err != nil || len(found.Connections) == 0 && len(found.HMAC) == 0 {
			continue
		}
		if content.Workflows == nil {
			content.Workflows = map[string]config.WorkflowBindings{}
		}
		content.Workflows[w.Name] = found
	}
	return content, again, nil
}

// retryAfter returns when to retry after an error about something missing; known is false for any other error.
func retryAfter(err error) (after time.Duration, known bool) {
	var waiting *reconcile.Waiting
	var terminal *reconcile.Terminal
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &waiting):
		return waiting.After, true
	case errors.As(err, &terminal):
		return terminal.After, true
	default:
		return 0, false
	}
}

// bindingsSecret returns pure.
func bindingsSecret(owner service.Object, content *config.Bindings) (*corev1.Secret, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("render bindings: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: common.BindingsName(owner.ServiceSpec().PlatformRef.Name, workflowv1alpha1.Product), Namespace: owner.GetNamespace(), Labels: bindingsLabels(owner),
		},
		Type: corev1.SecretTypeOpaque, Data: map[string][]byte{config.BindingsName: data},
	}, nil
}
