// SPDX-License-Identifier: Apache-2.0

package service

import (
	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
)

const (
	// IndexPlatform is the field index of services by their Platform: "namespace/name".
	IndexPlatform = "spec.platformRef"
	// indexSecrets is the field index of services by the Secrets of others that they refer to: "namespace/name".
	indexSecrets = ".spec.secretReferences"
	// AnnotationSigningKeys lists, on a service's Deployment, the ids of the keys that its Pods verify.
	AnnotationSigningKeys = "itechsmart.dev/signing-keys"
	// labelOwnerNamespace is on what is in no namespace.
	labelOwnerNamespace = "itechsmart.dev/owner-namespace"
	// portHTTP and portMetrics are the names of a service's ports.
	portHTTP, portMetrics = "http", "metrics"
	// volumeSpill is the audit log's volume for events while the database is unavailable, volumeBindings has what changes while the Pod runs.
	volumeSpill, volumeBindings = "spill", "bindings"
	// imageUser is the user and group of our images.
	imageUser = 65532
)

// configPrefix begins the names of a component's configuration Secrets; the rest is the hash of the content.
func configPrefix(platform, component string) string {
	return common.ServiceName(platform, component) + "-config-"
}

// reviewerName returns the ClusterRoleBinding by which a service may have tokens reviewed.
func reviewerName(namespace, platform, product string) string {
	return "itechsmart:" + namespace + ":" + common.ServiceName(platform, product) + ":token-reviewer"
}

// queueName returns a product's queue of tasks. A namespace has no dots, so no two Platforms of a cluster share one.
func queueName(namespace, platform, product string) string {
	return product + "." + namespace + "." + platform + ".tasks"
}

// selectorLabels choose a component's Pods.
func selectorLabels(platform, component string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     component,
		"app.kubernetes.io/instance": platform,
		common.LabelComponent:        component,
	}
}

// owned is whose child an object is.
type owned struct {
	kind, name, platform string
}

// labels are on everything that belongs to a component.
func (o owned) labels(component string) map[string]string {
	labels := selectorLabels(o.platform, component)
	labels["app.kubernetes.io/part-of"] = "itechsmart"
	labels[apply.LabelManagedBy] = apply.ManagedBy
	labels[common.LabelOwnerKind] = o.kind
	labels[common.LabelOwnerName] = o.name
	labels[common.LabelPlatform] = o.platform
	return labels
}
