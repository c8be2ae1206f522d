// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/workloads/config"
)

// Request offers what a product needs to configure its service.
type Request struct {
	// Service is the resource, Platform where it stands.
	Service  Object
	Platform *platformv1alpha1.Platform

	pass    *pass
	serving *config.Service
}

// Serving reads the product's part of the configuration that the live Pods have into settings, and reports whether there is
// one.
func (r *Request) Serving(settings any) bool {
	return r.serving != nil && len(r.serving.Settings) > 0 && json.Unmarshal(r.serving.Settings, settings) == nil
}

// Secret reads one key of a user's Secret in the service's namespace; path is the field that names it.
func (r *Request) Secret(ctx context.Context, path, name, key string) (string, error) {
	from := refs.From{Group: r.pass.gvk.Group, Kind: r.pass.gvk.Kind, Namespace: r.Service.GetNamespace()}
	secret, err := r.pass.deps.Refs.Secret(ctx, path, from, from.Namespace, name)
	if err != nil {
		return "", err
	}
	return retained.Value(secret, path, key)
}

// Retain reads a Secret that is made once, or makes it; its labels are set here.
func (r *Request) Retain(ctx context.Context, want retained.Secret) (*corev1.Secret, error) {
	want.Labels = r.pass.labels(r.pass.kind.Product)
	return r.pass.retainer().Ensure(ctx, want)
}

// Database returns the name of the service's schema, and whether the Secret with its credentials exists: then the schema may hold
// data.
func (r *Request) Database(ctx context.Context) (schema, secretName string, exists bool, err error) {
	namespace, product := r.Service.GetNamespace(), r.pass.kind.Product
	schema, secretName = tenants.Name(namespace, r.Platform.Name, product), tenants.SecretName(r.Platform.Name, product)
	var secret corev1.Secret
	err = r.pass.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: secretName}, &secret)
	if apierrors.IsNotFound(err) {
		return schema, secretName, false, nil
	}
	if err != nil {
		return "", "", false, fmt.Errorf("read Secret %s: %w", secretName, err)
	}
	return schema, secretName, true, nil
}

// readConfig returns a configuration that was rendered before; nil: there is none.
func (p *pass) readConfig(ctx context.Context, name string) (*config.Service, error) {
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.service.GetNamespace(), Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	var c config.Service
	if err := json.Unmarshal(secret.Data[config.FileName], &c); err != nil {
		return nil, nil //nolint:nilerr // somebody wrote into it: the Secret is made anew
	}
	return &c, nil
}

// retainer makes the Secrets that go with the service's data.
func (p *pass) retainer() retained.Owner {
	return retained.Owner{Client: p.client, Live: p.deps.Refs.Live, Object: p.service, Policy: p.spec.DeletionPolicy}
}

func (p *pass) labels(component string) map[string]string {
	return owned{kind: p.gvk.Kind, name: p.service.GetName(), platform: p.spec.PlatformRef.Name}.labels(component)
}

// componentName returns the name of a component's Deployment.
func (p *pass) componentName(component string) string {
	return common.ServiceName(p.spec.PlatformRef.Name, component)
}
