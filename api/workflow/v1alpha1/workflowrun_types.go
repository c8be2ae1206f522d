// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RunPhase is the phase of a run.
// +kubebuilder:validation:Enum=Queued;Running;Waiting;Succeeded;Failed;Cancelled;TimedOut
type RunPhase string

// The phases of a run.
const (
	RunQueued    RunPhase = "Queued"
	RunRunning   RunPhase = "Running"
	RunWaiting   RunPhase = "Waiting"
	RunSucceeded RunPhase = "Succeeded"
	RunFailed    RunPhase = "Failed"
	RunCancelled RunPhase = "Cancelled"
	RunTimedOut  RunPhase = "TimedOut"
)

// WorkflowRunSpec starts one run.
//
// +kubebuilder:validation:XValidation:rule="self.workflowRef == oldSelf.workflowRef && has(self.inputs) == has(oldSelf.inputs) && has(self.rerun) == has(oldSelf.rerun) && (!has(self.rerun) || self.rerun == oldSelf.rerun)",message="a run stays what it was started as, but for cancel and ttlAfterFinished: create another WorkflowRun"
// +kubebuilder:validation:XValidation:rule="!has(self.rerun) || !has(self.inputs)",message="a run that is repeated has the inputs that were recorded: inputs and rerun exclude each other",fieldPath=".inputs"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",message="a run that was cancelled stays so",fieldPath=".cancel"
type WorkflowRunSpec struct {
	// workflowRef names the Workflow.
	// +required
	WorkflowRef WorkflowReference `json:"workflowRef,omitzero"`

	// inputs of the run, by name. They are read once, when the run starts.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Inputs *apiextensionsv1.JSON `json:"inputs,omitempty"`

	// rerun repeats an earlier run from a step on, with the recorded inputs and definition.
	// +optional
	Rerun *Rerun `json:"rerun,omitempty"`

	// cancel ends the run. Its handlers still run.
	// +optional
	Cancel bool `json:"cancel,omitempty"`

	// ttlAfterFinished is how long the WorkflowRun is kept after the run has ended. Defaults to the history of the Workflow.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('8760h')",message="ttlAfterFinished must be from 0s to 8760h"
	// +optional
	TTLAfterFinished *metav1.Duration `json:"ttlAfterFinished,omitempty"`
}

// WorkflowReference names a Workflow of the same namespace.
type WorkflowReference struct {
	// name of the Workflow.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`
}

// Rerun repeats a run from a step on.
type Rerun struct {
	// run is the id of the run in the service, as in status.run.
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	// +required
	Run string `json:"run,omitempty"`

	// fromStep is the first step that runs again. Steps that do not depend on it keep their outcome.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	FromStep string `json:"fromStep,omitempty"`
}

// WorkflowRunStatus is the state of the run that the Workflow service reports. Its history and outputs are in the service.
type WorkflowRunStatus struct {
	// observedGeneration is the generation that the conditions report on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// run is the id in the service.
	// +optional
	Run string `json:"run,omitempty"`

	// workflowGeneration is the generation of the Workflow that the run uses from start to end.
	// +optional
	WorkflowGeneration int64 `json:"workflowGeneration,omitempty"`

	// phase of the run.
	// +optional
	Phase RunPhase `json:"phase,omitempty"`

	// step that runs or waits, or at which the run failed.
	// +optional
	Step string `json:"step,omitempty"`

	// startedAt is when the run was started.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// finishedAt is when the run ended.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`

	// duration from start to end, such as 1m30s.
	// +optional
	Duration string `json:"duration,omitempty"`

	// message says why the run did not succeed.
	// +optional
	Message string `json:"message,omitempty"`

	// conditions are Ready (the run succeeded), Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// WorkflowRun starts one run of a Workflow, for GitOps and kubectl.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=itechsmart,shortName=wfr
// +kubebuilder:printcolumn:name="Workflow",type=string,JSONPath=`.spec.workflowRef.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Duration",type=string,JSONPath=`.status.duration`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WorkflowRun struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec WorkflowRunSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status WorkflowRunStatus `json:"status,omitzero"`
}

// WorkflowRunList is a list of WorkflowRuns.
// +kubebuilder:object:root=true
type WorkflowRunList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []WorkflowRun `json:"items"`
}
