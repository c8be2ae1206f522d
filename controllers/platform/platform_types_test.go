// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

// Each rule of the schema has a case that it accepts and one that it refuses, on a real API server.
func TestSchemaOnCreate(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for _, test := range []struct {
		name, object string
		refused      string // empty: accepted
	}{
		{"a managed backend", `{metadata: {name: a}, spec: {backends: {redis: {managed: {}}}}}`, ""},
		{"an external backend", `{metadata: {name: a}, spec: {backends: {redis: {external: {secretRef: {name: x}}}}}}`, ""},
		{"an operated backend", `{metadata: {name: a}, spec: {backends: {postgresql: {operated: {}}}}}`, ""},
		{"no mode", `{metadata: {name: a}, spec: {backends: {redis: {}}}}`, "spec.backends.redis: Invalid value: exactly one of managed, external and operated must be set"},
		{"two modes", `{metadata: {name: a}, spec: {backends: {redis: {managed: {}, external: {secretRef: {name: x}}}}}}`, "exactly one of managed, external and operated"},
		{"no backend", `{metadata: {name: a}, spec: {backends: {}}}`, "spec.backends"},
		{"ClickHouse operated", `{metadata: {name: a}, spec: {backends: {clickhouse: {operated: {}}}}}`, "spec.backends.clickhouse.operated: Invalid value: operated is not supported for ClickHouse yet"},
		{"Redis operated", `{metadata: {name: a}, spec: {backends: {redis: {operated: {}}}}}`, "spec.backends.redis.operated: Invalid value: operated is not supported for Redis"},
		{"object storage external", `{metadata: {name: a}, spec: {backends: {objectStorage: {external: {secretRef: {name: x}}}}}}`, ""},
		{"object storage managed", `{metadata: {name: a}, spec: {backends: {objectStorage: {managed: {}}}}}`, "spec.backends.objectStorage.managed: Invalid value: managed is not supported for object storage: use external"},
		{"object storage operated", `{metadata: {name: a}, spec: {backends: {objectStorage: {operated: {}}}}}`, "spec.backends.objectStorage.operated: Invalid value: operated is not supported for object storage: use external"},
		{"the longest name", `{metadata: {name: ` + strings.Repeat("a", 40) + `}, spec: {backends: {redis: {managed: {}}}}}`, ""},
		{"a longer name", `{metadata: {name: ` + strings.Repeat("a", 41) + `}, spec: {backends: {redis: {managed: {}}}}}`, "a Platform's name has at most 40"},
		{"a name that begins with a digit", `{metadata: {name: 1a}, spec: {backends: {redis: {managed: {}}}}}`, "begins with a letter"},
		{"a name with a dot", `{metadata: {name: a.b}, spec: {backends: {redis: {managed: {}}}}}`, "a Platform's name has"},
		{"a version", `{metadata: {name: a}, spec: {backends: {redis: {managed: {version: "7.2-alpine"}}}}}`, ""},
		{"a version that is no tag", `{metadata: {name: a}, spec: {backends: {redis: {managed: {version: "7/../x"}}}}}`, "spec.backends.redis.managed.version"},
		{"a setting", `{metadata: {name: a}, spec: {backends: {redis: {managed: {config: {save: "60 1"}}}}}}`, ""},
		{"a setting of two lines", `{metadata: {name: a}, spec: {backends: {redis: {managed: {config: {save: "60 1\nrequirepass x"}}}}}}`, "spec.backends.redis.managed.config.save"},
		{"a setting that is too long", `{metadata: {name: a}, spec: {backends: {redis: {managed: {config: {save: "` + strings.Repeat("x", 4097) + `"}}}}}}`, "spec.backends.redis.managed.config.save"},
		{"a Secret without a name", `{metadata: {name: a}, spec: {backends: {redis: {external: {secretRef: {name: ""}}}}}}`, "spec.backends.redis.external.secretRef.name"},
		{"no replica", `{metadata: {name: a}, spec: {backends: {kafka: {operated: {replicas: 0}}}}}`, "spec.backends.kafka.operated.replicas"},
		{"too many replicas", `{metadata: {name: a}, spec: {backends: {kafka: {operated: {replicas: 101}}}}}`, "spec.backends.kafka.operated.replicas"},
		{"an unknown policy", `{metadata: {name: a}, spec: {deletionPolicy: Drop, backends: {redis: {managed: {}}}}}`, "spec.deletionPolicy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// As a user sends it: Go's types would leave out what is empty.
			p := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(test.object), &p.Object); err != nil {
				t.Fatal(err)
			}
			p.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Platform"))
			p.SetNamespace(namespace)
			check(t, c.Create(ctx, p, client.DryRunAll), test.refused)
		})
	}
}

