// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Secret beside Ready, Reconciling and Stalled.
const (
	// ConditionSynced is True when the destination holds the version in use, of the current generation.
	ConditionSynced = "Synced"
	// ConditionRotationDue is True when a rotation is overdue. It is absent without spec.rotation.
	ConditionRotationDue = "RotationDue"
	// ConditionExpiring is True from spec.expiryThreshold before the expiry on. It is absent when the value never expires.
	ConditionExpiring = "Expiring"
	// ConditionKeyStale is True while the newest version's data key is wrapped by an old root key.
	ConditionKeyStale = "KeyStale"
)

// Reasons of the conditions of this group.
const (
	// ReasonSealed: the Vault is sealed, and nothing can be read or stored until it is unsealed.
	ReasonSealed = "Sealed"
	// ReasonVersionNotFound: spec.version names a version that does not exist, or was deleted.
	ReasonVersionNotFound = "VersionNotFound"
	// ReasonExpired: the version in use has expired.
	ReasonExpired = "Expired"
	// ReasonPinned: spec.version holds a rotation back.
	ReasonPinned = "Pinned"
	// ReasonScheduled: the next rotation is not due yet.
	ReasonScheduled = "Scheduled"
	// ReasonOverdue: a rotation is due and was not made yet.
	ReasonOverdue = "Overdue"
	// ReasonValid: the value does not expire soon.
	ReasonValid = "Valid"
	// ReasonRewrapPending, ReasonCurrent: the root key is an old one, or the one in use.
	ReasonRewrapPending = "RewrapPending"
	ReasonCurrent       = "Current"
	// ReasonTemplateFailed: a template of spec.destination cannot be rendered.
	ReasonTemplateFailed = "TemplateFailed"
	// ReasonFileTooLarge: the value is a File over 1 MiB, which no core Secret can hold.
	ReasonFileTooLarge = "FileTooLarge"
	// ReasonNoDestination: the value is read by REST alone.
	ReasonNoDestination = "NoDestination"
)

const (
	// AnnotationVersion is what the Vault service writes on a Secret when it stores a new version, so that the
	// controller looks: the version's number.
	AnnotationVersion = "vault.itechsmart.dev/version"
	// AnnotationStored is, on a destination, when the first version of its value was stored: with the version it tells
	// values apart that were destroyed and stored anew.
	AnnotationStored = "vault.itechsmart.dev/stored-at"
	// AnnotationSecret names, on a destination, the Secret that wrote it.
	AnnotationSecret = "vault.itechsmart.dev/secret"
)

// GetConditions returns the list to change in place.
func (s *Secret) GetConditions() *[]metav1.Condition { return &s.Status.Conditions }

// SetObservedGeneration notes which generation the status speaks of.
func (s *Secret) SetObservedGeneration(generation int64) { s.Status.ObservedGeneration = generation }

// StorePath is where the Vault stores the value.
func (s *Secret) StorePath() string {
	switch {
	case s.Spec.Source.External != nil && s.Spec.Source.External.Path != "":
		return s.Spec.Source.External.Path
	case s.Spec.Path != "":
		return s.Spec.Path
	default:
		return s.Name
	}
}

// DestinationName is the core Secret that holds the value; "" without a destination.
func (s *Secret) DestinationName() string {
	switch {
	case s.Spec.Destination == nil:
		return ""
	case s.Spec.Destination.Name != "":
		return s.Spec.Destination.Name
	default:
		return s.Name
	}
}

// Rotates tells whether new versions are made without an edit.
func (s *Secret) Rotates() bool {
	return s.Spec.Rotation != nil && (s.Spec.Source.Generate != nil || s.Spec.Source.Issue != nil)
}

// NameForPath is the name of the resource that stands for a path which was written by REST.
func NameForPath(path string) string { return strings.ReplaceAll(path, "/", ".") }
