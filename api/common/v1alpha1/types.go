// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the types that the APIs of all products share.
// +kubebuilder:object:generate=true
package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeletionPolicy controls what happens to the data when the resource is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// DeletionRetain keeps topics, tables, queues, buckets and volumes.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionDelete removes those that the resource created.
	DeletionDelete DeletionPolicy = "Delete"
)

// ConnectionKind is the kind of object that a ConnectionReference names.
// +kubebuilder:validation:Enum=Platform;Secret;VaultSecret
type ConnectionKind string

const (
	// ConnectionPlatform is a Platform, whose backend of the needed type is used.
	ConnectionPlatform ConnectionKind = "Platform"
	// ConnectionSecret is a Secret in the Service Binding format.
	ConnectionSecret ConnectionKind = "Secret"
	// ConnectionVaultSecret is a Secret of group vault.itechsmart.dev, whose destination is in the Service Binding format.
	ConnectionVaultSecret ConnectionKind = "VaultSecret"
)

// ConnectionReference names the source of an address and its credentials.
type ConnectionReference struct {
	// kind is Platform, Secret (Service Binding format: type, host, port, username, password, uri, …) or
	// VaultSecret (group vault.itechsmart.dev, whose destination has that format).
	// +kubebuilder:default=Secret
	// +optional
	Kind ConnectionKind `json:"kind,omitempty"`

	// name of the Platform, Secret or VaultSecret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the referenced object. Defaults to the namespace of the resource. Another namespace must
	// have a ReferenceGrant (gateway.networking.k8s.io) that allows the reference.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// PlatformReference names a Platform of the same namespace.
type PlatformReference struct {
	// name of the Platform.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`
}

// ExternalObject is one object in a backing system that a resource uses.
type ExternalObject struct {
	// kind of the object: Topic, Table, Queue, Schema, …
	// +required
	Kind string `json:"kind,omitempty"`

	// name of the object in its system.
	// +required
	Name string `json:"name,omitempty"`

	// owned is true when this resource created the object. Only then deletionPolicy Delete removes it.
	// +required
	Owned bool `json:"owned"`
}

// ConditionedObject is the interface of all kinds that the shared reconciler uses.
// +kubebuilder:object:generate=false
type ConditionedObject interface {
	metav1.Object
	// GetConditions returns the list to change in place.
	GetConditions() *[]metav1.Condition
	// SetObservedGeneration records the generation that the status reports on.
	SetObservedGeneration(generation int64)
}
