// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

// Destination reads the destination of a vault Secret from the cache. A new version reaches the workers through their file,
// without a restart. wanted says what the destination must hold, for messages.
func (r Resolver) Destination(ctx context.Context, from refs.From, path, namespace, name, wanted string) (*corev1.Secret, error) {
	to := refs.To{Group: vaultv1alpha1.GroupVersion.Group, Kind: "Secret", Namespace: namespace, Name: name}
	if err := r.Refs.Granted(ctx, path, from, to); err != nil {
		return nil, err
	}
	var secret vaultv1alpha1.Secret
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, reconcile.Wait(common.ReasonReferenceNotFound, "%s: vault Secret %s/%s does not exist; create it", path, namespace, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read vault Secret: %w", path, err)
	}
	core := secret.DestinationName()
	if core == "" {
		return nil, reconcile.Stall(common.ReasonInvalidSpec,
			"%s: vault Secret %s/%s has no destination; give it spec.destination with %s", path, namespace, name, wanted)
	}
	var destination corev1.Secret
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: core}, &destination)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("%s: read destination: %w", path, err)
	}
	if err != nil || destination.Annotations[vaultv1alpha1.AnnotationSecret] != name || destination.Labels[common.LabelOwnerKind] != string(common.ConnectionVaultSecret) {
		return nil, reconcile.Wait(common.ReasonReferenceNotReady, "%s: vault Secret %s/%s has not written Secret %s yet; its status tells why", path, namespace, name, core)
	}
	return &destination, nil
}

func (r Resolver) vaultBinding(ctx context.Context, from refs.From, path string, t Target) (Found, error) {
	destination, err := r.Destination(ctx, from, path, t.Namespace, t.Name, "a template of the Service Binding format")
	if err != nil {
		return Found{}, err
	}
	found := foundIn(destination)
	if found.Binding.Type == "" {
		return Found{}, reconcile.Stall(common.ReasonInvalidSpec,
			`%s: the destination of vault Secret %s/%s has no key "type"; give spec.destination.template the keys of the Service Binding format`, path, t.Namespace, t.Name)
	}
	if key := lacks(found.Binding); key != "" {
		return Found{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: the destination of vault Secret %s/%s lacks key %q, which a connection to %s needs; add it to spec.destination.template",
			path, t.Namespace, t.Name, key, found.Binding.Type)
	}
	return found, nil
}
