// SPDX-License-Identifier: Apache-2.0

// Package connections resolves references to other systems: to a backend of a Platform, a Secret in the Service Binding
// format, or a vault Secret whose destination is one. It also finds the resources that refer to what has changed.
package connections

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/internal/backend"
)

// Target names one server. All references to it have the same Target.
type Target struct {
	// Kind is one of common.ConnectionKind; Backend is set for a Platform alone.
	Kind, Namespace, Name, Backend string
}

// PlatformTarget returns the target of a Platform's backend.
func PlatformTarget(namespace, name, backend string) Target {
	return Target{Kind: string(common.ConnectionPlatform), Namespace: namespace, Name: name, Backend: backend}
}

// TargetOf returns what a reference in a namespace names. backend is the one to use of a Platform.
func TargetOf(ref *common.ConnectionReference, namespace, backend string) Target {
	t := Target{Kind: string(ref.Kind), Namespace: ref.Namespace, Name: ref.Name}
	if t.Kind == "" {
		t.Kind = string(common.ConnectionSecret)
	}
	if t.Namespace == "" {
		t.Namespace = namespace
	}
	if ref.Kind == common.ConnectionPlatform {
		t.Backend = backend
	}
	return t
}

// String returns the target's name in claims and in a worker's configuration.
func (t Target) String() string {
	if t.Kind == "" {
		return ""
	}
	parts := []string{t.Kind, t.Namespace, t.Name}
	if t.Backend != "" {
		parts = append(parts, t.Backend)
	}
	return strings.Join(parts, "/")
}

// ParseTarget returns the inverse of Target.String. ok is false when text names no target.
func ParseTarget(text string) (t Target, ok bool) {
	parts := strings.Split(text, "/")
	platform := parts[0] == string(common.ConnectionPlatform)
	switch {
	case slices.Contains(parts, ""):
		return Target{}, false
	case len(parts) == 4 && platform:
		return Target{Kind: parts[0], Namespace: parts[1], Name: parts[2], Backend: parts[3]}, true
	case len(parts) == 3 && (parts[0] == string(common.ConnectionSecret) || parts[0] == string(common.ConnectionVaultSecret)):
		return Target{Kind: parts[0], Namespace: parts[1], Name: parts[2]}, true
	}
	return Target{}, false
}

// key returns the target's value in an index.
func (t Target) key() string { return t.Namespace + "/" + t.Name }

// Found is a resolved target.
type Found struct {
	Binding backend.Binding
	Version string // the Secret's UID and resource version
}

// Resolver reads the objects that references name.
type Resolver struct {
	Client client.Reader
	Refs   *refs.Resolver
}

// Binding reads the Secret behind a target. path is the reference's field, for messages.
func (r Resolver) Binding(ctx context.Context, from refs.From, path string, t Target) (Found, error) {
	switch t.Kind {
	case string(common.ConnectionVaultSecret):
		return r.vaultBinding(ctx, from, path, t)
	case string(common.ConnectionSecret):
		secret, err := r.Refs.Secret(ctx, path, from, t.Namespace, t.Name)
		if err != nil {
			return Found{}, err
		}
		found := foundIn(secret)
		if key := lacks(found.Binding); key != "" {
			return Found{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: Secret %s/%s lacks key %q, which a connection to %s needs; add it",
				path, secret.Namespace, secret.Name, key, found.Binding.Type)
		}
		return found, nil
	default:
		return r.platformBinding(ctx, from, path, t)
	}
}

func (r Resolver) platformBinding(ctx context.Context, from refs.From, path string, t Target) (Found, error) {
	to := refs.To{Group: platformv1alpha1.GroupVersion.Group, Kind: "Platform", Namespace: t.Namespace, Name: t.Name}
	if err := r.Refs.Granted(ctx, path, from, to); err != nil {
		return Found{}, err
	}
	var platform platformv1alpha1.Platform
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: t.Name}, &platform)
	if apierrors.IsNotFound(err) {
		return Found{}, reconcile.Wait(common.ReasonReferenceNotFound, "%s: Platform %s/%s does not exist; create it", path, t.Namespace, t.Name)
	}
	if err != nil {
		return Found{}, fmt.Errorf("%s: read Platform: %w", path, err)
	}
	if !platform.Spec.Backends.Has(t.Backend) {
		return Found{}, reconcile.Stall(common.ReasonReferenceNotFound,
			"%s: Platform %s has no %s; add spec.backends.%s to it, or name another connection", path, t.Name, t.Backend, platformv1alpha1.BackendField(t.Backend))
	}
	row := platform.Status.Backend(t.Backend)
	if row == nil || row.BindingSecret == "" {
		return Found{}, notReady(path, &platform, t.Backend)
	}
	var secret corev1.Secret
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: row.BindingSecret}, &secret)
	if apierrors.IsNotFound(err) {
		return Found{}, notReady(path, &platform, t.Backend)
	}
	if err != nil {
		return Found{}, fmt.Errorf("%s: read binding: %w", path, err)
	}
	return foundIn(&secret), nil
}

func foundIn(secret *corev1.Secret) Found {
	return Found{backend.ParseBinding(secret.Data), refs.VersionOf(secret)}
}

// lacks returns the first key that a connection needs and the binding does not have; "" when it has all.
func lacks(b backend.Binding) string {
	switch b.Type {
	case "kafka":
		if len(b.Brokers()) == 0 {
			return "bootstrap-servers"
		}
	case "clickhouse", "postgresql", "redis", "rabbitmq":
		if b.Host == "" {
			return "host"
		}
	}
	return ""
}

func notReady(path string, platform *platformv1alpha1.Platform, name string) error {
	message := "it is being set up"
	if row := platform.Status.Backend(name); row != nil && row.Message != "" {
		message = row.Message
	}
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s: %s of Platform %s is not Ready: %s", path, name, platform.Name, message)
}
