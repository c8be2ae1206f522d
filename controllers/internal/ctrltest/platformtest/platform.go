// SPDX-License-Identifier: Apache-2.0

// Package platformtest runs controllers of services on a Platform that the test writes by hand: its status, the bindings of its
// backends, and the Secrets that its services share. The servers are fakes.
package platformtest

import (
	"context"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/signingkeys"
	"github.com/itechsmart/operator/controllers/internal/tenants"
)

const (
	// Name is the Platform's.
	Name = "main"
	// Canary is in every credential that a service must not get.
	Canary = "canary-5d20"
	// IdentityPassword is the password of the role for users.
	IdentityPassword = "identity-password"
)

// bindings returns what the Platform's controller writes, with more than a service may get.
var bindings = map[string]map[string]string{
	platformv1alpha1.BackendPostgreSQL: {
		"type": "postgresql", "host": "db.example.com", "port": "5432", "username": "admin", "password": Canary, "database": "app",
		"uri": "postgresql://admin:" + Canary + "@db.example.com:5432/app", "superuser-token": Canary,
	},
	platformv1alpha1.BackendRabbitMQ: {
		"type": "rabbitmq", "host": "mq.example.com", "port": "5672", "username": "mq", "password": "secret-mq", "virtual-host": "tasks",
		"management-token": Canary, "uri": "amqp://mq:secret-mq@mq.example.com:5672/tasks?token=" + Canary,
	},
	platformv1alpha1.BackendRedis: {"type": "redis", "host": "cache.example.com", "port": "6379"},
	platformv1alpha1.BackendObjectStorage: {
		"type": "objectstorage", "host": "s3.example.com", "port": "443", "tls": "true", "bucket": "lake", "prefix": "a/", "region": "eu-west-1",
		"access-key": "key", "secret-key": "secret-s3", "administrator-token": Canary,
	},
}

// Platform is one that a test writes by hand.
type Platform struct {
	t         testing.TB
	client    client.Client
	namespace string
}

// New creates the Platform with external backends, all of them Ready, and the Secrets that its services share. change may change
// its specification first.
func New(t testing.TB, c client.Client, namespace string, change func(*platformv1alpha1.Platform), backends ...string) *Platform {
	t.Helper()
	p := &Platform{t: t, client: c, namespace: namespace}
	platform := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: namespace}}
	for _, name := range backends {
		set(&platform.Spec.Backends, name, &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{
			SecretRef: platformv1alpha1.SecretReference{Name: "elsewhere-" + name},
		}})
	}
	if change != nil {
		change(platform)
	}
	p.create(platform)
	p.identity(platform)
	for _, name := range backends {
		p.Bind(name, nil)
		p.Backend(name, "")
	}
	return p
}

func set(b *platformv1alpha1.Backends, name string, backend *platformv1alpha1.Backend) {
	switch name {
	case platformv1alpha1.BackendPostgreSQL:
		b.PostgreSQL = backend
	case platformv1alpha1.BackendRabbitMQ:
		b.RabbitMQ = backend
	case platformv1alpha1.BackendRedis:
		b.Redis = backend
	case platformv1alpha1.BackendObjectStorage:
		b.ObjectStorage = backend
	}
}

func (p *Platform) create(obj client.Object) {
	p.t.Helper()
	if err := p.client.Create(context.Background(), obj); err != nil {
		p.t.Fatal(err)
	}
}

// Get reads the Platform.
func (p *Platform) Get() *platformv1alpha1.Platform {
	p.t.Helper()
	var live platformv1alpha1.Platform
	if err := p.client.Get(context.Background(), client.ObjectKey{Namespace: p.namespace, Name: Name}, &live); err != nil {
		p.t.Fatal(err)
	}
	return &live
}

// Edit changes the specification.
func (p *Platform) Edit(change func(*platformv1alpha1.Platform)) {
	p.t.Helper()
	p.retried(func() error {
		live := p.Get()
		change(live)
		return p.client.Update(context.Background(), live)
	})
}

