// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// mac returns an HMAC-SHA256 of length-prefixed parts, in hex. purpose separates its uses.
func mac(key []byte, purpose string, parts ...[]byte) string {
	sum := hmac.New(sha256.New, key)
	for _, part := range append([][]byte{[]byte(purpose)}, parts...) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		sum.Write(length[:])
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// dataMAC identifies the content of a core Secret.
func dataMAC(key []byte, typ corev1.SecretType, data map[string][]byte) string {
	parts := [][]byte{[]byte(typ)}
	for _, name := range slices.Sorted(maps.Keys(data)) {
		parts = append(parts, []byte(name), data[name])
	}
	return mac(key, "destination", parts...)
}

// macKey returns the key of a Platform's HMACs. Without it a status reveals nothing of a value, however short. It is
// created once. If it is deleted, every destination is compared with the store again.
func (c *Controller) macKey(ctx context.Context, platform *platformv1alpha1.Platform) ([]byte, error) {
	name := client.ObjectKey{Namespace: platform.Namespace, Name: macName(platform.Name)}
	var found corev1.Secret
	err := c.Client.Get(ctx, name, &found)
	if apierrors.IsNotFound(err) {
		err = c.makeMACKey(ctx, platform, &found)
	}
	if apierrors.IsAlreadyExists(err) {
		err = c.Refs.Live.Get(ctx, name, &found) // the cache is behind, or it is somebody else's
	}
	if err != nil {
		return nil, fmt.Errorf("key of HMACs: %w", err)
	}
	if found.Labels[apply.LabelManagedBy] != apply.ManagedBy || len(found.Data[macKey]) < sha256.Size {
		return nil, reconcile.Stall(common.ReasonNotOwned, "Secret %s exists and is not the operator's; remove it", name.Name)
	}
	return found.Data[macKey], nil
}

func (c *Controller) makeMACKey(ctx context.Context, platform *platformv1alpha1.Platform, out *corev1.Secret) error {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it never fails
	*out = corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: macName(platform.Name), Namespace: platform.Namespace,
			Labels: map[string]string{
				"app.kubernetes.io/part-of": "itechsmart", apply.LabelManagedBy: apply.ManagedBy, common.LabelComponent: "vault-mac",
			},
			// No controller reference: the Platform's own controller would prune what it does not know.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: platformv1alpha1.GroupVersion.String(), Kind: "Platform", Name: platform.Name, UID: platform.UID,
			}},
		},
		Type: corev1.SecretTypeOpaque, Immutable: ptr.To(true), Data: map[string][]byte{macKey: key},
	}
	return c.Client.Create(ctx, out, client.FieldOwner(common.FieldOwner))
}
