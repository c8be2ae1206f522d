// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Secret besides Ready, Reconciling and Stalled.
const (
	// ConditionSynced is True when the destination has the version in use, at the current generation.
	ConditionSynced = "Synced"
	// ConditionRotationDue is True when a rotation is overdue. It is absent without spec.rotation.
	ConditionRotationDue = "RotationDue"
	// ConditionExpiring is True when the value expires within spec.expiryThreshold. It is absent if the value never expires.
	ConditionExpiring = "Expiring"
	// ConditionKeyStale is True while the newest version's data key is wrapped by an old root key.
	ConditionKeyStale = "KeyStale"
)

// Reasons of the conditions of this group.
const (
	// ReasonSealed: the Vault is sealed. Nothing can be read or stored until it is unsealed.
	ReasonSealed = "Sealed"
	// ReasonVersionNotFound: spec.version names a version that does not exist, or was deleted.
	ReasonVersionNotFound = "VersionNotFound"
	// ReasonExpired: the version in use has expired.
	ReasonExpired = "Expired"
	// ReasonPinned: spec.version prevents a rotation.
	ReasonPinned = "Pinned"
	// ReasonScheduled: the next rotation is not due yet.
	ReasonScheduled = "Scheduled"
	// ReasonOverdue: a rotation is overdue.
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
	// ReasonNoDestination: the value is available by REST only.
	ReasonNoDestination = "NoDestination"
)

const (
	// AnnotationVersion is the number of the newest version. The Vault service sets it on a Secret to trigger the
	// controller.
	AnnotationVersion = "vault.itechsmart.dev/version"
	// AnnotationStored is, on a destination, the time when the first version of its value was stored. Together with the version it
	// identifies a value, even if the value was destroyed and stored again.
	AnnotationStored = "vault.itechsmart.dev/stored-at"
	// AnnotationSecret is, on a destination, the name of the vault Secret.
	AnnotationSecret = "vault.itechsmart.dev/secret"
)

// GetConditions returns the list to change in place.
func (s *Secret) GetConditions() *[]metav1.Condition { return &s.Status.Conditions }

// SetObservedGeneration records the generation that the status reports on.
func (s *Secret) SetObservedGeneration(generation int64) { s.Status.ObservedGeneration = generation }

// StorePath returns the path at which the Vault stores the value.
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

// DestinationName returns the name of the core Secret with the value, or "" without a destination.
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

// Rotates reports whether new versions are created without an edit.
func (s *Secret) Rotates() bool {
	return s.Spec.Rotation != nil && (s.Spec.Source.Generate != nil || s.Spec.Source.Issue != nil)
}

// NameForPath returns the name of the resource for a path that was written by REST.
func NameForPath(path string) string { return strings.ReplaceAll(path, "/", ".") }
