// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

func testPlatform() *v1alpha1.Platform {
	return &v1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: "main", Namespace: "tenant"}}
}

func TestManagedChildren(t *testing.T) {
	for _, kind := range managedTypes() {
		t.Run(kind.name, func(t *testing.T) {
			m := renderManaged(testPlatform(), kind, &v1alpha1.ManagedBackend{}, defaults{managerNamespace: "itechsmart-system"})
			b := backend.Binding{Type: kind.name, Provider: "managed", Host: serviceHost("main-"+kind.name, "tenant"), Port: "1", Username: kind.username, Password: "example"}
			if kind.bind != nil {
				kind.bind(&b)
			}
			b.URI = kind.uri(b)
			ctrltest.Golden(t, "managed-"+kind.name, append(m.objects(), bindingSecret(testPlatform(), kind, b, ""))...)
		})
	}
}

func TestManagedPodsAreRestricted(t *testing.T) {
	for _, kind := range managedTypes() {
		pod := renderManaged(testPlatform(), kind, &v1alpha1.ManagedBackend{}, defaults{}).statefulSet.Spec.Template.Spec
		security, container := pod.SecurityContext, pod.Containers[0]
		if security == nil || !*security.RunAsNonRoot || *security.RunAsUser == 0 || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context %v", kind.name, security)
		}
		if c := container.SecurityContext; *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || c.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: container security context %v", kind.name, c)
		}
		if *pod.AutomountServiceAccountToken {
			t.Errorf("%s: a token is mounted", kind.name)
		}
		if container.StartupProbe == nil || container.ReadinessProbe == nil || container.LivenessProbe == nil {
			t.Errorf("%s: a probe is missing", kind.name)
		}
		for _, env := range container.Env {
			if strings.Contains(strings.ToLower(env.Name), "pass") && env.ValueFrom == nil {
				t.Errorf("%s: %s is in plain text", kind.name, env.Name)
			}
		}
	}
}

func TestConfigurationRestartsAndNothingElseDoes(t *testing.T) {
	revision := func(change func(*v1alpha1.ManagedBackend)) string {
		spec := &v1alpha1.ManagedBackend{}
		change(spec)
		m := renderManaged(testPlatform(), redisBackend, spec, defaults{})
		return m.statefulSet.Annotations[annotationRevision]
	}
	plain := revision(func(*v1alpha1.ManagedBackend) {})
	if revision(func(m *v1alpha1.ManagedBackend) { m.Config = map[string]v1alpha1.ConfigValue{"maxmemory": "1gb"} }) == plain {
		t.Error("a changed setting does not restart the server")
	}
	if revision(func(m *v1alpha1.ManagedBackend) { m.Storage.Size = resource.MustParse("100Gi") }) != plain {
		t.Error("a larger volume restarts the server")
	}
}

