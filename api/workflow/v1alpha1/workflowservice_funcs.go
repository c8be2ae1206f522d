// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// Product is the product's name, in labels, names and the service's configuration.
const Product = "workflow"

// GetConditions returns the list to change in place.
func (s *WorkflowService) GetConditions() *[]metav1.Condition { return &s.Status.Conditions }

// SetObservedGeneration records the generation that the status reports on.
func (s *WorkflowService) SetObservedGeneration(generation int64) {
	s.Status.ObservedGeneration = generation
}

// ServiceSpec returns the part that all service kinds have.
func (s *WorkflowService) ServiceSpec() *common.ServiceSpec { return &s.Spec.ServiceSpec }

// ServiceStatus returns the status to change in place.
func (s *WorkflowService) ServiceStatus() *common.ServiceStatus { return &s.Status }
