// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// AccessPolicySpec controls who may do what on which paths. Deny overrides Allow. If no rule matches, the role of the subject
// decides.
type AccessPolicySpec struct {
	// platformRef names the Platform whose Vault enforces the policy. The default is the only Platform of the namespace.
	// +optional
	PlatformRef *common.PlatformReference `json:"platformRef,omitempty"`

	// subjects that the rules apply to.
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +required
	Subjects []Subject `json:"subjects,omitempty"`

	// rules of the policy.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +required
	Rules []PolicyRule `json:"rules,omitempty"`
}

// SubjectKind is the kind of a subject.
// +kubebuilder:validation:Enum=User;ServiceAccount;Client;"*"
type SubjectKind string

// The kinds of subjects.
const (
	SubjectUser           SubjectKind = "User"
	SubjectServiceAccount SubjectKind = "ServiceAccount"
	SubjectClient         SubjectKind = "Client"
	SubjectAny            SubjectKind = "*"
)

// Subject is a caller.
type Subject struct {
	// kind is User, ServiceAccount, Client (of OAuth 2) or "*", which is any of them.
	// +required
	Kind SubjectKind `json:"kind,omitempty"`

	// name is the email address of a user, "namespace/name" or "namespace/*" for ServiceAccounts, or the id of a client. "*" matches all of the kind.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +required
	Name string `json:"name,omitempty"`
}

// Verb is an action: read a value, write a version, list without values, rotate, delete, or any of them ("*").
// +kubebuilder:validation:Enum=read;write;list;rotate;delete;"*"
type Verb string

// The verbs.
const (
	VerbRead   Verb = "read"
	VerbWrite  Verb = "write"
	VerbList   Verb = "list"
	VerbRotate Verb = "rotate"
	VerbDelete Verb = "delete"
	VerbAny    Verb = "*"
)

// Effect of a rule.
// +kubebuilder:validation:Enum=Allow;Deny
type Effect string

// The effects.
const (
	EffectAllow Effect = "Allow"
	EffectDeny  Effect = "Deny"
)

// PolicyRule allows or denies verbs on paths.
type PolicyRule struct {
	// paths that the rule matches: "*" matches any characters within a segment, "**" any number of
	// segments, and {{principal.id}} and {{principal.name}} are replaced by those of the caller.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\*|\*|\*?([a-z0-9._-]|\{\{principal\.(id|name)\}\})+(\*([a-z0-9._-]|\{\{principal\.(id|name)\}\})+)*\*?)(/(\*\*|\*|\*?([a-z0-9._-]|\{\{principal\.(id|name)\}\})+(\*([a-z0-9._-]|\{\{principal\.(id|name)\}\})+)*\*?))*$`
	// +required
	Paths []string `json:"paths,omitempty"`

	// verbs that the rule matches.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +required
	Verbs []Verb `json:"verbs,omitempty"`

	// effect is Allow or Deny.
	// +kubebuilder:default=Allow
	// +optional
	Effect Effect `json:"effect,omitempty"`

	// when is a CEL expression that must be true for the rule to apply, over principal, path, verb and
	// request: request.ip, request.time.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	When string `json:"when,omitempty"`
}

// AccessPolicyStatus is the observed state of an AccessPolicy.
type AccessPolicyStatus struct {
	// observedGeneration is the generation that the status reports on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// platform whose Vault enforces the policy.
	// +optional
	Platform string `json:"platform,omitempty"`

	// conditions are Ready, Reconciling, Stalled and Accepted.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AccessPolicy controls who may do what on which paths of the namespace's Vault.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=itechsmart;vault,path=accesspolicies
// +kubebuilder:printcolumn:name="Platform",type=string,JSONPath=`.status.platform`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AccessPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec AccessPolicySpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status AccessPolicyStatus `json:"status,omitzero"`
}

// AccessPolicyList is a list of AccessPolicies.
// +kubebuilder:object:root=true
type AccessPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []AccessPolicy `json:"items"`
}
