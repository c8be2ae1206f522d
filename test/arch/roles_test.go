// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const managerAccount = "ServiceAccount itechsmart-system/itechsmart"

// grant is a role, and the subjects an installation binds to it.
type grant struct {
	Rules    []rbacv1.PolicyRule `json:"rules"`
	Subjects []string            `json:"subjects,omitempty"`
}

// clusterRoles returns the ClusterRoles of a manifest, with the subjects of their ClusterRoleBindings.
func clusterRoles(t *testing.T, list []unstructured.Unstructured) map[string]*grant {
	t.Helper()
	out := map[string]*grant{}
	for _, obj := range list {
		if obj.GetKind() == "ClusterRole" {
			out[obj.GetName()] = &grant{Rules: convert[rbacv1.ClusterRole](t, obj).Rules}
		}
	}
	for _, obj := range list {
		if obj.GetKind() != "ClusterRoleBinding" {
			continue
		}
		binding := convert[rbacv1.ClusterRoleBinding](t, obj)
		role := out[binding.RoleRef.Name]
		if role == nil {
			t.Errorf("ClusterRoleBinding %s binds to ClusterRole %s, which is not installed", obj.GetName(), binding.RoleRef.Name)
			continue
		}
		for _, s := range binding.Subjects {
			role.Subjects = append(role.Subjects, strings.TrimSpace(s.Kind+" "+strings.TrimPrefix(s.Namespace+"/"+s.Name, "/")))
		}
	}
	return out
}

// TestRolesGolden compares each ClusterRole that the chart installs with a file of its own. The kustomization installs
// the same, except the roles of users.
func TestRolesGolden(t *testing.T) {
	dir := filepath.Join("testdata", "roles")
	roles := clusterRoles(t, objects(t, render(t, variants["default"]...)))
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	wanted := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		wanted[name+".yaml"] = true
		golden(t, filepath.Join(dir, name+".yaml"), roles[name])
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !wanted[file.Name()] {
			t.Errorf("%s: the chart does not install this role", file.Name())
		}
	}
	other := clusterRoles(t, kustomized(t))
	for name, role := range roles {
		if strings.HasSuffix(name, "-view") || strings.HasSuffix(name, "-edit") {
			continue
		}
		if !equality.Semantic.DeepEqual(role, other[name]) {
			t.Errorf("ClusterRole %s differs between chart and kustomization:\n%+v\n%+v", name, role, other[name])
		}
		delete(other, name)
	}
	if len(other) > 0 {
		t.Errorf("only the kustomization installs the ClusterRoles %v", slices.Sorted(maps.Keys(other)))
	}
}

func golden(t *testing.T, path string, value any) {
	t.Helper()
	got, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs at %s; if that is intended, run go test ./test/arch -run TestRolesGolden -update", path, firstDifference(got, want))
	}
}

func TestRBACHasNoWildcard(t *testing.T) {
	for name, list := range manifests(t) {
		roles := 0
		for _, obj := range list {
			if !strings.HasSuffix(obj.GetKind(), "Role") {
				continue
			}
			roles++
			for _, rule := range convert[rbacv1.ClusterRole](t, obj).Rules {
				for _, violation := range violations(rule) {
					t.Errorf("%s: %s %s %s: %v", name, obj.GetKind(), obj.GetName(), violation, rule)
				}
			}
		}
		if roles == 0 {
			t.Errorf("%s: no role", name)
		}
	}
}

func violations(rule rbacv1.PolicyRule) []string {
	var out []string
	if slices.Contains(slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs), "*") {
		out = append(out, "has a wildcard")
	}
	if slices.Contains(rule.Verbs, "escalate") || slices.Contains(rule.Verbs, "impersonate") {
		out = append(out, "may escalate its own permissions")
	}
	if slices.Contains(rule.Verbs, "bind") && (len(rule.ResourceNames) == 0 || !slices.Equal(rule.Resources, []string{"clusterroles"})) {
		out = append(out, "may bind roles that it does not name")
	}
	return out
}

func TestViolations(t *testing.T) {
	for want, rule := range map[string]rbacv1.PolicyRule{
		"has a wildcard":                       {Verbs: []string{"*"}},
		"may escalate its own permissions":     {Verbs: []string{"get", "escalate"}},
		"may bind roles that it does not name": {Resources: []string{"clusterroles"}, Verbs: []string{"bind"}},
	} {
		if got := violations(rule); !slices.Equal(got, []string{want}) {
			t.Errorf("%v: %q, want %q", rule, got, want)
		}
	}
	if got := violations(rbacv1.PolicyRule{Resources: []string{"clusterroles"}, ResourceNames: []string{"x"}, Verbs: []string{"bind"}}); len(got) > 0 {
		t.Errorf("bind by name: %q", got)
	}
}

