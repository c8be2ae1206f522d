// SPDX-License-Identifier: Apache-2.0

package platform

import (
	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
)

const (
	// kindPlatform is the value of LabelOwnerKind.
	kindPlatform = "Platform"
	// volumeData is the volume of a managed backend's pod.
	volumeData = "data"
	// annotationSource is the version of the Secret that a binding is a copy of.
	annotationSource = "itechsmart.dev/source-version"
	// annotationRevision tells which pod template a StatefulSet was last given.
	annotationRevision = "itechsmart.dev/revision"
	// bindingSecretType precedes the backend's name, as the Service Binding specification has it.
	bindingSecretType = "servicebinding.io/"
	// username and database that the operator makes where it may choose.
	defaultUser     = "itechsmart"
	defaultDatabase = "itechsmart"
	// keys of the credentials Secret.
	keyUsername = "username"
	keyPassword = "password"
)

// workloadName returns the name of a managed backend's StatefulSet, Service, ConfigMap,
// PodDisruptionBudget and NetworkPolicy, and of an operated backend's main resource.
func workloadName(platform, backend string) string { return platform + "-" + backend }

func headlessName(platform, backend string) string {
	return workloadName(platform, backend) + "-headless"
}

func credentialsName(platform, backend string) string {
	return workloadName(platform, backend) + "-credentials"
}

// claimName returns the name that the StatefulSet controller gives to the volume of Pod 0.
func claimName(platform, backend string) string {
	return volumeData + "-" + workloadName(platform, backend) + "-0"
}

// serviceHost returns the name that clients in every namespace resolve, whatever the cluster's domain is.
func serviceHost(name, namespace string) string { return name + "." + namespace + ".svc" }

// selectorLabels choose a backend's pods.
func selectorLabels(platform, backend string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     backend,
		"app.kubernetes.io/instance": platform,
		common.LabelComponent:        backend,
	}
}

// objectLabels are on everything that belongs to a backend.
func objectLabels(platform, backend string) map[string]string {
	labels := selectorLabels(platform, backend)
	labels["app.kubernetes.io/part-of"] = "itechsmart"
	labels[apply.LabelManagedBy] = apply.ManagedBy
	labels[common.LabelOwnerKind] = kindPlatform
	labels[common.LabelOwnerName] = platform
	labels[common.LabelPlatform] = platform
	return labels
}

// fieldPath returns where a backend stands in the specification, for messages.
func fieldPath(backend, mode string) string { return backendPath(backend) + "." + mode }

func backendPath(backend string) string { return "spec.backends." + v1alpha1.BackendField(backend) }

// referenceIndex is the field index of Platforms by the Secrets ("namespace/name") that they depend on.
const referenceIndex = ".spec.secretReferences"

// secretsOf names the foreign Secrets that a Platform depends on, as namespace/name.
func secretsOf(p *v1alpha1.Platform) []string {
	var out []string
	for _, kind := range backendTypes {
		backend := kind.pick(&p.Spec.Backends)
		switch {
		case backend == nil:
		case backend.External != nil:
			ref := backend.External.SecretRef
			namespace := ref.Namespace
			if namespace == "" {
				namespace = p.Namespace
			}
			out = append(out, namespace+"/"+ref.Name)
		case backend.Operated != nil && kind.operated != nil:
			for _, name := range kind.operated.secrets(workloadName(p.Name, kind.name)) {
				out = append(out, p.Namespace+"/"+name)
			}
		}
	}
	return out
}
