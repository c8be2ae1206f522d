// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/controllers"
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

// TestWebhookOfEachKind: the list of products and the CRDs have the same kinds.
func TestWebhookOfEachKind(t *testing.T) {
	g := NewWithT(t)
	crds, dir := filepath.Join("..", "..", "config", "crd"), t.TempDir()
	g.Expect(writeWebhooks(crds, dir)).To(Succeed())
	data, err := os.ReadFile(filepath.Join(dir, webhooksFile))
	g.Expect(err).NotTo(HaveOccurred())
	var written admissionv1.ValidatingWebhookConfiguration
	g.Expect(yaml.UnmarshalStrict(data, &written)).To(Succeed())
	found, err := readCRDs(crds)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).NotTo(BeEmpty())
	var want, got []string
	for _, kind := range controllers.Kinds() {
		if kind.Check == nil {
			continue
		}
		for _, crd := range found {
			if reflect.TypeOf(kind.Like).Elem().Name() == crd.Spec.Names.Kind {
				want = append(want, crd.Name)
			}
		}
	}
	for _, hook := range written.Webhooks {
		got = append(got, hook.Name)
		g.Expect(hook.Name).To(Equal(hook.Rules[0].Resources[0] + "." + hook.Rules[0].APIGroups[0]))
	}
	g.Expect(got).To(ConsistOf(want))
	g.Expect(writeWebhooks(t.TempDir(), dir)).To(MatchError(ContainSubstring("no CRD")))
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
