// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// WorkflowServiceSpec configures the Workflow service of a Platform, and the workers that run steps.
type WorkflowServiceSpec struct {
	common.ServiceSpec `json:",inline"`

	// worker configures the workers that run steps.
	// +kubebuilder:default={}
	// +optional
	Worker WorkflowWorker `json:"worker,omitzero"`

	// maxOutputBytes limits the output of one step and, up to 8 MiB, the inputs of a run. It may be up to 64 MiB if the Platform has
	// the backend objectStorage, else up to 8 MiB.
	// +kubebuilder:default=262144
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	MaxOutputBytes int32 `json:"maxOutputBytes,omitempty"`
}

// WorkflowWorker configures the workers that run steps.
type WorkflowWorker struct {
	common.WorkerSpec `json:",inline"`

	// slots is the number of steps that a worker runs concurrently.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Slots int32 `json:"slots,omitempty"`
}

// WorkflowService runs Workflow on a Platform.
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
type WorkflowService struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec WorkflowServiceSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status common.ServiceStatus `json:"status,omitzero"`
}

// WorkflowServiceList is a list of WorkflowServices.
// +kubebuilder:object:root=true
type WorkflowServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []WorkflowService `json:"items"`
}
