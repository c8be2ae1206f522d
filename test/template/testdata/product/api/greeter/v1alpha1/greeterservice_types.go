// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// GreeterServiceSpec configures the Greeter of a Platform.
type GreeterServiceSpec struct {
	common.ServiceSpec `json:",inline"`

	// greeting that everybody gets.
	// +kubebuilder:default=hello
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Greeting string `json:"greeting,omitempty"`
}

// GreeterService runs Greeter on a Platform.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:categories=itechsmart
// +kubebuilder:printcolumn:name="Platform",type=string,JSONPath=`.spec.platformRef.name`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GreeterService struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec GreeterServiceSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status common.ServiceStatus `json:"status,omitzero"`
}

// GreeterServiceList is a list of GreeterServices.
// +kubebuilder:object:root=true
type GreeterServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []GreeterService `json:"items"`
}
