// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// TokenAudience is the issuer and audience of tokens on every Platform, and so the audience of the ServiceAccount tokens
	// that its services accept.
	TokenAudience = "itechsmart"
	// ServicePort is the port of the REST API of every product service.
	ServicePort = 8080
)

// ServiceObject is the interface of all service kinds that the shared reconciler uses.
// +kubebuilder:object:generate=false
type ServiceObject interface {
	ConditionedObject
	runtime.Object
	// ServiceSpec returns the part that all service kinds have.
	ServiceSpec() *ServiceSpec
	// ServiceStatus returns the status to change in place.
	ServiceStatus() *ServiceStatus
}

// ServiceName returns the name of a product's Deployment, Service and ServiceAccount on a Platform.
func ServiceName(platform, product string) string { return platform + "-" + product }

// ServiceURL returns the URL of a product's service inside the cluster, without a path.
func ServiceURL(namespace, platform, product string) string {
	return fmt.Sprintf("http://%s.%s.svc:%d", ServiceName(platform, product), namespace, ServicePort)
}

// BindingsName returns the name of the Secret with the connections of a product's resources, for products that have it.
func BindingsName(platform, product string) string {
	return ServiceName(platform, product) + "-bindings"
}

// GetConditions returns the list to change in place.
func (s *ServiceStatus) GetConditions() *[]metav1.Condition { return &s.Conditions }

// Older reports whether a is older than b. When two resources claim the same name, the older one
// wins: by creation time, then by UID. Controllers and services use this one order.
func Older(a, b metav1.Object) bool {
	was, is := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if was.Equal(&is) {
		return a.GetUID() < b.GetUID()
	}
	return was.Before(&is)
}
