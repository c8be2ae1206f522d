// SPDX-License-Identifier: Apache-2.0

// Package refs follows references from one resource to another: live reads of
// the few Secrets that are named, and ReferenceGrants where a reference leaves
// its namespace.
package refs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Resolver reads the objects that references name.
type Resolver struct {
	// Live reads from the API server: no watch caches the content of foreign Secrets.
	Live client.Reader
	// Names holds the version of every Secret.
	Names *Names
	// Namespaces that the operator watches; empty means all.
	Namespaces []string

	mu   sync.Mutex
	read map[client.ObjectKey]*corev1.Secret // the few that are referenced, at the version last read
	// reading lets passes that run at the same time, as after a start, share one live read.
	reading singleflight.Group
}

// From is the resource that refers.
type From struct {
	Group, Kind, Namespace string
}

// To is the object that is referred to.
type To struct {
	Group, Kind, Namespace, Name string
}

// Secret reads a referenced Secret. path is the field that names it, for messages.
func (r *Resolver) Secret(ctx context.Context, path string, from From, namespace, name string) (*corev1.Secret, error) {
	if namespace == "" {
		namespace = from.Namespace
	}
	if err := r.Granted(ctx, path, from, To{Kind: "Secret", Namespace: namespace, Name: name}); err != nil {
		return nil, err
	}
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, namespace) {
		return nil, outside(path, namespace)
	}
	secret, err := r.secret(ctx, client.ObjectKey{Namespace: namespace, Name: name})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: retryMissing,
			Message: fmt.Sprintf("%s: Secret %s/%s does not exist; create it, or name another", path, namespace, name)}
	case apierrors.IsForbidden(err):
		return nil, outside(path, namespace)
	case err != nil:
		return nil, fmt.Errorf("%s: read Secret: %w", path, err)
	}
	return secret, nil
}

// Version returns the UID and resource version of a Secret from the metadata watch; "" when the watch does not have it.
func (r *Resolver) Version(key client.ObjectKey) string {
	version, _ := r.Names.Version(key)
	return version
}

// VersionOf returns the same for a Secret that was read.
func VersionOf(secret metav1.Object) string {
	return string(secret.GetUID()) + "/" + secret.GetResourceVersion()
}

func outside(path, namespace string) error {
	return reconcile.Stall(common.ReasonReferenceNotGranted, "%s: the operator may not read Secrets in namespace %s; add it to the operator's --namespaces", path, namespace)
}

// secret reads from the API server only when the watched version differs from the one that was read last.
func (r *Resolver) secret(ctx context.Context, key client.ObjectKey) (*corev1.Secret, error) {
	version, watched := r.Names.Version(key)
	if !watched {
		return r.live(ctx, key)
	}
	if version == "" {
		r.mu.Lock()
		delete(r.read, key)
		r.mu.Unlock()
		return nil, apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
	}
	if last := r.last(key, version); last != nil {
		return last, nil
	}
	// The version is part of the key: no pass gets the result of a read that began before it.
	secret, err, _ := r.reading.Do(key.String()+"@"+version, func() (any, error) {
		if last := r.last(key, version); last != nil {
			return last, nil // it ended just now
		}
		return r.live(ctx, key)
	})
	if err != nil {
		return nil, err
	}
	return secret.(*corev1.Secret), nil
}

// last returns what was read last, if it has that version.
func (r *Resolver) last(key client.ObjectKey, version string) *corev1.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.read[key]; last != nil && VersionOf(last) == version {
		return last
	}
	return nil
}

func (r *Resolver) live(ctx context.Context, key client.ObjectKey) (*corev1.Secret, error) {
	var secret corev1.Secret
	if err := r.Live.Get(ctx, key, &secret); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil {
		r.read = map[client.ObjectKey]*corev1.Secret{}
	}
	r.read[key] = &secret
	return &secret, nil
}

// Granted returns nil when the reference stays in its namespace, or a ReferenceGrant in the target's namespace allows it.
func (r *Resolver) Granted(ctx context.Context, path string, from From, to To) error {
	if to.Namespace == "" || to.Namespace == from.Namespace {
		return nil
	}
	var grants gatewayv1beta1.ReferenceGrantList
	err := r.Live.List(ctx, &grants, client.InNamespace(to.Namespace))
	if err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("%s: list ReferenceGrants: %w", path, err)
	}
	for i := range grants.Items {
		if allows(&grants.Items[i], from, to) {
			return nil
		}
	}
	return &reconcile.Terminal{Reason: common.ReasonReferenceNotGranted, Message: fmt.Sprintf(
		"%s: %s %s/%s is in another namespace, which has no ReferenceGrant from %s in %s; create one there, or use a %s of this namespace",
		path, to.Kind, to.Namespace, to.Name, from.Kind, from.Namespace, to.Kind), After: retryGrant}
}

func allows(grant *gatewayv1beta1.ReferenceGrant, from From, to To) bool {
	granted := false
	for _, f := range grant.Spec.From {
		if string(f.Group) == from.Group && string(f.Kind) == from.Kind && string(f.Namespace) == from.Namespace {
			granted = true
		}
	}
	if !granted {
		return false
	}
	for _, t := range grant.Spec.To {
		if string(t.Group) == to.Group && string(t.Kind) == to.Kind && (t.Name == nil || string(*t.Name) == to.Name) {
			return true
		}
	}
	return false
}

// retryMissing is the interval at which a missing Secret is read again in a namespace that the manager does not watch.
const retryMissing = time.Minute

// retryGrant is the interval at which a missing ReferenceGrant is looked for. Grants are not watched, because their CRD may
// not be installed.
const retryGrant = time.Minute