// TestManagerBindsByName checks that the manager may bind each role of a service, that each role it may bind is
// installed, and that a manager of some namespaces creates no binding for the whole cluster.
func TestManagerBindsByName(t *testing.T) {
	releases := manifests(t)
	releases["chart of another release"] = objects(t, renderAs(t, "second", variants["default"]...))
	for name, list := range releases {
		want := slices.Sorted(maps.Keys(serviceRoles(t, list)))
		if len(want) == 0 {
			t.Errorf("%s: no role of a service", name)
		}
		if !strings.Contains(name, "namespaced") {
			want = append(want, strings.TrimSuffix(rolePrefix(t, list), "-")+"-token-reviewer")
		}
		slices.Sort(want)
		if got := bound(t, list); !slices.Equal(got, want) {
			t.Errorf("%s: the manager may bind %v, want %v", name, got, want)
		}
	}
}

// rolePrefix returns the prefix of the names of the services' roles, from the manager's flag.
func rolePrefix(t *testing.T, list []unstructured.Unstructured) string {
	t.Helper()
	_, args := manager(t, list)
	for _, arg := range args {
		if prefix, ok := strings.CutPrefix(arg, "--service-role-prefix="); ok {
			return prefix + "-"
		}
	}
	t.Fatal("the manager has no flag --service-role-prefix")
	return ""
}

// serviceRoles returns the ClusterRoles of product services.
func serviceRoles(t *testing.T, list []unstructured.Unstructured) map[string]*grant {
	t.Helper()
	prefix, out := rolePrefix(t, list), map[string]*grant{}
	for name, role := range clusterRoles(t, list) {
		if product, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), "-service"); ok && strings.HasPrefix(name, prefix) && product != "" {
			out[name] = role
		}
	}
	return out
}

// bound returns the names of the roles that a role allows to bind.
func bound(t *testing.T, list []unstructured.Unstructured) []string {
	t.Helper()
	names := map[string]bool{}
	for _, obj := range list {
		if !strings.HasSuffix(obj.GetKind(), "Role") {
			continue
		}
		for _, rule := range convert[rbacv1.ClusterRole](t, obj).Rules {
			for _, name := range rule.ResourceNames {
				if slices.Contains(rule.Verbs, "bind") {
					names[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// permissions lists what rules grant, as group/resource:verb.
func permissions(rules []rbacv1.PolicyRule) map[string]bool {
	out := map[string]bool{}
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					out[fmt.Sprintf("%s/%s:%s", group, resource, verb)] = true
				}
			}
		}
	}
	return out
}

// TestManagerDoesNotHoldWhatItGrants checks that each service has a permission the manager lacks, and that only services
// review tokens.
func TestManagerDoesNotHoldWhatItGrants(t *testing.T) {
	list := kustomized(t)
	held := map[string]bool{}
	for _, role := range clusterRoles(t, list) {
		if slices.Contains(role.Subjects, managerAccount) {
			maps.Copy(held, permissions(role.Rules))
		}
	}
	if len(held) == 0 {
		t.Fatalf("%s has no subject", managerAccount)
	}
	if held["authentication.k8s.io/tokenreviews:create"] {
		t.Error("the manager may review tokens")
	}
	for name, role := range serviceRoles(t, list) {
		granted := permissions(role.Rules)
		maps.DeleteFunc(granted, func(permission string, _ bool) bool { return held[permission] })
		if len(role.Rules) > 0 && len(granted) == 0 {
			t.Errorf("the manager holds all of %s, which it need not hold in order to bind it", name)
		}
		if len(role.Subjects) > 0 {
			t.Errorf("%s is bound for the whole cluster, to %v", name, role.Subjects)
		}
	}
}

// TestNamespacedPermissions checks that, with a list of namespaces, the manager has in each of them the permissions it would
// have everywhere, and for the whole cluster only those on its own webhook.
func TestNamespacedPermissions(t *testing.T) {
	everywhere := clusterRoles(t, kustomized(t))
	list := objects(t, render(t, variants["namespaced"]...))
	for name, role := range clusterRoles(t, list) {
		if name != "itechsmart-webhook" && slices.Contains(role.Subjects, managerAccount) {
			t.Errorf("ClusterRole %s is bound to the manager: %v", name, role.Rules)
		}
	}
	found := map[string][]string{}
	for _, obj := range list {
		if obj.GetKind() != "Role" || obj.GetNamespace() == "itechsmart-system" {
			continue
		}
		found[obj.GetNamespace()] = append(found[obj.GetNamespace()], obj.GetName())
		role := convert[rbacv1.Role](t, obj)
		if want := everywhere[obj.GetName()]; want == nil || !equality.Semantic.DeepEqual(role.Rules, want.Rules) {
			t.Errorf("Role %s/%s differs from the ClusterRole of that name: %v", obj.GetNamespace(), obj.GetName(), role.Rules)
		}
	}
	var want []string
	for name, role := range everywhere {
		if slices.Contains(role.Subjects, managerAccount) && name != "itechsmart-webhook" && name != "itechsmart-token-reviewer-binder" {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	for _, namespace := range []string{"team-a", "team-b"} {
		slices.Sort(found[namespace])
		if !slices.Equal(found[namespace], want) {
			t.Errorf("namespace %s has the Roles %v, want %v", namespace, found[namespace], want)
		}
		delete(found, namespace)
	}
	if len(found) > 0 {
		t.Errorf("there are Roles in other namespaces: %v", found)
	}
}
