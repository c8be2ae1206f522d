// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/internal/backend"
)

// external copies the binding of a system that runs elsewhere.
func (p *pass) external(ctx context.Context, kind *backendType, spec *v1alpha1.ExternalBackend) (backend.Binding, error) {
	path := fieldPath(kind.name, v1alpha1.ModeExternal) + ".secretRef"
	from := refs.From{Group: v1alpha1.GroupVersion.Group, Kind: kindPlatform, Namespace: p.platform.Namespace}
	if b, ok := p.copied(ctx, kind, spec.SecretRef); ok {
		return b, nil
	}
	secret, err := p.deps.Refs.Secret(ctx, path, from, spec.SecretRef.Namespace, spec.SecretRef.Name)
	if err != nil {
		return backend.Binding{}, err
	}
	b := backend.ParseBinding(secret.Data)
	if message := kind.checkBinding(&b); message != "" {
		return b, reconcile.Stall(common.ReasonInvalidSpec, "%s: Secret %s/%s: %s", path, secret.Namespace, secret.Name, message)
	}
	return b, p.bindTo(ctx, kind, &b, v1alpha1.ModeExternal, refs.VersionOf(secret))
}

// copied returns the binding that was made from this very version of the Secret, so that a restart reads none live.
func (p *pass) copied(ctx context.Context, kind *backendType, from v1alpha1.SecretReference) (backend.Binding, bool) {
	if from.Namespace != "" && from.Namespace != p.platform.Namespace {
		return backend.Binding{}, false // whether it is still granted is to be asked
	}
	version := p.deps.Refs.Version(client.ObjectKey{Namespace: p.platform.Namespace, Name: from.Name})
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: p.platform.BindingSecretName(kind.name)}, &secret)
	if version == "" || err != nil || secret.Annotations[annotationSource] != version {
		return backend.Binding{}, false
	}
	b := backend.ParseBinding(secret.Data)
	return b, p.deps.Applier.Unchanged(ctx, p.platform, bindingSecret(p.platform, kind, b, version))
}

// checkBinding returns what is wrong with a binding that the operator did not write. Of its values it quotes only addresses.
func (t *backendType) checkBinding(b *backend.Binding) string {
	if b.Type != "" && b.Type != t.name && b.Type != aliases[t.name] {
		return `key "type" is "` + b.Type + `"; this backend needs "` + t.name + `"`
	}
	if t.complete != nil {
		if message := t.complete(b); message != "" {
			return message
		}
	}
	for _, key := range append([]string{"host", "port"}, t.required...) {
		if b.Require(key) != nil {
			return `it lacks key "` + key + `", which this backend needs`
		}
	}
	if strings.ContainsAny(b.Host, "/ @") {
		return `key "host" must be a name or an address, without scheme or user`
	}
	if number, err := strconv.ParseUint(b.Port, 10, 16); err != nil || number == 0 {
		return `key "port" must be a number from 1 to 65535`
	}
	if _, err := b.TLSConfig(); err != nil {
		return err.Error()
	}
	return ""
}

// aliases are names that other tools give as `type`.
var aliases = map[string]string{v1alpha1.BackendPostgreSQL: "postgres", v1alpha1.BackendObjectStorage: "s3"}

// bindTo completes the binding and writes the Secret that products read. source is the version of the Secret that it is a copy of.
func (p *pass) bindTo(ctx context.Context, kind *backendType, b *backend.Binding, mode, source string) error {
	b.Type, b.Provider = kind.name, mode
	if b.URI == "" {
		b.URI = kind.uri(*b)
	}
	return p.deps.Applier.Apply(ctx, p.platform, bindingSecret(p.platform, kind, *b, source))
}
