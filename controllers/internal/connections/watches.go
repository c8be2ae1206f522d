// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

// Field indexes of resources by the objects that they name, as "namespace/name".
const (
	// IndexSecrets indexes the core Secrets that users created.
	IndexSecrets = "spec.secrets"
	// IndexVault indexes the vault Secrets.
	IndexVault = "spec.vaultSecrets"
	// IndexPlatform indexes the Platforms; "namespace/" stands for the only one of a namespace.
	IndexPlatform = "spec.platforms"
)

// SecretKeys returns the index values of the Secrets among the targets.
func SecretKeys(targets []Target) []string { return keysOf(targets, common.ConnectionSecret) }

// VaultKeys returns those of the vault Secrets.
func VaultKeys(targets []Target) []string { return keysOf(targets, common.ConnectionVaultSecret) }

// PlatformKeys returns those of the Platforms.
func PlatformKeys(targets []Target) []string { return keysOf(targets, common.ConnectionPlatform) }

func keysOf(targets []Target, kind common.ConnectionKind) []string {
	var out []string
	for _, t := range targets {
		if t.Kind == string(kind) {
			out = append(out, t.key())
		}
	}
	return out
}

// Users finds the resources of one kind that name an object.
type Users struct {
	Reader client.Reader
	// List returns an empty list of the kind.
	List func() client.ObjectList
}

// Watch adds the watches that a controller of the kind needs beside its own resources. change maps the requests for the
// resources to other requests; it may be nil.
func (u Users) Watch(b *builder.Builder, names *refs.Names, change func(context.Context, []ctrlreconcile.Request) []ctrlreconcile.Request) *builder.Builder {
	mapped := func(find func(context.Context, client.Object) []ctrlreconcile.Request) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
			return changed(ctx, find(ctx, obj), change)
		})
	}
	return b.
		Watches(&corev1.Secret{}, mapped(u.ofBinding)).
		Watches(&vaultv1alpha1.Secret{}, mapped(u.ofVaultSecret), builder.WithPredicates(destinationChanged())).
		WatchesRawSource(names.Source(func(ctx context.Context, secret client.ObjectKey) []ctrlreconcile.Request {
			return changed(ctx, u.matching(ctx, IndexSecrets, secret.String()), change)
		}))
}

func changed(ctx context.Context, found []ctrlreconcile.Request, change func(context.Context, []ctrlreconcile.Request) []ctrlreconcile.Request) []ctrlreconcile.Request {
	if change == nil || len(found) == 0 {
		return found
	}
	return change(ctx, found)
}

func (u Users) matching(ctx context.Context, field, value string) []ctrlreconcile.Request {
	return refs.Matching(ctx, u.Reader, u.List(), field, value)
}

// OfPlatform returns requests for the resources of a Platform.
func (u Users) OfPlatform(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	return refs.PlatformUsers(ctx, u.Reader, u.List(), IndexPlatform, platform)
}

// ofBinding returns requests for the resources of the Platform, or of the vault Secret, whose binding Secret changed.
func (u Users) ofBinding(ctx context.Context, secret client.Object) []ctrlreconcile.Request {
	if secret.GetLabels()[common.LabelOwnerKind] == string(common.ConnectionVaultSecret) {
		return u.matching(ctx, IndexVault, secret.GetNamespace()+"/"+secret.GetAnnotations()[vaultv1alpha1.AnnotationSecret])
	}
	owner := metav1.GetControllerOf(secret)
	if owner == nil || owner.Kind != "Platform" {
		return nil
	}
	platform := &platformv1alpha1.Platform{}
	platform.Namespace, platform.Name = secret.GetNamespace(), owner.Name
	if !isBinding(platform, secret.GetName()) {
		return nil // one of the Platform's own, such as a product's configuration
	}
	return u.OfPlatform(ctx, platform)
}

func isBinding(platform *platformv1alpha1.Platform, secret string) bool {
	for _, backend := range platformv1alpha1.BackendNames() {
		if secret == platform.BindingSecretName(backend) {
			return true
		}
	}
	return false
}

func (u Users) ofVaultSecret(ctx context.Context, secret client.Object) []ctrlreconcile.Request {
	return u.matching(ctx, IndexVault, secret.GetNamespace()+"/"+secret.GetName())
}

// destinationChanged selects vault Secrets that are created, deleted, or given another destination. New versions show at the
// destination.
func destinationChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*vaultv1alpha1.Secret)
		after, isSecret := e.ObjectNew.(*vaultv1alpha1.Secret)
		return !ok || !isSecret || before.DestinationName() != after.DestinationName()
	}}
}

// BackendsChanged selects changes of a Platform that those who connect to its backends can see.
func BackendsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*platformv1alpha1.Platform)
		after, isPlatform := e.ObjectNew.(*platformv1alpha1.Platform)
		return !ok || !isPlatform || before.Generation != after.Generation || !equality.Semantic.DeepEqual(before.Status.Backends, after.Status.Backends)
	}}
}
