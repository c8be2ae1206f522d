// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Pipeline beside Ready, Reconciling and Stalled.
const (
	// ConditionConfigValid is True when the specification can run and its tests pass.
	ConditionConfigValid = "ConfigValid"
	// ConditionExternalObjectsReady is True when every topic and table is as declared.
	ConditionExternalObjectsReady = "ExternalObjectsReady"
	// ConditionSourcesConnected is True when every worker reads every source.
	ConditionSourcesConnected = "SourcesConnected"
	// ConditionSinksConnected is True when every worker reaches every sink.
	ConditionSinksConnected = "SinksConnected"
	// ConditionLagging is True when records wait for longer than the workers need to catch up in a minute.
	ConditionLagging = "Lagging"
	// ConditionDeadLettering is True when the current workers have turned records away.
	ConditionDeadLettering = "DeadLettering"
)

// Reasons of a Pipeline's conditions.
const (
	// ReasonTestFailed: a test of spec.tests failed; the running generation goes on.
	ReasonTestFailed = "TestFailed"
	// ReasonTestsRunning: the tests of a new generation are being run.
	ReasonTestsRunning = "TestsRunning"
	// ReasonPartitionsDecreased: Kafka cannot take partitions away.
	ReasonPartitionsDecreased = "PartitionsDecreased"
	// ReasonIncompatibleTable: a column exists with another type.
	ReasonIncompatibleTable = "IncompatibleTable"
	// ReasonConnecting, ReasonRetrying, ReasonConnected: what sources and sinks are at.
	ReasonConnecting = "Connecting"
	ReasonRetrying   = "Retrying"
	ReasonConnected  = "Connected"
	// ReasonPaused: spec.paused or replicas 0.
	ReasonPaused = "Paused"
	// ReasonFinished: every source is bounded and done.
	ReasonFinished = "Finished"
	// ReasonBlocked: a record that cannot be processed holds everything up, as onError: Fail asks.
	ReasonBlocked = "Blocked"
	// ReasonWorkersNotReady: a worker Pod is not up; the message tells why.
	ReasonWorkersNotReady = "WorkersNotReady"
)

// GetConditions returns the list to change in place.
func (p *Pipeline) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration notes which generation the status speaks of.
func (p *Pipeline) SetObservedGeneration(generation int64) {
	p.Status.ObservedGeneration = generation
}

// Group is the consumer group under which the sources keep their place.
func (p *Pipeline) Group() string {
	if p.Spec.ConsumerGroup != "" {
		return p.Spec.ConsumerGroup
	}
	return "itechsmart." + p.Namespace + "." + p.Name
}

// WantedReplicas is how many workers there should be now.
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
