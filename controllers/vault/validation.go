// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kubevalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/validation"
	vault "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/config"
)

// validateSecret returns everything that is invalid in a Secret.
func validateSecret(s *vaultv1alpha1.Secret) field.ErrorList {
	var out field.ErrorList
	for i, rule := range s.Spec.Access {
		path := fmt.Sprintf("spec.access[%d]", i)
		out = append(out, validateSubject(path+".subject", rule.Subject)...)
		if err := config.CheckCondition(rule.When); err != nil {
			out = append(out, validation.Errorf(path+".when", "%v", err))
		}
	}
	if s.Spec.Destination != nil {
		out = append(out, validateDestination(s)...)
	}
	return out
}

// validateDestination checks templates, the keys of the core Secret, and its labels.
func validateDestination(s *vaultv1alpha1.Secret) field.ErrorList {
	const path = "spec.destination"
	d := s.Spec.Destination
	var out field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(d.Template)) {
		at := fmt.Sprintf("%s.template[%s]", path, key)
		for _, problem := range kubevalidation.IsConfigMapKey(key) {
			out = append(out, validation.Errorf(at, "%s", problem))
		}
		if _, err := parseTemplate(string(d.Template[key])); err != nil {
			out = append(out, validation.Errorf(at, "%v", err))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.Labels)) {
		for _, problem := range kubevalidation.IsQualifiedName(key) {
			out = append(out, validation.Errorf(fmt.Sprintf("%s.labels[%s]", path, key), "%s", problem))
		}
	}
	return append(out, validateCoreType(s)...)
}

// requiredKeys are the keys that the API server demands of a core Secret, by its type.
var requiredKeys = map[corev1.SecretType][]string{
	corev1.SecretTypeTLS:              {corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
	corev1.SecretTypeSSHAuth:          {corev1.SSHAuthPrivateKey},
	corev1.SecretTypeDockerConfigJson: {corev1.DockerConfigJsonKey},
	corev1.SecretTypeDockercfg:        {corev1.DockerConfigKey},
}

func validateCoreType(s *vaultv1alpha1.Secret) field.ErrorList {
	const path = "spec.destination.type"
	coreType := corev1.SecretType(s.Spec.Destination.Type)
	if coreType == corev1.SecretTypeServiceAccountToken {
		return field.ErrorList{validation.Errorf(path, "Kubernetes itself makes Secrets of this type")}
	}
	keys, _ := vault.Fields(string(s.Spec.Type))
	if template := s.Spec.Destination.Template; len(template) > 0 {
		keys = slices.Collect(maps.Keys(template))
	}
	var out field.ErrorList
	for _, key := range requiredKeys[coreType] {
		if slices.Contains(keys, key) {
			continue
		}
		out = append(out, validation.Errorf(path, "a Secret of type %s needs key %q: add it to spec.destination.template", coreType, key))
	}
	return out
}

// validatePolicy returns everything that is invalid in an AccessPolicy.
func validatePolicy(p *vaultv1alpha1.AccessPolicy) field.ErrorList {
	var out field.ErrorList
	for i, subject := range p.Spec.Subjects {
		out = append(out, validateSubject(fmt.Sprintf("spec.subjects[%d]", i), subject)...)
	}
	for i, rule := range p.Spec.Rules {
		path := fmt.Sprintf("spec.rules[%d]", i)
		for j, text := range rule.Paths {
			if err := config.CheckPath(text); err != nil {
				out = append(out, validation.Errorf(fmt.Sprintf("%s.paths[%d]", path, j), "%v", err))
			}
		}
		if err := config.CheckCondition(rule.When); err != nil {
			out = append(out, validation.Errorf(path+".when", "%v", err))
		}
	}
	return out
}

// validateSubject refuses the name of a ServiceAccount that no caller can have.
func validateSubject(path string, s vaultv1alpha1.Subject) field.ErrorList {
	if s.Kind != vaultv1alpha1.SubjectServiceAccount || s.Name == "*" {
		return nil
	}
	namespace, name, ok := strings.Cut(s.Name, "/")
	if ok && len(kubevalidation.IsDNS1123Label(namespace)) == 0 && (name == "*" || len(kubevalidation.IsDNS1123Subdomain(name)) == 0) {
		return nil
	}
	return field.ErrorList{validation.Errorf(path+".name", "a ServiceAccount is named namespace/name, namespace/* or *")}
}