// Add gives the Platform another external backend, and its binding.
func (p *Platform) Add(name, trouble string) {
	p.t.Helper()
	p.Bind(name, nil)
	p.Edit(func(live *platformv1alpha1.Platform) {
		set(&live.Spec.Backends, name, &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{
			SecretRef: platformv1alpha1.SecretReference{Name: "elsewhere-" + name},
		}})
	})
	p.Backend(name, trouble)
}

// Backend writes a backend's row in the status: Ready, or what is wrong with it.
func (p *Platform) Backend(name, trouble string) {
	p.t.Helper()
	p.retried(func() error {
		live := p.Get()
		row := live.Status.Backend(name)
		if row == nil {
			live.Status.Backends = append(live.Status.Backends, platformv1alpha1.BackendStatus{Name: name})
			row = &live.Status.Backends[len(live.Status.Backends)-1]
		}
		row.Mode, row.BindingSecret = live.Spec.Backends.ByName()[name].Mode(), live.BindingSecretName(name)
		row.Ready, row.Message = trouble == "", trouble
		return p.client.Status().Update(context.Background(), live)
	})
}

// Bind writes a backend's binding. more overrides the default keys; an empty value removes a key.
func (p *Platform) Bind(name string, more map[string]string) {
	p.t.Helper()
	live := p.Get()
	data := map[string][]byte{}
	all := maps.Clone(bindings[name])
	if backend := live.Spec.Backends.ByName()[name]; backend != nil {
		all["provider"] = backend.Mode()
	}
	maps.Copy(all, more)
	for key, value := range all {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	p.write(p.secret(live, live.BindingSecretName(name), name, corev1.SecretType("servicebinding.io/"+name), data))
}

// write creates a Secret, or gives it another content.
func (p *Platform) write(secret *corev1.Secret) {
	p.t.Helper()
	p.retried(func() error {
		live := &corev1.Secret{}
		err := p.client.Get(context.Background(), client.ObjectKeyFromObject(secret), live)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err != nil {
			return p.client.Create(context.Background(), secret.DeepCopy())
		}
		live.Data = secret.Data
		return p.client.Update(context.Background(), live)
	})
}

func (p *Platform) secret(owner *platformv1alpha1.Platform, name, component string, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace, Labels: map[string]string{
			apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: "Platform", common.LabelOwnerName: owner.Name,
			common.LabelPlatform: owner.Name, common.LabelComponent: component,
		}},
		Type: kind, Data: data,
	}
}

// identity writes the Secrets of users, administrator and signing keys.
func (p *Platform) identity(owner *platformv1alpha1.Platform) {
	p.t.Helper()
	key, err := signingkeys.Generate("HS256")
	if err != nil {
		p.t.Fatal(err)
	}
	now := time.Now().UTC()
	key.Since = &now
	p.SigningKeys(key)
	component := platformv1alpha1.ComponentIdentity
	p.write(p.secret(owner, owner.AdministratorName(), component, corev1.SecretTypeBasicAuth, map[string][]byte{
		"username": []byte("admin@example.com"), "password": []byte("administrator-password"),
	}))
	schema := tenants.Name(p.namespace, owner.Name, component)
	p.write(p.secret(owner, tenants.SecretName(owner.Name, component), component, corev1.SecretTypeBasicAuth, map[string][]byte{
		"username": []byte(schema), "schema": []byte(schema), "password": []byte(IdentityPassword), "mark": []byte("the Platform's"),
	}))
}

// SigningKeys writes the keys that sign and verify tokens.
func (p *Platform) SigningKeys(keys ...signingkeys.Key) {
	p.t.Helper()
	data, err := signingkeys.Encode(keys)
	if err != nil {
		p.t.Fatal(err)
	}
	owner := p.Get()
	p.write(p.secret(owner, owner.SigningKeysName(), platformv1alpha1.ComponentIdentity, corev1.SecretTypeOpaque, data))
}

// Remove deletes the Platform.
func (p *Platform) Remove() {
	p.t.Helper()
	if err := p.client.Delete(context.Background(), p.Get()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Platform) retried(do func() error) {
	p.t.Helper()
	if err := retry.RetryOnConflict(retry.DefaultBackoff, do); err != nil {
		p.t.Fatal(err)
	}
}
