// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

// credentials of a managed backend, made once. They stay as long as the volume that was made with them: with
// deletionPolicy Retain the Secret has no owner, and a later Platform of that name finds both again.
func (p *pass) credentials(ctx context.Context, kind *backendType) (backend.Binding, error) {
	secret, err := p.retainer().Ensure(ctx, retained.Secret{
		Name: credentialsName(p.platform.Name, kind.name), Labels: objectLabels(p.platform.Name, kind.name), Type: corev1.SecretTypeBasicAuth,
		Keys: []string{keyUsername, keyPassword},
		Make: func() (map[string][]byte, error) {
			b, err := p.lastCredentials(ctx, kind)
			return map[string][]byte{keyUsername: []byte(b.Username), keyPassword: []byte(b.Password)}, err
		},
	})
	if err != nil {
		return backend.Binding{}, err
	}
	return backend.ParseBinding(secret.Data), nil
}

// lastCredentials returns the credentials in the binding Secret, in case the credentials Secret was deleted, or new ones.
func (p *pass) lastCredentials(ctx context.Context, kind *backendType) (backend.Binding, error) {
	var binding corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: p.platform.BindingSecretName(kind.name)}, &binding)
	if client.IgnoreNotFound(err) != nil {
		return backend.Binding{}, fmt.Errorf("read binding Secret: %w", err)
	}
	if last := backend.ParseBinding(binding.Data); err == nil && last.Username == kind.username && last.Password != "" {
		return backend.Binding{Username: last.Username, Password: last.Password}, nil
	}
	return backend.Binding{Username: kind.username, Password: workload.Password()}, nil
}

// ours reports whether an object was created for this Platform, or for an earlier one of the same name.
func (p *pass) ours(obj client.Object) bool {
	labels := obj.GetLabels()
	owner := metav1.GetControllerOf(obj)
	return labels[apply.LabelManagedBy] == apply.ManagedBy && labels[common.LabelOwnerKind] == kindPlatform &&
		labels[common.LabelOwnerName] == p.platform.Name && (owner == nil || owner.UID == p.platform.UID)
}
