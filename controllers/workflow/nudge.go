// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch

// annotationBindings is on the Pods that mount the bindings: the hash of those that they were told of.
const annotationBindings = "workflow.itechsmart.dev/bindings"

// readers are the names in labels of the Pods that mount the bindings.
var readers = []string{platformv1alpha1.ProductWorkflow, "workflow-worker"}

// nudge lets kubelets look at the bindings at once: a Pod that changes is looked after now, and others when their turn comes,
// which may take more than a minute.
func (b *bindings) nudge(ctx context.Context, platform *platformv1alpha1.Platform, secret *corev1.Secret) error {
	sum := sha256.Sum256(secret.Data[config.BindingsName])
	hash := hex.EncodeToString(sum[:8])
	var pods corev1.PodList
	if err := b.Client.List(ctx, &pods, client.InNamespace(platform.Namespace), client.MatchingLabels{"app.kubernetes.io/instance": platform.Name}); err != nil {
		return fmt.Errorf("list Pods: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !slices.Contains(readers, pod.Labels["app.kubernetes.io/name"]) || pod.DeletionTimestamp != nil || pod.Annotations[annotationBindings] == hash {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotationBindings: hash}}})
		if err == nil {
			err = b.Client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("tell Pod %s of the bindings: %w", pod.Name, err)
		}
	}
	return nil
}