func check(t *testing.T, err error, refused string) {
	t.Helper()
	switch {
	case refused == "" && err != nil:
		t.Errorf("refused: %v", err)
	case refused == "":
	case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), refused):
		t.Errorf("got %v, want a refusal with %q", err, refused)
	}
}

func TestSchemaOnUpdate(t *testing.T) {
	c, _ := ctrltest.Env(t)
	p := newPlatform(v1alpha1.Backends{Redis: managedBackend(), Kafka: externalAt("x")})
	p.Namespace = ctrltest.Namespace(t)
	p.Spec.Backends.Redis.Managed.Storage.Size = resource.MustParse("8Gi")
	if err := c.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		change  func(*v1alpha1.Backends)
		refused string
	}{
		{"a larger volume", func(b *v1alpha1.Backends) { b.Redis.Managed.Storage.Size = resource.MustParse("9Gi") }, ""},
		{"the same size in another unit", func(b *v1alpha1.Backends) { b.Redis.Managed.Storage.Size = resource.MustParse("8192Mi") }, ""},
		{"a smaller volume", func(b *v1alpha1.Backends) { b.Redis.Managed.Storage.Size = resource.MustParse("7Gi") }, "spec.backends.redis.managed.storage.size: Invalid value: a volume cannot shrink"},
		{"another storage class", func(b *v1alpha1.Backends) { b.Redis.Managed.Storage.StorageClassName = "other" }, "spec.backends.redis.managed.storage.storageClassName: Invalid value: storageClassName is immutable"},
		{"another mode", func(b *v1alpha1.Backends) { b.Redis = externalAt("x") }, "a backend's mode is immutable"},
		{"another mode, the other way", func(b *v1alpha1.Backends) { b.Kafka = managedBackend() }, "a backend's mode is immutable"},
		{"another Secret", func(b *v1alpha1.Backends) { b.Kafka.External.SecretRef.Name = "y" }, ""},
		{"a backend more", func(b *v1alpha1.Backends) { b.RabbitMQ = managedBackend() }, ""},
		{"a backend less", func(b *v1alpha1.Backends) { b.Kafka = nil }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := p.DeepCopy()
			test.change(&changed.Spec.Backends)
			check(t, c.Update(ctx, changed, client.DryRunAll), test.refused)
		})
	}
}

func TestSchemaDefaults(t *testing.T) {
	c, _ := ctrltest.Env(t)
	for _, object := range []string{
		`{spec: {backends: {redis: {managed: {}}, kafka: {operated: {}}}}}`,
		`{spec: {backends: {redis: {managed: {storage: {}}}, kafka: {operated: {storage: {}}}}}}`,
	} {
		p := &v1alpha1.Platform{}
		if err := yaml.UnmarshalStrict([]byte(object), p); err != nil {
			t.Fatal(err)
		}
		p.Name, p.Namespace = "main", ctrltest.Namespace(t)
		if err := c.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
		if p.Spec.DeletionPolicy != common.DeletionRetain {
			t.Errorf("deletionPolicy %q", p.Spec.DeletionPolicy)
		}
		managed, operated := p.Spec.Backends.Redis.Managed, p.Spec.Backends.Kafka.Operated
		if managed.Storage.Size.String() != "8Gi" || managed.Storage.StorageClassName != "" {
			t.Errorf("managed storage %v", managed.Storage)
		}
		if operated.Storage.Size.String() != "8Gi" || operated.Replicas != 3 {
			t.Errorf("operated %v", operated)
		}
	}
}