func TestImage(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   v1alpha1.ManagedBackend
		images map[string]string
		want   string
	}{
		{"official", v1alpha1.ManagedBackend{}, nil, "docker.io/library/redis:7"},
		{"version", v1alpha1.ManagedBackend{Version: "8.2"}, nil, "docker.io/library/redis:8.2"},
		{"operator's", v1alpha1.ManagedBackend{}, map[string]string{"redis": "mirror:5000/redis"}, "mirror:5000/redis"},
		{"operator's with version", v1alpha1.ManagedBackend{Version: "8"}, map[string]string{"redis": "mirror:5000/redis"}, "mirror:5000/redis:8"},
		{"digest with version", v1alpha1.ManagedBackend{Version: "8"}, map[string]string{"redis": "mirror/redis:7@sha256:0"}, "mirror/redis:8"},
		{"own", v1alpha1.ManagedBackend{Image: "mine:1", Version: "8"}, map[string]string{"redis": "mirror/redis"}, "mine:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := imageOf(redisBackend, &c.spec, c.images); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestResourcesStayConsistent(t *testing.T) {
	memory := func(s string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(s)}
	}
	for _, c := range []struct {
		name           string
		given          corev1.ResourceRequirements
		request, limit string
	}{
		{"defaults", corev1.ResourceRequirements{}, "128Mi", "512Mi"},
		{"a limit below the default request", corev1.ResourceRequirements{Limits: memory("64Mi")}, "64Mi", "64Mi"},
		{"a request above the default limit", corev1.ResourceRequirements{Requests: memory("2Gi")}, "2Gi", "2Gi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := redisBackend.sizing.Resources(&c.given)
			if r, l := got.Requests.Memory().String(), got.Limits.Memory().String(); r != c.request || l != c.limit {
				t.Errorf("request %s, limit %s; want %s, %s", r, l, c.request, c.limit)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	file := func(kind *backendType, name, memory string, config map[string]v1alpha1.ConfigValue) string {
		spec := &v1alpha1.ManagedBackend{Config: config}
		if memory != "" {
			spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}}
		}
		return renderManaged(testPlatform(), kind, spec, defaults{}).config.Data[name]
	}
	for _, c := range []struct {
		name, got, want string
	}{
		{"memory sizes shared buffers", file(postgresqlBackend, "postgresql.conf", "4Gi", nil), "shared_buffers = '1024MB'\n"},
		{"memory sizes the cache", file(postgresqlBackend, "postgresql.conf", "4Gi", nil), "effective_cache_size = '3072MB'\n"},
		{"a setting wins", file(postgresqlBackend, "postgresql.conf", "4Gi", map[string]v1alpha1.ConfigValue{"shared_buffers": "2GB"}), "shared_buffers = '2GB'\n"},
		{"quotes are escaped", file(postgresqlBackend, "postgresql.conf", "", map[string]v1alpha1.ConfigValue{"search_path": "'a'"}), "search_path = '''a'''\n"},
		{"redis keeps 256 MB", file(redisBackend, "redis.conf", "", nil), "maxmemory 256mb\nmaxmemory-policy allkeys-lru\n"},
		{"kafka makes no topics", file(kafkaBackend, "server.properties", "", nil), "auto.create.topics.enable=false\n"},
		{"clickhouse compresses with lz4", file(clickhouseBackend, "itechsmart.yaml", "", nil), "method: lz4\n"},
		{"clickhouse nests", file(clickhouseBackend, "itechsmart.yaml", "", map[string]v1alpha1.ConfigValue{"merge_tree/parts_to_throw_insert": "900"}), "merge_tree:\n  parts_to_throw_insert: \"900\"\n"},
		{"clickhouse profiles are apart", file(clickhouseBackend, "itechsmart-profiles.yaml", "", map[string]v1alpha1.ConfigValue{"profiles/default/max_threads": "2"}), "max_threads: \"2\"\n"},
		{"rabbitmq bounds its memory", file(rabbitmqBackend, "rabbitmq.conf", "1Gi", nil), "vm_memory_high_watermark.absolute = 614MB\n"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q is not in\n%s", c.name, c.want, c.got)
		}
	}
}

func TestConfigIsRefusedByName(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   *backendType
		config map[string]string
		want   string
	}{
		{"good", kafkaBackend, map[string]string{"log.retention.hours": "24"}, ""},
		{"reserved", kafkaBackend, map[string]string{"listeners": "PLAINTEXT://:9092"}, `spec.x.config["listeners"]: the operator sets this; remove it`},
		{"reserved prefix", kafkaBackend, map[string]string{"sasl.enabled.mechanisms": "PLAIN"}, `spec.x.config["sasl.enabled.mechanisms"]: the operator sets this; remove it`},
		{"reserved, in other case", postgresqlBackend, map[string]string{"Listen_Addresses": "*"}, `spec.x.config["Listen_Addresses"]: the operator sets this; remove it`},
		{"no name", redisBackend, map[string]string{"a b": "c"}, `spec.x.config["a b"]: a setting's name`},
		{"a second line", redisBackend, map[string]string{"save": "\nrequirepass x"}, `spec.x.config["save"]: the value must be a single line`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := reconcile.Invalid(c.kind.validateConfig("spec.x", c.config)); err != nil {
				got = err.Error()
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOperatedChildren(t *testing.T) {
	for _, kind := range backendTypes {
		if kind.operated == nil {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			versions := map[string]schema.GroupVersionKind{}
			for _, k := range kind.operated.kinds {
				versions[k.Kind] = schema.GroupVersionKind{Group: k.Group, Version: k.Versions[0], Kind: k.Kind}
			}
			in := operatedInput{
				name: "main-" + kind.name, namespace: "tenant", platform: "main", labels: objectLabels("main", kind.name), versions: versions,
				spec: &v1alpha1.OperatedBackend{
					Replicas: 3, Version: "9.9", Config: map[string]v1alpha1.ConfigValue{"some.setting": "some value"},
					Storage:   v1alpha1.Storage{Size: resource.MustParse("20Gi"), StorageClassName: "fast"},
					Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
				},
			}
			var objects []client.Object
			for _, obj := range kind.operated.render(in) {
				objects = append(objects, obj)
			}
			ctrltest.Golden(t, "operated-"+kind.name, objects...)
		})
	}
}

func TestStrimziBeforeV1HasToBeAskedForKRaft(t *testing.T) {
	for version, want := range map[string]string{"v1": "", "v1beta2": "enabled"} {
		versions := map[string]schema.GroupVersionKind{}
		for _, k := range strimzi.kinds {
			versions[k.Kind] = schema.GroupVersionKind{Group: k.Group, Version: version, Kind: k.Kind}
		}
		in := operatedInput{name: "main-kafka", versions: versions, spec: &v1alpha1.OperatedBackend{Replicas: 1}}
		for _, obj := range strimzi.render(in) {
			if obj.GetKind() == "Kafka" && obj.GetAnnotations()["strimzi.io/kraft"] != want {
				t.Errorf("%s: annotations %v", version, obj.GetAnnotations())
			}
			if got := obj.GroupVersionKind().Version; got != version {
				t.Errorf("%s %s, want %s", obj.GetKind(), got, version)
			}
		}
	}
}

func TestVolumeFollowsDeletionPolicy(t *testing.T) {
	for policy, want := range map[common.DeletionPolicy]string{"": "Retain", common.DeletionRetain: "Retain", common.DeletionDelete: "Delete"} {
		p := testPlatform()
		p.Spec.DeletionPolicy = policy
		got := renderManaged(p, redisBackend, &v1alpha1.ManagedBackend{}, defaults{}).statefulSet.Spec.PersistentVolumeClaimRetentionPolicy
		if string(got.WhenDeleted) != want || string(got.WhenScaled) != "Retain" {
			t.Errorf("policy %q: %v", policy, got)
		}
	}
}
