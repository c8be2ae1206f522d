// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/controllers"
)

// permission is a single permission of a rule.
type permission struct {
	group, resource, name, verb string
}

func (p permission) String() string {
	return fmt.Sprintf("%s %s.%s %s", p.verb, p.resource, p.group, p.name)
}

func permissions(rules []rbacv1.PolicyRule) []permission {
	var out []permission
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					for _, verb := range rule.Verbs {
						out = append(out, permission{group: group, resource: resource, name: name, verb: verb})
					}
				}
			}
		}
	}
	return out
}

// installedAs returns the installed objects of a kind.
func installedAs[T any](t *testing.T, kind string) []T {
	t.Helper()
	var out []T
	for _, obj := range shared.installed {
		if obj.GetKind() == kind {
			out = append(out, convert[T](t, obj))
		}
	}
	if len(out) == 0 {
		t.Fatalf("no %s is installed", kind)
	}
	return out
}

func convert[T any](t *testing.T, obj unstructured.Unstructured) T {
	t.Helper()
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// granted returns the permissions of the ClusterRoles that the manager is bound to.
func granted(t *testing.T) []permission {
	t.Helper()
	var out []permission
	for _, binding := range installedAs[rbacv1.ClusterRoleBinding](t, "ClusterRoleBinding") {
		for _, role := range installedAs[rbacv1.ClusterRole](t, "ClusterRole") {
			if role.Name == binding.RoleRef.Name {
				out = append(out, permissions(role.Rules)...)
			}
		}
	}
	return out
}

// may asks the API server whether the manager has a permission.
func may(t *testing.T, p permission) bool {
	t.Helper()
	resource, subresource, _ := strings.Cut(p.resource, "/")
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: managerUser, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:itechsmart-system", "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "default", Group: p.group, Resource: resource, Subresource: subresource, Name: p.name, Verb: p.verb,
		},
	}}
	if err := shared.client.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

func TestManagerMayWhatItsRolesSay(t *testing.T) {
	for _, p := range granted(t) {
		if !may(t, p) {
			t.Errorf("the manager may not %s", p)
		}
	}
}

// TestManagerHasNoExtraPermissions checks that the manager has no permission that only services need, and may not escalate its own.
func TestManagerHasNoExtraPermissions(t *testing.T) {
	refused := []permission{
		{"authentication.k8s.io", "tokenreviews", "", "create"},
		{rbacv1.GroupName, "clusterroles", "", "bind"},
		{rbacv1.GroupName, "clusterroles", "cluster-admin", "bind"},
		{rbacv1.GroupName, "clusterroles", "", "escalate"},
		{rbacv1.GroupName, "clusterroles", "", "create"},
		{"", "serviceaccounts", "", "impersonate"},
		{"", "serviceaccounts/token", "", "create"},
		{"", "pods", "", "create"},
		{"", "pods/exec", "", "create"},
		{"", "nodes", "", "list"},
	}
	held := granted(t)
	for i := range controllers.Products {
		s := controllers.Products[i].Service
		if s == nil {
			continue
		}
		for _, p := range permissions(s.Rules) {
			if !slices.ContainsFunc(held, func(h permission) bool { return h == p }) {
				refused = append(refused, p)
			}
		}
	}
	for _, p := range refused {
		if may(t, p) {
			t.Errorf("the manager may %s", p)
		}
	}
}

// asManager returns a configuration that impersonates the manager.
func asManager() *rest.Config {
	cfg := rest.CopyConfig(shared.config)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: managerUser, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:itechsmart-system", "system:authenticated"},
	}
	return cfg
}

func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "install-"}}
	if err := shared.client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// TestManagerBinds checks that the manager can bind each service's role by name, without its permissions.
func TestManagerBinds(t *testing.T) {
	manager, err := client.New(asManager(), client.Options{Scheme: shared.scheme})
	if err != nil {
		t.Fatal(err)
	}
	ns := namespace(t)
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "somebody", Namespace: ns}}
	bind := func(role string) error {
		return manager.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, GenerateName: "bind-"}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		})
	}
	bound := 0
	for i := range controllers.Products {
		if s := controllers.Products[i].Service; s != nil {
			bound++
			if err := bind("itechsmart-" + s.Product + "-service"); err != nil {
				t.Error(err)
			}
		}
	}
	if bound == 0 {
		t.Error("no product has a service")
	}
	for _, role := range []string{"cluster-admin", "system:kube-controller-manager", "itechsmart-nobody-service"} {
		if err := bind(role); err == nil || !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			t.Errorf("binding of %s: %v, want a refusal", role, err)
		}
	}
	reviewer := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ns}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "itechsmart-token-reviewer"},
	}
	if err := manager.Create(t.Context(), reviewer); err != nil {
		t.Error(err)
	}
	reviewer = &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: ns + "-all"}, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}}
	if err := manager.Create(t.Context(), reviewer); !apierrors.IsForbidden(err) {
		t.Errorf("binding of cluster-admin: %v, want a refusal", err)
	}
}
