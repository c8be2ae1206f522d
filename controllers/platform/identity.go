// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/signingkeys"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// identitySecrets returns the Secrets by which the services of a Platform know users, programs and each other's tokens.
func identitySecrets(p *v1alpha1.Platform) []string {
	return []string{p.SigningKeysName(), p.AdministratorName(), tenants.SecretName(p.Name, v1alpha1.ComponentIdentity)}
}

// identity makes what all services of the Platform share, from the first one on: the schema of users, the administrator, and
// the keys that sign tokens. What fails is one failure beside those of the backends.
func (p *pass) identity(ctx context.Context) error {
	services, err := p.services(ctx)
	if err != nil || len(services) == 0 || !p.platform.Spec.Backends.Has(v1alpha1.BackendPostgreSQL) {
		return err // without a database a service says what is missing
	}
	for _, step := range []func(context.Context) error{p.signingKeys, p.administrator, p.users} {
		if err := step(ctx); err != nil {
			p.failures = append(p.failures, failure{name: v1alpha1.ComponentIdentity, err: err})
			return nil
		}
	}
	return nil
}

// services returns the services on the Platform, as "kind name".
func (p *pass) services(ctx context.Context) ([]string, error) {
	var out []string
	for _, kind := range p.deps.Services {
		list := kind.NewList()
		key := p.platform.Namespace + "/" + p.platform.Name
		if err := p.client.List(ctx, list, client.InNamespace(p.platform.Namespace), client.MatchingFields{service.IndexPlatform: key}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list services of %s: %w", kind.Product, err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			o, err := meta.Accessor(item)
			if err == nil {
				out = append(out, kind.Kind+" "+o.GetName())
			}
			return err //nolint:wrapcheck // every resource has metadata
		})
		if err != nil {
			return nil, err //nolint:wrapcheck // the visitor's own
		}
	}
	return out, nil
}

func (p *pass) retainer() retained.Owner {
	return retained.Owner{Client: p.client, Live: p.deps.Refs.Live, Object: p.platform, Policy: p.platform.Spec.DeletionPolicy}
}

// users makes the role and schema of users and their roles.
func (p *pass) users(ctx context.Context) error {
	want, err := tenants.Ensure(ctx, p.retainer(), p.platform.Name, v1alpha1.ComponentIdentity, objectLabels(p.platform.Name, v1alpha1.ComponentIdentity))
	if err != nil {
		return err
	}
	server, err := p.bound(ctx, postgresqlBackend)
	if err != nil || server.Type == "" {
		return err
	}
	owner, key := external.Owner{Client: p.client, Object: p.platform}, client.ObjectKeyFromObject(p.platform)
	sum := want.Checksum(owner, server)
	due, left := p.lately.Due(key, sum)
	if !due {
		p.again = workload.Sooner(p.again, left)
		return nil
	}
	if row := rowOf(p.rows, v1alpha1.BackendPostgreSQL); row == nil || !row.Ready {
		return nil // its row says what is wrong
	}
	if err := tenants.Make(ctx, p.databases, owner, p.connection(postgresqlBackend), server, want); err != nil {
		return err
	}
	p.lately.Done(key, sum)
	p.again = workload.Sooner(p.again, p.deps.Options.DriftInterval)
	return nil
}

// connection returns the name of a server of the Platform in claims.
func (p *pass) connection(kind *backendType) string {
	return "Platform/" + p.platform.Namespace + "/" + p.platform.Name + "/" + kind.name
}

// bound returns a backend's binding as products read it; empty: not written yet.
func (p *pass) bound(ctx context.Context, kind *backendType) (backend.Binding, error) {
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: p.platform.BindingSecretName(kind.name)}, &secret)
	if client.IgnoreNotFound(err) != nil {
		return backend.Binding{}, fmt.Errorf("read binding Secret: %w", err)
	}
	if err != nil {
		return backend.Binding{}, nil //nolint:nilerr // not written yet
	}
	return backend.ParseBinding(secret.Data), nil
}

func rowOf(rows []v1alpha1.BackendStatus, name string) *v1alpha1.BackendStatus {
	for i := range rows {
		if rows[i].Name == name {
			return &rows[i]
		}
	}
	return nil
}

// administrator returns the first user. When its Secret was deleted by hand, the services still know the password.
func (p *pass) administrator(ctx context.Context) error {
	_, err := p.retainer().Ensure(ctx, retained.Secret{
		Name: p.platform.AdministratorName(), Labels: objectLabels(p.platform.Name, v1alpha1.ComponentIdentity), Type: corev1.SecretTypeBasicAuth,
		Keys: []string{keyUsername, keyPassword},
		Make: func() (map[string][]byte, error) {
			known, err := p.knownAdministrator(ctx)
			if err != nil {
				return nil, err
			}
			if known != nil {
				return map[string][]byte{keyUsername: []byte(known.Email), keyPassword: []byte(known.Password)}, nil
			}
			email := p.platform.Spec.Auth.Administrator.Email
			if email == "" {
				email = "admin@" + p.platform.Name + "." + p.platform.Namespace + ".svc"
			}
			// Whatever spec.auth.password demands, this has it.
			return map[string][]byte{keyUsername: []byte(email), keyPassword: []byte(workload.Password() + "-A9")}, nil
		},
	})
	return err
}

