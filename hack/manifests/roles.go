// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	// core is the folder of the controllers that belong to no product.
	core = "platform"
	// shared is the folder of the code that all controllers share.
	shared = "internal"

	// The manager's ServiceAccount in config/default.
	account, namespace = prefix, prefix + "-system"

	productSuffix, serviceSuffix = "_role.yaml", "_service_role.yaml"
)

// writeRoles writes a ClusterRole for the core, one for the controllers of each product and one for each service to dir, and
// the bindings of the manager to its own.
func writeRoles(source, dir string, services []service) error {
	products, err := productFolders(source)
	if err != nil {
		return err
	}
	if err := removeStale(dir); err != nil {
		return err
	}
	manager := prefix + "-manager"
	if err := generateRole(dir, "role.yaml", manager, "./"+source+"/"+core+"/...;./"+source+"/"+shared+"/..."); err != nil {
		return err
	}
	if err := rewrite(filepath.Join(dir, "role.yaml"), manager, nil); err != nil {
		return err
	}
	roles := []string{manager}
	for _, product := range products {
		name := prefix + "-" + product
		if err := generateRole(dir, product+productSuffix, name, "./"+source+"/"+product+"/..."); err != nil {
			return err
		}
		if err := rewrite(filepath.Join(dir, product+productSuffix), name, bindRules(product, services)); err != nil {
			return err
		}
		roles = append(roles, name)
	}
	for _, s := range services {
		if err := writeYAML(filepath.Join(dir, s.product+serviceSuffix), clusterRole(serviceRole(s.product), s.rules)); err != nil {
			return err
		}
	}
	return writeYAML(filepath.Join(dir, "role_bindings.yaml"), bindings(roles)...)
}

// productFolders lists the folders of source that hold a product's controllers.
func productFolders(source string) ([]string, error) {
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains([]string{core, shared, "testdata"}, entry.Name()) {
			out = append(out, entry.Name())
		}
	}
	return out, nil
}

// removeStale removes the roles of the last run, so that those of a product that is gone go, too.
func removeStale(dir string) error {
	stale, err := filepath.Glob(filepath.Join(dir, "*"+productSuffix))
	if err != nil {
		return err
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

func generateRole(dir, file, name, paths string) error {
	return controllerGen("rbac:roleName="+name+",fileName="+file, "paths="+paths, "output:rbac:dir="+dir)
}

// rewrite adds rules to the ClusterRole in a file. controller-gen writes none for controllers without markers.
func rewrite(path, name string, add []rbacv1.PolicyRule) error {
	role := clusterRole(name, nil)
	switch data, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := yaml.UnmarshalStrict(data, role); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	role.Rules = append(role.Rules, add...)
	return writeYAML(path, role)
}

// serviceRole returns the name of the ClusterRole of a product's service.
func serviceRole(product string) string { return prefix + "-" + product + "-service" }

// bindRules returns the rule by which the controllers of a product may grant the role of its service, and no other, although
// they do not hold its permissions themselves.
func bindRules(product string, services []service) []rbacv1.PolicyRule {
	if !slices.ContainsFunc(services, func(s service) bool { return s.product == product }) {
		return nil
	}
	return []rbacv1.PolicyRule{{
		APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{serviceRole(product)}, Verbs: []string{"bind"},
	}}
}

func clusterRole(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules,
	}
}

// bindings bind the manager's ServiceAccount to each of the roles.
func bindings(roles []string) []any {
	var out []any
	for _, role := range roles {
		out = append(out, &rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace}},
		})
	}
	return out
}

// writeYAML writes objects to a file, a document each.
func writeYAML(path string, objects ...any) error {
	var out bytes.Buffer
	out.WriteString(header)
	for i, object := range objects {
		data, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(data)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
