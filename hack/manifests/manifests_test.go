// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

var some = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func role(t *testing.T, path string) rbacv1.ClusterRole {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBind: the controllers of a product may bind the role of their own service, and no other.
func TestBind(t *testing.T) {
	g := NewWithT(t)
	services := []service{{"alpha", some}, {"beta", some}}
	g.Expect(bindRules("gamma", services)).To(BeEmpty())
	rules := bindRules("beta", services)
	g.Expect(rules).To(HaveLen(1))
	g.Expect(rules[0].ResourceNames).To(Equal([]string{"itechsmart-beta-service"}))
	g.Expect(rules[0].Verbs).To(Equal([]string{"bind"}))

	path := filepath.Join(t.TempDir(), "beta_role.yaml")
	g.Expect(rewrite(path, "itechsmart-beta", rules)).To(Succeed(), "controllers without markers")
	g.Expect(role(t, path).Rules).To(Equal(rules))
	g.Expect(writeYAML(path, clusterRole("itechsmart-beta", some))).To(Succeed())
	g.Expect(rewrite(path, "itechsmart-beta", rules)).To(Succeed())
	g.Expect(role(t, path).Rules).To(Equal(append(some, rules...)))
	g.Expect(role(t, path).Name).To(Equal("itechsmart-beta"))

	write(t, path, "kind: ClusterRole\nrule: []\n")
	g.Expect(rewrite(path, "itechsmart-beta", nil)).To(MatchError(ContainSubstring(path)))
}

func TestProductFolders(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	for _, file := range []string{"beta/x.go", "alpha/x.go", "platform/x.go", "internal/setup/x.go", "controllers.go"} {
		write(t, filepath.Join(dir, file), "")
	}
	g.Expect(productFolders(dir)).To(Equal([]string{"alpha", "beta"}))
}

// TestStaleRoles: the roles of a product that is gone go, and what is kept by hand stays.
func TestStaleRoles(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	for _, file := range []string{"role.yaml", "gone_role.yaml", "gone_service_role.yaml", "token_reviewer.yaml"} {
		write(t, filepath.Join(dir, file), "")
	}
	g.Expect(removeStale(dir)).To(Succeed())
	g.Expect(writeList(dir)).To(Succeed())
	data, err := os.ReadFile(filepath.Join(dir, listFile))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(data)).To(HavePrefix(header))
	g.Expect(string(data)).To(HaveSuffix("resources:\n- role.yaml\n- token_reviewer.yaml\n"))
	g.Expect(writeList(t.TempDir())).To(MatchError(ContainSubstring("no manifest")))
}

func TestComplete(t *testing.T) {
	g := NewWithT(t)
	hook := admissionv1.ValidatingWebhook{
		ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Name: "webhook-service", Namespace: "system", Path: ptr.To("/x")}},
		Rules:        make([]admissionv1.RuleWithOperations, 1),
	}
	g.Expect(complete(&hook)).To(Succeed())
	g.Expect(*hook.ClientConfig.Service).To(Equal(admissionv1.ServiceReference{Name: "itechsmart-webhook", Namespace: "itechsmart-system", Path: ptr.To("/x"), Port: ptr.To[int32](443)}))
	g.Expect(*hook.Rules[0].Scope).To(Equal(admissionv1.NamespacedScope))
	g.Expect(complete(&admissionv1.ValidatingWebhook{})).NotTo(Succeed())
}

// TestBindings: the manager's ServiceAccount gets each of its roles.
func TestBindings(t *testing.T) {
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "role_bindings.yaml")
	g.Expect(writeYAML(path, bindings([]string{"a", "b"})...)).To(Succeed())
	data, err := os.ReadFile(path)
	g.Expect(err).NotTo(HaveOccurred())
	documents := strings.Split(string(data), "---\n")
	g.Expect(documents).To(HaveLen(2))
	for i, name := range []string{"a", "b"} {
		var binding rbacv1.ClusterRoleBinding
		g.Expect(yaml.UnmarshalStrict([]byte(documents[i]), &binding)).To(Succeed())
		g.Expect(binding.Name).To(Equal(name))
		g.Expect(binding.RoleRef.Name).To(Equal(name))
		g.Expect(binding.Subjects).To(ConsistOf(rbacv1.Subject{Kind: "ServiceAccount", Name: "itechsmart", Namespace: "itechsmart-system"}))
	}
}
