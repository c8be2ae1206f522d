// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// credentials of a managed backend, made once. They stay as long as the volume that was made with them: with
// deletionPolicy Retain the Secret has no owner, and a later Platform of that name finds both again.
func (p *pass) credentials(ctx context.Context, kind *backendType) (backend.Binding, error) {
	key := client.ObjectKey{Namespace: p.platform.Namespace, Name: credentialsName(p.platform.Name, kind.name)}
	var secret corev1.Secret
	err := p.client.Get(ctx, key, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return p.createCredentials(ctx, kind, key)
	case err != nil:
		return backend.Binding{}, fmt.Errorf("read Secret %s: %w", key.Name, err)
	}
	if err := p.ownCredentials(ctx, &secret); err != nil {
		return backend.Binding{}, err
	}
	b := backend.ParseBinding(secret.Data)
	if err := b.Require(keyUsername, keyPassword); err != nil {
		return b, reconcile.Stall(common.ReasonInvalidSpec,
			"Secret %s: %v; restore the key: the server's volume was made with it", key.Name, err)
	}
	return b, nil
}

func (p *pass) createCredentials(ctx context.Context, kind *backendType, key client.ObjectKey) (backend.Binding, error) {
	b, err := p.lastCredentials(ctx, kind)
	if err != nil {
		return b, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, Labels: objectLabels(p.platform.Name, kind.name)},
		Type:       corev1.SecretTypeBasicAuth,
		Data:       map[string][]byte{keyUsername: []byte(b.Username), keyPassword: []byte(b.Password)},
	}
	if err := p.setOwner(secret); err != nil {
		return b, err
	}
	// Create, never apply: a cache that is behind must not replace a password.
	err = p.client.Create(ctx, secret, client.FieldOwner(common.FieldOwner))
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return b, fmt.Errorf("create Secret %s: %w", key.Name, err)
		}
		return b, nil
	}
	var live corev1.Secret
	if err := p.deps.Refs.Live.Get(ctx, key, &live); err != nil {
		return b, fmt.Errorf("read Secret %s: %w", key.Name, err)
	}
	if !p.ours(&live) {
		return b, reconcile.Stall(common.ReasonConflict,
			"Secret %s exists and belongs to something else; rename this Platform, or remove that Secret", key.Name)
	}
	return b, &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "credentials are being read", After: time.Second}
}

// lastCredentials are those that the binding Secret still has, when the credentials Secret was deleted by hand; else new ones.
func (p *pass) lastCredentials(ctx context.Context, kind *backendType) (backend.Binding, error) {
	var binding corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: p.platform.BindingSecretName(kind.name)}, &binding)
	if client.IgnoreNotFound(err) != nil {
		return backend.Binding{}, fmt.Errorf("read binding Secret: %w", err)
	}
	if last := backend.ParseBinding(binding.Data); err == nil && last.Username == kind.username && last.Password != "" {
		return backend.Binding{Username: last.Username, Password: last.Password}, nil
	}
	return backend.Binding{Username: kind.username, Password: password()}, nil
}

// password is 32 characters of 32 that no configuration file or URI escapes: 160 bits.
func password() string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: it ends the program instead
	for i, r := range random {
		random[i] = alphabet[int(r)%len(alphabet)]
	}
	return string(random)
}

// ours tells whether an object was made for this Platform, or for an earlier one of its name.
func (p *pass) ours(obj client.Object) bool {
	labels := obj.GetLabels()
	owner := metav1.GetControllerOf(obj)
	return labels[apply.LabelManagedBy] == apply.ManagedBy && labels[common.LabelOwnerKind] == kindPlatform &&
		labels[common.LabelOwnerName] == p.platform.Name && (owner == nil || owner.UID == p.platform.UID)
}

// setOwner gives the object to the garbage collector only where data goes with the Platform.
func (p *pass) setOwner(obj client.Object) error {
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		obj.SetOwnerReferences(nil)
		return nil
	}
	if err := controllerutil.SetControllerReference(p.platform, obj, p.client.Scheme()); err != nil {
		return fmt.Errorf("own %s: %w", obj.GetName(), err)
	}
	return nil
}

// ownCredentials makes the owner follow deletionPolicy.
func (p *pass) ownCredentials(ctx context.Context, secret *corev1.Secret) error {
	if owner := metav1.GetControllerOf(secret); owner != nil && owner.Kind == kindPlatform && owner.Name == p.platform.Name && owner.UID != p.platform.UID {
		// An earlier Platform of this name, which asked for deletion: its volume goes, and so does this.
		return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "the credentials of the deleted Platform of this name are being removed", After: 2 * time.Second}
	}
	if !p.ours(secret) {
		return reconcile.Stall(common.ReasonConflict,
			"Secret %s exists and belongs to something else; rename this Platform, or remove that Secret", secret.Name)
	}
	return reconcile.PatchMetadata(ctx, p.client, secret, func(obj client.Object) { _ = p.setOwner(obj) })
}
