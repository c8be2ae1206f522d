// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// ConditionAccepted is True when the definition is valid, whether or not it can run now.
const ConditionAccepted = "Accepted"

// Reasons of the conditions of this group.
const (
	// ReasonStepTypeUnavailable: the product of a step type does not exist yet.
	ReasonStepTypeUnavailable = "StepTypeUnavailable"
	// ReasonTriggersNotReady: a trigger does not work; see status.triggers.
	ReasonTriggersNotReady = "TriggersNotReady"
	// ReasonRunning: the run has not ended.
	ReasonRunning = "Running"
	// ReasonFailed: the run ended without success.
	ReasonFailed = "Failed"
)

// GetConditions implements common.ConditionedObject.
func (w *Workflow) GetConditions() *[]metav1.Condition { return &w.Status.Conditions }

// SetObservedGeneration implements common.ConditionedObject.
func (w *Workflow) SetObservedGeneration(generation int64) { w.Status.ObservedGeneration = generation }

// GetConditions implements common.ConditionedObject.
func (r *WorkflowRun) GetConditions() *[]metav1.Condition { return &r.Status.Conditions }

// SetObservedGeneration implements common.ConditionedObject.
func (r *WorkflowRun) SetObservedGeneration(generation int64) {
	r.Status.ObservedGeneration = generation
}

// Ended reports whether the phase is final.
func (p RunPhase) Ended() bool {
	switch p {
	case RunSucceeded, RunFailed, RunCancelled, RunTimedOut:
		return true
	}
	return false
}

var _, _ common.ConditionedObject = &Workflow{}, &WorkflowRun{}
