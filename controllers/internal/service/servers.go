// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// servers are the bindings of what a service stores in. A type that is empty: the service has none of it.
type servers struct {
	postgres, redis, rabbitmq, objects backend.Binding
}

// all returns the bindings that there are.
func (s *servers) all() []backend.Binding {
	var out []backend.Binding
	for _, b := range []backend.Binding{s.postgres, s.redis, s.rabbitmq, s.objects} {
		if b.Type != "" {
			out = append(out, b)
		}
	}
	return out
}

// servers finds what the service stores in.
func (p *pass) servers(ctx context.Context, platform *platformv1alpha1.Platform, now *observed) (*servers, error) {
	var s servers
	var err error
	if s.postgres, err = p.needed(ctx, platform, platformv1alpha1.BackendPostgreSQL, now.started()); err != nil {
		return nil, err
	}
	if p.kind.Queue {
		if s.rabbitmq, err = p.needed(ctx, platform, platformv1alpha1.BackendRabbitMQ, now.started()); err != nil {
			return nil, err
		}
	}
	if p.kind.Objects && platform.Spec.Backends.Has(platformv1alpha1.BackendObjectStorage) {
		// A service that runs without the bucket gets it once it answers, and not before: until then nothing is written to
		// where it cannot be read.
		known := now.serving != nil && now.serving.Objects != nil
		if s.objects, err = p.needed(ctx, platform, platformv1alpha1.BackendObjectStorage, known); err != nil {
			return nil, err
		}
	}
	if platform.Spec.Backends.Has(platformv1alpha1.BackendRedis) {
		s.redis, err = p.binding(ctx, platform, platformv1alpha1.BackendRedis)
	}
	return &s, err
}

// needed returns the binding of a backend that the service cannot do without. One that is not up is waited for unless the service
// uses it already: a service that runs says by itself what it lacks.
func (p *pass) needed(ctx context.Context, platform *platformv1alpha1.Platform, name string, used bool) (backend.Binding, error) {
	if !platform.Spec.Backends.Has(name) {
		return backend.Binding{}, reconcile.Stall(common.ReasonInvalidSpec, "%s needs %s; add spec.backends.%s to Platform %s",
			p.kind.Title, platformv1alpha1.BackendTitle(name), platformv1alpha1.BackendField(name), platform.Name)
	}
	b, err := p.binding(ctx, platform, name)
	if err == nil && (b.Type == "" || !used && !up(platform, name)) {
		err = awaited(platform, name)
	}
	return b, err
}

// up reports whether the Platform's last login to a backend succeeded.
func up(platform *platformv1alpha1.Platform, name string) bool {
	row := platform.Status.Backend(name)
	return row != nil && row.Ready
}

func awaited(platform *platformv1alpha1.Platform, name string) error {
	message := "it is being set up"
	if row := platform.Status.Backend(name); row != nil && row.Message != "" {
		message = row.Message
	}
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s of Platform %s is not Ready: %s", platformv1alpha1.BackendTitle(name), platform.Name, message)
}

// binding returns a backend's binding as the Platform wrote it; empty: not written yet.
func (p *pass) binding(ctx context.Context, platform *platformv1alpha1.Platform, name string) (backend.Binding, error) {
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: platform.Namespace, Name: platform.BindingSecretName(name)}, &secret)
	if apierrors.IsNotFound(err) {
		return backend.Binding{}, nil
	}
	if err != nil {
		return backend.Binding{}, fmt.Errorf("read binding Secret: %w", err)
	}
	return backend.ParseBinding(secret.Data), nil
}

// bucket returns the keys of the binding that service and workers need for object storage, or nil if there is none.
func (s *servers) bucket() map[string]string {
	if s.objects.Type == "" {
		return nil
	}
	b := s.objects
	b.Extra = map[string]string{}
	for _, key := range []string{
		s3.KeyBucket, s3.KeyPrefix, s3.KeyRegion, s3.KeyAccessKey, s3.KeySecretKey, "tls-server-name", "tls.crt", "tls.key",
	} {
		if value := s.objects.Extra[key]; value != "" {
			b.Extra[key] = value
		}
	}
	return b.Data()
}

// connectionName returns the name of a server of a Platform in claims.
func connectionName(namespace, platform, backendName string) string {
	return "Platform/" + namespace + "/" + platform + "/" + backendName
}
