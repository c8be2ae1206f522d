// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Pipeline besides Ready, Reconciling and Stalled.
const (
	// ConditionConfigValid is True when the specification can run and its tests pass.
	ConditionConfigValid = "ConfigValid"
	// ConditionExternalObjectsReady is True when every topic and table is as declared.
	ConditionExternalObjectsReady = "ExternalObjectsReady"
	// ConditionSourcesConnected is True when every worker reads every source.
	ConditionSourcesConnected = "SourcesConnected"
	// ConditionSinksConnected is True when every worker reaches every sink.
	ConditionSinksConnected = "SinksConnected"
	// ConditionLagging is True when the workers need more than a minute to catch up.
	ConditionLagging = "Lagging"
	// ConditionDeadLettering is True when the current workers have written to the dead-letter topic.
	ConditionDeadLettering = "DeadLettering"
)

// Reasons of a Pipeline's conditions.
const (
	// ReasonTestFailed: a test of spec.tests failed; the running generation stays in place.
	ReasonTestFailed = "TestFailed"
	// ReasonTestsRunning: the tests of a new generation are running.
	ReasonTestsRunning = "TestsRunning"
	// ReasonPartitionsDecreased: Kafka cannot remove partitions.
	ReasonPartitionsDecreased = "PartitionsDecreased"
	// ReasonIncompatibleTable: a column exists with another type.
	ReasonIncompatibleTable = "IncompatibleTable"
	// ReasonConnecting, ReasonRetrying and ReasonConnected are the states of sources and sinks.
	ReasonConnecting = "Connecting"
	ReasonRetrying   = "Retrying"
	ReasonConnected  = "Connected"
	// ReasonPaused: spec.paused or replicas 0.
	ReasonPaused = "Paused"
	// ReasonFinished: every source is bounded and done.
	ReasonFinished = "Finished"
	// ReasonBlocked: a record that cannot be processed blocks the Pipeline, with onError: Fail.
	ReasonBlocked = "Blocked"
	// ReasonWorkersNotReady: a worker Pod is not ready; the message says why.
	ReasonWorkersNotReady = "WorkersNotReady"
)

// GetConditions returns the list to change in place.
func (p *Pipeline) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration records the generation that the status reports on.
func (p *Pipeline) SetObservedGeneration(generation int64) {
	p.Status.ObservedGeneration = generation
}

// Group returns the consumer group under which the sources store their position.
func (p *Pipeline) Group() string {
	if p.Spec.ConsumerGroup != "" {
		return p.Spec.ConsumerGroup
	}
	return "itechsmart." + p.Namespace + "." + p.Name
}

// WantedReplicas returns the desired number of workers.
func (p *Pipeline) WantedReplicas() int32 {
	switch {
	case p.Spec.Paused:
		return 0
	case p.Spec.Replicas == nil:
		return 1
	default:
		return *p.Spec.Replicas
	}
}
