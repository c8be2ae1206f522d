// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

// vaultBinding reads the destination of a vault Secret, which the cache holds: a new version reaches the workers' file,
// and through it the workers, without a restart.
func (c *Controller) vaultBinding(ctx context.Context, from refs.From, path string, t target) (connection, error) {
	to := refs.To{Group: vaultv1alpha1.GroupVersion.Group, Kind: "Secret", Namespace: t.namespace, Name: t.name}
	if err := c.Refs.Granted(ctx, path, from, to); err != nil {
		return connection{}, err
	}
	var secret vaultv1alpha1.Secret
	err := c.Client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: t.name}, &secret)
	if apierrors.IsNotFound(err) {
		return connection{}, reconcile.Wait(common.ReasonReferenceNotFound, "%s: vault Secret %s/%s does not exist; create it", path, t.namespace, t.name)
	}
	if err != nil {
		return connection{}, fmt.Errorf("%s: read vault Secret: %w", path, err)
	}
	name := secret.DestinationName()
	if name == "" {
		return connection{}, reconcile.Stall(common.ReasonInvalidSpec,
			"%s: vault Secret %s/%s has no destination; give it spec.destination with a template of the Service Binding format", path, t.namespace, t.name)
	}
	var destination corev1.Secret
	err = c.Client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: name}, &destination)
	if client.IgnoreNotFound(err) != nil {
		return connection{}, fmt.Errorf("%s: read destination: %w", path, err)
	}
	if err != nil || destination.Annotations[vaultv1alpha1.AnnotationSecret] != t.name || destination.Labels[common.LabelOwnerKind] != string(common.ConnectionVaultSecret) {
		return connection{}, reconcile.Wait(common.ReasonReferenceNotReady, "%s: vault Secret %s/%s has not written Secret %s yet; its status tells why", path, t.namespace, t.name, name)
	}
	found := connectionOf(&destination)
	if found.binding.Type == "" {
		return connection{}, reconcile.Stall(common.ReasonInvalidSpec,
			`%s: the destination of vault Secret %s/%s has no key "type"; give spec.destination.template the keys of the Service Binding format`, path, t.namespace, t.name)
	}
	if key := lacks(found.binding); key != "" {
		return connection{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: the destination of vault Secret %s/%s lacks key %q, which a connection to %s needs; add it to spec.destination.template",
			path, t.namespace, t.name, key, found.binding.Type)
	}
	return found, nil
}

// vaultKeys are the vault Secrets that a Pipeline names: "namespace/name".
func vaultKeys(p *dataflowv1alpha1.Pipeline) []string {
	var out []string
	for _, comp := range components(p) {
		if comp.ref != nil && comp.ref.Kind == common.ConnectionVaultSecret {
			out = append(out, or(comp.ref.Namespace, p.Namespace)+"/"+comp.ref.Name)
		}
	}
	return out
}

// vaultUsers are the Pipelines that name a vault Secret.
func (c *Controller) vaultUsers(ctx context.Context, secret client.Object) []ctrlreconcile.Request {
	return c.matching(ctx, indexVault, secret.GetNamespace()+"/"+secret.GetName())
}

// destinationChanged lets a vault Secret through when it comes, goes or names another destination: new versions are
// seen at the destination.
func destinationChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*vaultv1alpha1.Secret)
		after, isSecret := e.ObjectNew.(*vaultv1alpha1.Secret)
		return !ok || !isSecret || before.DestinationName() != after.DestinationName()
	}}
}
