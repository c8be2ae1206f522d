// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

func testInput(spec *v1alpha1.ProductSpec) serviceInput {
	return serviceInput{
		platform: testPlatform(), kind: vaultProduct, spec: spec,
		defaults:   defaults{managerNamespace: "itechsmart-system", reviewerRole: "itechsmart-token-reviewer"},
		image:      "example.com/vault:1.2.3",
		configName: "main-vault-config-0123456789abcdef", configHash: "0123456789abcdef", config: []byte("{}"),
		postgres: backend.Binding{Type: "postgresql", Provider: v1alpha1.ModeManaged, Host: "main-postgresql", Port: "5432"},
		spill:    64 << 20,
	}
}

func TestServiceChildren(t *testing.T) {
	t.Run("least", func(t *testing.T) {
		s := renderService(testInput(&v1alpha1.ProductSpec{Replicas: 1}))
		ctrltest.Golden(t, "product-least", append(s.objects(), s.reviewer)...)
		if s.route != nil || s.monitor != nil {
			t.Error("nobody asked for a route or a monitor")
		}
	})
	t.Run("most", func(t *testing.T) {
		in := testInput(&v1alpha1.ProductSpec{
			Autoscaling: &v1alpha1.Autoscaling{MinReplicas: 2, MaxReplicas: 5, CPUUtilization: 80},
			Resources:   &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
			Ingress:     &v1alpha1.ProductIngress{Host: "vault.example.com", ClassName: "nginx", TLSSecretName: "vault-tls", Annotations: map[string]string{"a": "b"}},
			HTTPRoute: &v1alpha1.ProductHTTPRoute{
				ParentRefs: []v1alpha1.GatewayReference{{Name: "public", Namespace: "gateways", SectionName: "https"}}, Hostnames: []string{"vault.example.com"},
			},
			ServiceMonitor: &v1alpha1.ProductServiceMonitor{Interval: metav1.Duration{Duration: time.Minute}, Labels: map[string]string{"release": "prometheus"}},
			AllowFrom: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: "ingress-nginx"},
			}}},
		})
		in.platform.Spec.Tracing = &v1alpha1.Tracing{Endpoint: "http://collector.observability.svc:4318"}
		in.postgres = backend.Binding{Type: "postgresql", Provider: v1alpha1.ModeExternal, Host: "db.example.com", Port: "6432"}
		in.redis = backend.Binding{Type: "redis", Provider: v1alpha1.ModeManaged, Host: "main-redis", Port: "6379"}
		in.objects = backend.Binding{Type: "objectstorage", Provider: v1alpha1.ModeExternal, Host: "s3.example.com", Port: "9000"}
		in.defaults.reviewerRole = ""
		s := renderService(in)
		if s.reviewer != nil {
			t.Error("a binding although there is no role")
		}
		ctrltest.Golden(t, "product-most", append(s.objects(), client.Object(s.route), client.Object(s.monitor))...)
	})
}

// TestManagerHoldsWhatItGrants: the API server refuses a role or a binding with more than its maker has.
func TestManagerHoldsWhatItGrants(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(ctrltest.Root(), "config", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(data, &role); err != nil {
		t.Fatal(err)
	}
	granted := []rbacv1.PolicyRule{{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}}}
	for _, kind := range productTypes {
		granted = append(granted, kind.rules...)
	}
	for _, rule := range granted {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				if !slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
					return slices.Contains(r.APIGroups, rule.APIGroups[0]) && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb)
				}) {
					t.Errorf("the manager may not %s %s.%s; run make manifests", verb, resource, rule.APIGroups[0])
				}
			}
		}
	}
}

// All Pods that a rolling update runs at once fit into a managed server, and one Pod alone gets what the kit promises.
func TestConnections(t *testing.T) {
	managed := func(config map[string]v1alpha1.ConfigValue) v1alpha1.Backend {
		return v1alpha1.Backend{Managed: &v1alpha1.ManagedBackend{Config: config}}
	}
	external := v1alpha1.Backend{External: &v1alpha1.ExternalBackend{}}
	for _, test := range []struct {
		backend       v1alpha1.Backend
		product       v1alpha1.ProductSpec
		own, identity int32
	}{
		{managed(nil), v1alpha1.ProductSpec{}, 20, 5},
		{managed(nil), v1alpha1.ProductSpec{Replicas: 2}, 13, 3},
		{managed(nil), v1alpha1.ProductSpec{Replicas: 1, Autoscaling: &v1alpha1.Autoscaling{MaxReplicas: 5}}, 5, 2},
		{managed(nil), v1alpha1.ProductSpec{Replicas: 50}, 2, 2},
		{managed(map[string]v1alpha1.ConfigValue{"max_connections": "500"}), v1alpha1.ProductSpec{Replicas: 5}, 20, 5},
		{external, v1alpha1.ProductSpec{Replicas: 50}, 20, 5},
	} {
		spec := v1alpha1.PlatformSpec{Products: v1alpha1.Products{Vault: &v1alpha1.VaultProduct{ProductSpec: test.product}}}
		spec.Backends.PostgreSQL = &test.backend
		if own, identity, _ := connections(&spec, vaultProduct, &test.product); own != test.own || identity != test.identity {
			t.Errorf("%+v: %d and %d, want %d and %d", test.product, own, identity, test.own, test.identity)
		}
	}
	// The workers' Pods count as the service's do.
	for workers, want := range map[int32]int32{1: 13, 2: 10, 10: 4} {
		spec := v1alpha1.PlatformSpec{Products: v1alpha1.Products{Workflow: &v1alpha1.WorkflowProduct{Worker: v1alpha1.WorkflowWorker{Replicas: workers}}}}
		spec.Backends.PostgreSQL = ptr.To(managed(nil))
		if own, identity, worker := connections(&spec, workflowProduct, &spec.Products.Workflow.ProductSpec); worker != want || own+identity != want {
			t.Errorf("%d workers: %d, %d and %d, want %d", workers, own, identity, worker, want)
		}
	}
}

func TestTenantNames(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("a", 63)
	for _, triple := range [][3]string{
		{"team", "main", "vault"}, {"team", "main", "identity"}, {"a-b", "c", "vault"}, {"a", "b-c", "vault"}, {"a--b", "c", "vault"},
		{"1", "m", "vault"}, {long, "main", "vault"}, {long, "main", "identity"}, {long, "maim", "vault"}, {long[:62] + "b", "main", "vault"},
	} {
		name := tenantName(triple[0], triple[1], triple[2])
		if err := postgres.ValidIdentifier(name); err != nil || !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(name) {
			t.Errorf("%v: %q, %v", triple, name, err)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%v and %s share %q", triple, other, name)
		}
		seen[name] = strings.Join(triple[:], "/")
	}
	if got := tenantName("team", "main", "vault"); got != "itechsmart_team_main_vault" {
		t.Errorf("got %q", got)
	}
}

func TestVersionOf(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/itechsmart/vault:1.2": "1.2", "localhost:5000/vault": "", "localhost:5000/vault:3@sha256:abc": "3", "vault": "",
	} {
		if got := versionOf(image); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}