// knownAdministrator returns the one that a service was configured with; nil: there is none.
func (p *pass) knownAdministrator(ctx context.Context) (*config.Administrator, error) {
	var secrets corev1.SecretList
	if err := p.client.List(ctx, &secrets, client.InNamespace(p.platform.Namespace), client.MatchingLabels{common.LabelPlatform: p.platform.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Secrets: %w", err)
	}
	for i := range secrets.Items {
		var c config.Service
		if data := secrets.Items[i].Data[config.FileName]; len(data) > 0 && json.Unmarshal(data, &c) == nil && c.Auth.Administrator != nil {
			return c.Auth.Administrator, nil
		}
	}
	return nil, nil
}

// signingKeys makes the keys that sign tokens, and takes the next step of their life when the services have come to where the
// last one led. The write wakes the services.
func (p *pass) signingKeys(ctx context.Context) error {
	var failed error
	policy := p.keyPolicy(func(id string) bool {
		published, err := p.published(ctx, id)
		failed = errors.Join(failed, err)
		return published
	})
	secret, err := p.retainer().Ensure(ctx, retained.Secret{
		Name: p.platform.SigningKeysName(), Labels: objectLabels(p.platform.Name, v1alpha1.ComponentIdentity), Type: corev1.SecretTypeOpaque,
		Keys: []string{signingkeys.DataKey},
		Make: func() (map[string][]byte, error) {
			keys, _, _, err := signingkeys.Next(nil, policy, time.Now().UTC(), signingkeys.Generate)
			if err != nil {
				return nil, err
			}
			return signingkeys.Encode(keys)
		},
	})
	if err != nil {
		return err
	}
	keys, err := signingkeys.Decode(secret)
	if err != nil {
		return err
	}
	next, changed, due, err := signingkeys.Next(keys, policy, time.Now().UTC(), signingkeys.Generate)
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	p.again = workload.Sooner(p.again, due)
	if !changed {
		return nil
	}
	data, err := signingkeys.Encode(next)
	if err != nil {
		return err
	}
	changedSecret := secret.DeepCopy()
	changedSecret.Data = data
	// The lock keeps two managers, or a stale cache, from each making a key of their own.
	if err := p.client.Patch(ctx, changedSecret, client.MergeFromWithOptions(secret, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("change Secret %s: %w", secret.Name, err)
	}
	return nil
}

func (p *pass) keyPolicy(published func(id string) bool) signingkeys.Policy {
	auth := &p.platform.Spec.Auth
	policy := signingkeys.Policy{Algorithm: string(auth.Algorithm), Tokens: auth.AccessTokenTTL.Duration, Published: published}
	if policy.Algorithm == "" { // a caller that went around the API server's defaults
		policy.Algorithm = string(v1alpha1.HS256)
	}
	if auth.KeyRotation.Interval != nil {
		policy.Interval = auth.KeyRotation.Interval.Duration
	}
	return policy
}

// published reports whether every replica of every service verifies a key: each service's Deployment lists it, and is rolled out.
func (p *pass) published(ctx context.Context, id string) (bool, error) {
	var deployments appsv1.DeploymentList
	if err := p.client.List(ctx, &deployments, client.InNamespace(p.platform.Namespace), client.MatchingLabels{common.LabelPlatform: p.platform.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("list Deployments: %w", err)
	}
	found := false
	for i := range deployments.Items {
		d := &deployments.Items[i]
		ids, isService := d.Annotations[service.AnnotationSigningKeys]
		if !isService {
			continue // a worker
		}
		found = true
		if _, done := service.Rollout(d, d, nil); !done || !slices.Contains(strings.Split(ids, ","), id) {
			return false, nil
		}
	}
	return found, nil
}

// Finalize implements reconcile.Pass. What goes with a Platform is owned by it, but for the users' schema elsewhere.
func (p *pass) Finalize(ctx context.Context) error {
	services, err := p.services(ctx)
	if err != nil {
		return err
	}
	if len(services) > 0 {
		return reconcile.Wait(common.ReasonReferenceNotReady, "%s still runs on this Platform; delete it", strings.Join(services, ", "))
	}
	p.lately.Forget(func(key client.ObjectKey) bool { return key == client.ObjectKeyFromObject(p.platform) })
	if p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	return p.dropUsers(ctx)
}

// dropUsers drops the claimed role with its schema where that does not go with the Platform's own server.
func (p *pass) dropUsers(ctx context.Context) error {
	owner := external.Owner{Client: p.client, Object: p.platform}
	claims, err := owner.Claims()
	if err != nil || len(claims) == 0 {
		return err
	}
	if spec := p.platform.Spec.Backends.PostgreSQL; spec != nil && spec.External != nil {
		server, err := p.bound(ctx, postgresqlBackend)
		if err != nil {
			return err
		}
		if server.Type != "" {
			if err := tenants.Drop(ctx, p.databases, server, claims); err != nil {
				return err
			}
		}
	}
	return owner.Release(ctx, claims...)
}
