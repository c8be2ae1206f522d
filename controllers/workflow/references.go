// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// shortestKey is the minimum length of a webhook's key in bytes: shorter ones can be guessed.
const shortestKey = 16

// references returns all that a Workflow names, except for its Platform.
func references(w *workflowv1alpha1.Workflow) []connections.Target {
	var out []connections.Target
	for i := range w.Spec.Connections {
		out = append(out, connections.TargetOf(&w.Spec.Connections[i].Ref, w.Namespace, w.Spec.Connections[i].Backend))
	}
	for i := range w.Spec.Triggers {
		if ref := hmacRef(&w.Spec.Triggers[i]); ref != nil {
			out = append(out, hmacTarget(ref, w.Namespace))
		}
	}
	return out
}

// hmacRef returns the reference to a trigger's key, or nil when it has none.
func hmacRef(t *workflowv1alpha1.Trigger) *workflowv1alpha1.HMACSecretReference {
	if t.Webhook == nil || t.Webhook.Auth == nil {
		return nil
	}
	return &t.Webhook.Auth.HMACSecretRef
}

func hmacTarget(ref *workflowv1alpha1.HMACSecretReference, namespace string) connections.Target {
	return connections.TargetOf(&common.ConnectionReference{Kind: ref.Kind, Name: ref.Name}, namespace, "")
}

// resolve reads all references of a Workflow.
func (c *Controller) resolve(ctx context.Context, w *workflowv1alpha1.Workflow) (config.WorkflowBindings, error) {
	var out config.WorkflowBindings
	from := refs.From{Group: workflowv1alpha1.GroupVersion.Group, Kind: ownerKind, Namespace: w.Namespace}
	resolver := connections.Resolver{Client: c.Client, Refs: c.Refs}
	for i := range w.Spec.Connections {
		named := &w.Spec.Connections[i]
		target := connections.TargetOf(&named.Ref, w.Namespace, named.Backend)
		found, err := resolver.Binding(ctx, from, fmt.Sprintf("spec.connections[%d].ref", i), target)
		if err != nil {
			return out, err
		}
		if out.Connections == nil {
			out.Connections = map[string]map[string]string{}
		}
		out.Connections[named.Name] = found.Binding.Data()
	}
	for i := range w.Spec.Triggers {
		ref := hmacRef(&w.Spec.Triggers[i])
		if ref == nil {
			continue
		}
		key, err := hmacKey(ctx, resolver, from, fmt.Sprintf("spec.triggers[%d].webhook.auth.hmacSecretRef", i), ref)
		if err != nil {
			return out, err
		}
		if out.HMAC == nil {
			out.HMAC = map[string][]byte{}
		}
		out.HMAC[w.Spec.Triggers[i].Name] = key
	}
	return out, nil
}

// hmacKey reads the key of a webhook, byte for byte.
func hmacKey(ctx context.Context, resolver connections.Resolver, from refs.From, path string, ref *workflowv1alpha1.HMACSecretReference) ([]byte, error) {
	var secret *corev1.Secret
	var err error
	if ref.Kind == common.ConnectionVaultSecret {
		secret, err = resolver.Destination(ctx, from, path, from.Namespace, ref.Name, fmt.Sprintf("the key %q", ref.Key))
	} else {
		secret, err = resolver.Refs.Secret(ctx, path, from, from.Namespace, ref.Name)
	}
	if err != nil {
		return nil, err
	}
	switch key := secret.Data[ref.Key]; {
	case len(key) == 0:
		return nil, reconcile.Stall(common.ReasonInvalidSpec, "%s: Secret %s lacks key %q; add it", path, secret.Name, ref.Key)
	case len(key) < shortestKey:
		return nil, reconcile.Stall(common.ReasonInvalidSpec, "%s: key %q of Secret %s has fewer than %d bytes; make a longer one", path, ref.Key, secret.Name, shortestKey)
	default:
		return key, nil
	}
}
