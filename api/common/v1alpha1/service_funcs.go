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
	// ServicePort is where every product service serves REST.
	ServicePort = 8080
)

// ServiceObject is what every service kind's pointer type offers to the shared reconciler.
// +kubebuilder:object:generate=false
type ServiceObject interface {
	ConditionedObject
	runtime.Object
	// ServiceSpec returns the part that all service kinds have.
	ServiceSpec() *ServiceSpec
	// ServiceStatus returns the status to change in place.
	ServiceStatus() *ServiceStatus
}

// ServiceName is the name of a product's Deployment, Service and ServiceAccount on a Platform.
func ServiceName(platform, product string) string { return platform + "-" + product }

// ServiceURL is where a product's service answers inside of the cluster, without a path.
func ServiceURL(namespace, platform, product string) string {
	return fmt.Sprintf("http://%s.%s.svc:%d", ServiceName(platform, product), namespace, ServicePort)
}

// BindingsName is the Secret with what the resources of a product name in other systems, for those products that have it.
func BindingsName(platform, product string) string {
	return ServiceName(platform, product) + "-bindings"
}

// GetConditions returns the list to change in place.
func (s *ServiceStatus) GetConditions() *[]metav1.Condition { return &s.Conditions }

// Older reports whether a is older than b. It is the one order by which, of two resources that claim one name, the older
// wins: by creation time, then by UID. Controllers and services must agree on it.
func Older(a, b metav1.Object) bool {
	was, is := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if was.Equal(&is) {
		return a.GetUID() < b.GetUID()
	}
	return was.Before(&is)
}
