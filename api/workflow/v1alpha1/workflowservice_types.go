// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// WorkflowServiceSpec is how a Platform's Workflow service and the workers of its steps run.
type WorkflowServiceSpec struct {
	common.ServiceSpec `json:",inline"`

	// worker is how the steps' workers run.
	// +kubebuilder:default={}
	// +optional
	Worker WorkflowWorker `json:"worker,omitzero"`

	// maxOutputBytes bounds the output of one step, and, up to 8 MiB, the inputs of a run. With the Platform's backend
	// objectStorage it may be up to 64 MiB, else up to 8 MiB.
	// +kubebuilder:default=262144
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	MaxOutputBytes int32 `json:"maxOutputBytes,omitempty"`
}

// WorkflowWorker is how the steps' workers run.
type WorkflowWorker struct {
	common.WorkerSpec `json:",inline"`

	// slots is how many steps a worker runs at a time.
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

	// spec is what is wanted.
	// +required
	Spec WorkflowServiceSpec `json:"spec,omitzero"`

	// status is what is; observedGeneration is -1 until the operator has looked.
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
