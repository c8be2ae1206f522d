// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// WorkflowStatus is the state that the operator and the Workflow service observe. The runs themselves are in the service.
type WorkflowStatus struct {
	// observedGeneration is the generation that the conditions report on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// platform whose Workflow service runs it.
	// +optional
	Platform string `json:"platform,omitempty"`

	// servedGeneration is the newest generation that the service starts runs of.
	// +optional
	ServedGeneration int64 `json:"servedGeneration,omitempty"`

	// runs counts the runs.
	// +optional
	Runs RunCounts `json:"runs,omitzero"`

	// lastRun is the run that was started last.
	// +optional
	LastRun *LastRun `json:"lastRun,omitempty"`

	// next is when a Scheduled trigger fires next.
	// +optional
	Next *metav1.Time `json:"next,omitempty"`

	// readyTriggers is the number of triggers that are ready, of all, such as 2/3.
	// +optional
	ReadyTriggers string `json:"readyTriggers,omitempty"`

	// triggers has the state of each trigger.
	// +listType=map
	// +listMapKey=name
	// +optional
	Triggers []TriggerStatus `json:"triggers,omitempty"`

	// conditions are Ready, Reconciling, Stalled and Accepted.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RunCounts counts the runs in the history; see spec.history.
type RunCounts struct {
	// active runs have started and not ended.
	// +optional
	Active int64 `json:"active"`

	// queued runs wait for others to end: see spec.concurrency.
	// +optional
	Queued int64 `json:"queued"`

	// succeeded runs.
	// +optional
	Succeeded int64 `json:"succeeded"`

	// failed runs, including those that timed out.
	// +optional
	Failed int64 `json:"failed"`

	// cancelled runs.
	// +optional
	Cancelled int64 `json:"cancelled"`
}

// LastRun is one run.
type LastRun struct {
	// id of the run in the service.
	// +optional
	ID string `json:"id,omitempty"`

	// phase of the run.
	// +optional
	Phase RunPhase `json:"phase,omitempty"`

	// startedAt is when the run was started.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
}

// TriggerStatus is one trigger.
type TriggerStatus struct {
	// name as in spec.triggers.
	// +required
	Name string `json:"name,omitempty"`

	// ready is true when the trigger starts runs.
	// +required
	Ready bool `json:"ready"`

	// url of a webhook inside the cluster.
	// +optional
	URL string `json:"url,omitempty"`

	// nextFire is when the trigger fires next.
	// +optional
	NextFire *metav1.Time `json:"nextFire,omitempty"`

	// lastFired is when the trigger last started a run.
	// +optional
	LastFired *metav1.Time `json:"lastFired,omitempty"`

	// rejected counts calls and messages that started no run: wrong signatures, replays, and invalid or too large payloads.
	// +optional
	Rejected int64 `json:"rejected,omitempty"`

	// message says what is missing and what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// Workflow defines steps, and the triggers that start runs of them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=itechsmart,shortName=wf
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Triggers",type=string,JSONPath=`.status.readyTriggers`
// +kubebuilder:printcolumn:name="Active",type=integer,JSONPath=`.status.runs.active`
// +kubebuilder:printcolumn:name="Last",type=string,JSONPath=`.status.lastRun.phase`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.next`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Workflow struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec WorkflowSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status WorkflowStatus `json:"status,omitzero"`
}

// WorkflowList is a list of Workflows.
// +kubebuilder:object:root=true
type WorkflowList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Workflow `json:"items"`
}
