// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// Phase is a one-word summary for people; conditions are for programs.
// +kubebuilder:validation:Enum=Pending;Deploying;Running;Degraded;Paused;Finished;Failed;Deleting
type Phase string

// Phases of a Pipeline.
const (
	PhasePending   Phase = "Pending"   // waits for an object that it refers to
	PhaseDeploying Phase = "Deploying" // a generation rolls out
	PhaseRunning   Phase = "Running"   // everything works
	PhaseDegraded  Phase = "Degraded"  // it runs, but a source or a sink fails
	PhasePaused    Phase = "Paused"    // spec.paused or replicas 0
	PhaseFinished  Phase = "Finished"  // every source is bounded and done
	PhaseFailed    Phase = "Failed"    // the specification is invalid
	PhaseDeleting  Phase = "Deleting"
)

// PipelineStatus is the observed state. It is written when a condition changes, and otherwise at most every 10 s.
type PipelineStatus struct {
	// observedGeneration is the generation that the status reports on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a one-word summary.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// activeGeneration is the generation that the workers run. It is less than metadata.generation
	// while a change rolls out, or is rejected.
	// +optional
	ActiveGeneration int64 `json:"activeGeneration,omitempty"`

	// configHash identifies the configuration that the workers run.
	// +optional
	ConfigHash string `json:"configHash,omitempty"`

	// replicas is the number of workers.
	// +optional
	Replicas int32 `json:"replicas"`

	// readyReplicas is the number of workers that are connected to every source and sink.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// selector of the worker Pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// throughput of all workers over the last ten seconds.
	// +optional
	Throughput Throughput `json:"throughput"`

	// lag is the number of records that wait in the sources; absent if no source can count them.
	// +optional
	Lag *int64 `json:"lag,omitempty"`

	// records counted since the current workers started.
	// +optional
	Records Records `json:"records"`

	// sources has a row per source.
	// +listType=map
	// +listMapKey=name
	// +optional
	Sources []ComponentStatus `json:"sources,omitempty"`

	// sinks has a row per sink.
	// +listType=map
	// +listMapKey=name
	// +optional
	Sinks []ComponentStatus `json:"sinks,omitempty"`

	// externalObjects are the topics and tables that the Pipeline uses.
	// +listType=atomic
	// +optional
	ExternalObjects []common.ExternalObject `json:"externalObjects,omitempty"`

	// conditions are Ready, Reconciling, Stalled, ConfigValid, ExternalObjectsReady, SourcesConnected, SinksConnected, Lagging and DeadLettering.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Throughput is records per second, as whole numbers.
type Throughput struct {
	// in is read from the sources.
	// +optional
	In int64 `json:"in"`

	// out is written to the sinks.
	// +optional
	Out int64 `json:"out"`
}

// Records counts records.
type Records struct {
	// in: read from the sources.
	// +optional
	In int64 `json:"in"`
	// out: written to the sinks.
	// +optional
	Out int64 `json:"out"`
	// filtered: dropped by a transform on purpose.
	// +optional
	Filtered int64 `json:"filtered"`
	// errored: could not be processed.
	// +optional
	Errored int64 `json:"errored"`
	// deadLettered: written to the dead-letter topic.
	// +optional
	DeadLettered int64 `json:"deadLettered"`
}

// ComponentStatus is the state of a source or sink.
type ComponentStatus struct {
	// name of the source or sink.
	// +required
	Name string `json:"name,omitempty"`

	// state is Connecting, Connected, Retrying, Finished or Stopped; the worst of all workers.
	// +optional
	State string `json:"state,omitempty"`

	// lastError is the current error.
	// +optional
	LastError string `json:"lastError,omitempty"`

	// lastActivity is when the last record was processed.
	// +optional
	LastActivity *metav1.Time `json:"lastActivity,omitempty"`
}
