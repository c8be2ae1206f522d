// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// ConditionAccepted is True when the definition was proven, whether or not it can run now.
const ConditionAccepted = "Accepted"

// Reasons of the conditions of this group.
const (
	// ReasonStepTypeUnavailable: a step type whose product is not there yet.
	ReasonStepTypeUnavailable = "StepTypeUnavailable"
	// ReasonTriggersNotReady: the service cannot take what starts runs; see status.triggers.
	ReasonTriggersNotReady = "TriggersNotReady"
	// ReasonRunning: the run is under way.
	ReasonRunning = "Running"
	// ReasonFailed: the run has ended, and not well.
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

// Ended tells whether nothing follows the phase.
func (p RunPhase) Ended() bool {
	switch p {
	case RunSucceeded, RunFailed, RunCancelled, RunTimedOut:
		return true
	}
	return false
}

var _, _ common.ConditionedObject = &Workflow{}, &WorkflowRun{}
