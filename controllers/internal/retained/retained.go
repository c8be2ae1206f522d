// SPDX-License-Identifier: Apache-2.0

// Package retained makes Secrets once: what was encrypted, signed or logged in with them would be lost with another one. They
// go with their owner only where its data does.
package retained

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// identifying are the labels that two objects of one purpose share, whoever made them.
var identifying = []string{apply.LabelManagedBy, common.LabelOwnerKind, common.LabelPlatform, common.LabelComponent}

// Owner is the resource for which Secrets are made.
type Owner struct {
	Client client.Client
	// Live reads past the cache.
	Live   client.Reader
	Object client.Object
	// Policy Delete gives the Secrets to the garbage collector.
	Policy common.DeletionPolicy
}

// Secret is the desired state.
type Secret struct {
	Name string
	Type corev1.SecretType
	// Labels of the object; LabelOwnerKind, LabelPlatform and LabelComponent say whose it is.
	Labels map[string]string
	// Keys that must be there.
	Keys []string
	// Make returns the content of a new one.
	Make func() (map[string][]byte, error)
}

// Ensure reads the Secret, or makes it.
func (o Owner) Ensure(ctx context.Context, want Secret) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: o.Object.GetNamespace(), Name: want.Name}
	var secret corev1.Secret
	err := o.Client.Get(ctx, key, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return o.create(ctx, want)
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", want.Name, err)
	}
	if err := o.adopt(ctx, &secret, want.Labels); err != nil {
		return nil, err
	}
	for _, name := range want.Keys {
		if len(secret.Data[name]) == 0 {
			return nil, reconcile.Stall(common.ReasonInvalidSpec, "Secret %s lacks key %q; restore it, for it cannot be made anew", want.Name, name)
		}
	}
	return &secret, nil
}

func (o Owner) create(ctx context.Context, want Secret) (*corev1.Secret, error) {
	data, err := want.Make()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: want.Name, Namespace: o.Object.GetNamespace(), Labels: want.Labels},
		Type:       want.Type, Data: data,
	}
	if err := o.own(secret); err != nil {
		return nil, err
	}
	// Create, never apply: a cache that is behind must not replace a key.
	err = o.Client.Create(ctx, secret, client.FieldOwner(common.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		return nil, o.appeared(ctx, want)
	}
	if err != nil {
		return nil, fmt.Errorf("create Secret %s: %w", want.Name, err)
	}
	return secret, nil
}

// appeared returns the error for a Secret that exists and that the cache does not have.
func (o Owner) appeared(ctx context.Context, want Secret) error {
	var live corev1.Secret
	if err := o.Live.Get(ctx, client.ObjectKey{Namespace: o.Object.GetNamespace(), Name: want.Name}, &live); err != nil {
		return fmt.Errorf("read Secret %s: %w", want.Name, err)
	}
	if !o.ours(&live, want.Labels) {
		return o.foreign(want.Name)
	}
	return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "Secret " + want.Name + " is being read", After: time.Second}
}

func (o Owner) foreign(name string) error {
	return reconcile.Stall(common.ReasonConflict, "Secret %s exists and belongs to something else; rename the Platform, or remove that Secret", name)
}

// ours reports whether a Secret was made for this owner, or for an earlier one of the same purpose.
func (o Owner) ours(secret *corev1.Secret, labels map[string]string) bool {
	for _, name := range identifying {
		if secret.Labels[name] != labels[name] {
			return false
		}
	}
	owner := metav1.GetControllerOf(secret)
	return owner == nil || owner.UID == o.Object.GetUID()
}

// own gives the Secret to the garbage collector only where data goes with the owner.
func (o Owner) own(obj client.Object) error {
	if o.Policy != common.DeletionDelete {
		obj.SetOwnerReferences(nil)
		return nil
	}
	if err := controllerutil.SetControllerReference(o.Object, obj, o.Client.Scheme()); err != nil {
		return fmt.Errorf("own %s: %w", obj.GetName(), err)
	}
	return nil
}

// adopt makes owner and labels follow the owner and its deletionPolicy.
func (o Owner) adopt(ctx context.Context, secret *corev1.Secret, labels map[string]string) error {
	owner := metav1.GetControllerOf(secret)
	if owner != nil && owner.UID != o.Object.GetUID() && owner.Kind == labels[common.LabelOwnerKind] {
		// An earlier owner of this purpose, which asked for deletion: its data goes, and so does this.
		return &reconcile.Waiting{Reason: common.ReasonProgressing, After: 2 * time.Second,
			Message: fmt.Sprintf("Secret %s of the deleted %s %s is being removed", secret.Name, owner.Kind, owner.Name)}
	}
	if !o.ours(secret, labels) {
		return o.foreign(secret.Name)
	}
	return reconcile.PatchMetadata(ctx, o.Client, secret, func(obj client.Object) {
		_ = o.own(obj) // its kind is known
		all := maps.Clone(obj.GetLabels())
		maps.Copy(all, labels)
		obj.SetLabels(all)
	})
}

// Value returns one key of a Secret, without the line end that `kubectl create secret --from-file` leaves.
func Value(secret *corev1.Secret, path, key string) (string, error) {
	value := strings.TrimRight(string(secret.Data[key]), "\r\n")
	if value == "" {
		return "", reconcile.Stall(common.ReasonInvalidSpec, "%s: Secret %s lacks key %q", path, secret.Name, key)
	}
	return value, nil
}
