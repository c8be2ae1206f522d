// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/config"
)

// kept is a Secret that is made once and never changed by a default: what was encrypted, signed or logged in with it would be
// lost. It goes with the Platform only where its data does.
type kept struct {
	name, component string
	secretType      corev1.SecretType
	// keys that must be there.
	keys []string
	// make gives the content of a new one.
	make func() (map[string][]byte, error)
}

// keep reads the Secret, or makes it.
func (p *pass) keep(ctx context.Context, k kept) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: p.platform.Namespace, Name: k.name}
	var secret corev1.Secret
	err := p.client.Get(ctx, key, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return p.createKept(ctx, k)
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", k.name, err)
	}
	if err := p.ownCredentials(ctx, &secret); err != nil {
		return nil, err
	}
	for _, name := range k.keys {
		if len(secret.Data[name]) == 0 {
			return nil, reconcile.Stall(common.ReasonInvalidSpec, "Secret %s lacks key %q; restore it, for it cannot be made anew", k.name, name)
		}
	}
	return &secret, nil
}

func (p *pass) createKept(ctx context.Context, k kept) (*corev1.Secret, error) {
	data, err := k.make()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: k.name, Namespace: p.platform.Namespace, Labels: objectLabels(p.platform.Name, k.component)},
		Type:       k.secretType, Data: data,
	}
	if err := p.setOwner(secret); err != nil {
		return nil, err
	}
	// Create, never apply: a cache that is behind must not replace a key.
	err = p.client.Create(ctx, secret, client.FieldOwner(common.FieldOwner))
	if apierrors.IsAlreadyExists(err) {
		return nil, p.appeared(ctx, k.name)
	}
	if err != nil {
		return nil, fmt.Errorf("create Secret %s: %w", k.name, err)
	}
	return secret, nil
}

// appeared tells what to do about a Secret that exists and that the cache does not have.
func (p *pass) appeared(ctx context.Context, name string) error {
	var live corev1.Secret
	if err := p.deps.Refs.Live.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: name}, &live); err != nil {
		return fmt.Errorf("read Secret %s: %w", name, err)
	}
	if !p.ours(&live) {
		return reconcile.Stall(common.ReasonConflict, "Secret %s exists and belongs to something else; rename this Platform, or remove that Secret", name)
	}
	return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "Secret " + name + " is being read", After: time.Second}
}

// readConfig is a configuration that was rendered before; nil: there is none.
func (p *pass) readConfig(ctx context.Context, name string) (*config.Service, error) {
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: name}, &secret)
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

// administrator is the first user. When its Secret was deleted by hand, the services still know the password.
func (r *productRun) administrator(ctx context.Context) (*config.Administrator, error) {
	secret, err := r.keep(ctx, kept{
		name: administratorName(r.platform.Name), component: componentIdentity, secretType: corev1.SecretTypeBasicAuth,
		keys: []string{keyUsername, keyPassword},
		make: func() (map[string][]byte, error) {
			if r.serving != nil && r.serving.Auth.Administrator != nil {
				known := r.serving.Auth.Administrator
				return map[string][]byte{keyUsername: []byte(known.Email), keyPassword: []byte(known.Password)}, nil
			}
			email := r.platform.Spec.Auth.Administrator.Email
			if email == "" {
				email = "admin@" + r.platform.Name + "." + r.platform.Namespace + ".svc"
			}
			// Whatever spec.auth.password demands, this has it.
			return map[string][]byte{keyUsername: []byte(email), keyPassword: []byte(password() + "-A9")}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &config.Administrator{Email: string(secret.Data[keyUsername]), Password: string(secret.Data[keyPassword])}, nil
}
