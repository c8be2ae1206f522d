// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConditionAccepted is True when an AccessPolicy's expressions compile: the Vault enforces it.
const ConditionAccepted = "Accepted"

// GetConditions returns the list to change in place.
func (p *AccessPolicy) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration records the generation that the status reports on.
func (p *AccessPolicy) SetObservedGeneration(generation int64) {
	p.Status.ObservedGeneration = generation
}
