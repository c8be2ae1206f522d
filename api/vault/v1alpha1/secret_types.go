// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// SecretSpec describes the source of a value, who may use it, and its destination. No field has a value in plain text.
//
// +kubebuilder:validation:XValidation:rule="self.type == oldSelf.type",message="type is immutable: create a Secret of another name",fieldPath=".type"
// +kubebuilder:validation:XValidation:rule="self.path == oldSelf.path",message="path is immutable: the versions are stored under it",fieldPath=".path"
// +kubebuilder:validation:XValidation:rule="!has(self.source.generate) || self.type in ['Text', 'APIKey']",message="generate makes a Text or an APIKey",fieldPath=".source.generate"
// +kubebuilder:validation:XValidation:rule="!has(self.source.issue) || self.type == 'Certificate'",message="issue makes a Certificate",fieldPath=".source.issue"
// +kubebuilder:validation:XValidation:rule="!has(self.rotation) || has(self.source.generate) || has(self.source.issue)",message="rotation needs source.generate or source.issue",fieldPath=".rotation"
// +kubebuilder:validation:XValidation:rule="!has(self.rotation) || !has(self.source.issue) || duration(self.rotation.interval) < duration(self.source.issue.ttl)",message="a certificate must be rotated before it expires: rotation.interval must be shorter than source.issue.ttl",fieldPath=".rotation.interval"
// +kubebuilder:validation:XValidation:rule="!has(self.source.valueFrom) || !has(self.source.valueFrom.secretKeyRef) || self.type != 'Certificate'",message="a Certificate has several fields: use secretKeyRefs",fieldPath=".source.valueFrom.secretKeyRef"
// +kubebuilder:validation:XValidation:rule="!has(self.source.valueFrom) || !has(self.source.valueFrom.secretKeyRefs) || self.source.valueFrom.secretKeyRefs.all(r, (self.type == 'Text' && r.field == 'text') || (self.type == 'File' && r.field in ['file', 'filename']) || (self.type == 'Certificate' && r.field in ['tls.crt', 'tls.key', 'ca.crt']) || (self.type == 'APIKey' && r.field in ['key', 'id']))",message="fields are, by type: Text: text; File: file, filename; Certificate: tls.crt, tls.key, ca.crt; APIKey: key, id",fieldPath=".source.valueFrom.secretKeyRefs"
// +kubebuilder:validation:XValidation:rule="!has(self.source.valueFrom) || !has(self.source.valueFrom.secretKeyRefs) || (self.type == 'Text' && self.source.valueFrom.secretKeyRefs.exists(r, r.field == 'text')) || (self.type == 'File' && self.source.valueFrom.secretKeyRefs.exists(r, r.field == 'file')) || (self.type == 'Certificate' && self.source.valueFrom.secretKeyRefs.exists(r, r.field == 'tls.crt') && self.source.valueFrom.secretKeyRefs.exists(r, r.field == 'tls.key')) || (self.type == 'APIKey' && self.source.valueFrom.secretKeyRefs.exists(r, r.field == 'key'))",message="required fields are, by type: Text: text; File: file; Certificate: tls.crt and tls.key; APIKey: key",fieldPath=".source.valueFrom.secretKeyRefs"
// +kubebuilder:validation:XValidation:rule="!has(self.restartTargets) || has(self.destination)",message="restartTargets need a destination: without one no workload holds the value",fieldPath=".restartTargets"
// +kubebuilder:validation:XValidation:rule="!has(self.destination) || !has(oldSelf.destination) || self.destination.name != oldSelf.destination.name || self.destination.type == oldSelf.destination.type",message="a core Secret's type is immutable: choose another destination.name",fieldPath=".destination.type"
// +kubebuilder:validation:XValidation:rule="!has(self.version) || self.version == 0 || has(self.destination)",message="version is what the destination gets: it needs one",fieldPath=".version"
type SecretSpec struct {
	// type determines the fields of the value: Text (text), File (file, filename), Certificate (tls.crt,
	// tls.key, ca.crt) or APIKey (key, id). Immutable.
	// +required
	Type SecretType `json:"type,omitempty"`

	// path of the value in the store, such as "db/password". Defaults to the name of the resource. Immutable.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*)?$`
	// +optional
	Path string `json:"path"`

	// platformRef names the Platform whose Vault stores the value. The default is the only Platform of the namespace.
	// +optional
	PlatformRef *common.PlatformReference `json:"platformRef,omitempty"`

	// source of the value.
	// +required
	Source Source `json:"source,omitzero"`

	// version to use. 0 is the newest. A number pins, or rolls back, the destination to that
	// version. Nothing is rotated while a version is pinned.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Version int64 `json:"version,omitempty"`

	// rotation periodically creates a new version of a generated or issued value.
	// +optional
	Rotation *Rotation `json:"rotation,omitempty"`

	// refresh controls when the destination is updated from the store.
	// +kubebuilder:default={}
	// +optional
	Refresh Refresh `json:"refresh,omitzero"`

	// expiryThreshold is the time before the expiry in which a value is reported as Expiring.
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="expiryThreshold is from 1m to 87600h"
	// +optional
	ExpiryThreshold metav1.Duration `json:"expiryThreshold,omitzero"`

	// access lets subjects use this Secret, in addition to roles and AccessPolicies.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Access []AccessRule `json:"access,omitempty"`

	// destination is the core Secret with the value, for workloads. Without it the value is available by REST only.
	// +optional
	Destination *Destination `json:"destination,omitempty"`

	// restartTargets are workloads to restart when the destination gets another version, for programs that read
	// it once. A workload that mounts it as a volume gets the new value without a restart.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +optional
	RestartTargets []WorkloadReference `json:"restartTargets,omitempty"`

	// deletionPolicy controls what happens to the stored value, with all its versions, when the resource
	// is deleted. A value that the resource did not create is never removed.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy common.DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// SecretType determines the fields of a value.
// +kubebuilder:validation:Enum=Text;File;Certificate;APIKey
type SecretType string

// The types of a Secret.
const (
	TypeText        SecretType = "Text"
	TypeFile        SecretType = "File"
	TypeCertificate SecretType = "Certificate"
	TypeAPIKey      SecretType = "APIKey"
)

// Rotation creates new versions periodically.
type Rotation struct {
	// interval between rotations.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="interval is from 1m to 87600h"
	// +required
	Interval metav1.Duration `json:"interval,omitzero"`

	// jitter is the share of the interval by which a rotation may be early, so that Secrets created together
	// are not rotated together; at most 50%.
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:Pattern=`^([0-9]|[1-4][0-9]|50)%$`
	// +kubebuilder:validation:MaxLength=3
	// +optional
	Jitter string `json:"jitter,omitempty"`
}

// RefreshPolicy controls when the destination is updated from the store.
// +kubebuilder:validation:Enum=OnChange;Periodic;CreatedOnce
type RefreshPolicy string

const (
	// RefreshOnChange updates the destination on each new version.
	RefreshOnChange RefreshPolicy = "OnChange"
	// RefreshPeriodic also polls the Vault service.
	RefreshPeriodic RefreshPolicy = "Periodic"
	// RefreshCreatedOnce creates the destination if it is missing, and does not update it.
	RefreshCreatedOnce RefreshPolicy = "CreatedOnce"
)

// Refresh controls when the destination is updated from the store.
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || self.policy == 'Periodic'",message="interval is for policy Periodic",fieldPath=".interval"
type Refresh struct {
	// policy is OnChange (on each new version, and checked once an hour), Periodic (also at every
	// interval), or CreatedOnce (the destination is created and not updated).
	// +kubebuilder:default=OnChange
	// +optional
	Policy RefreshPolicy `json:"policy,omitempty"`

	// interval of policy Periodic. Defaults to 10m.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('87600h')",message="interval is from 10s to 87600h"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// Destination is the core Secret with the value.
type Destination struct {
	// name of the core Secret. Defaults to the name of the resource.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`
	// +optional
	Name string `json:"name"`

	// type of the core Secret. Defaults to kubernetes.io/tls for a Certificate without template,
	// else Opaque.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Type string `json:"type"`

	// labels of the core Secret, in addition to the operator's.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k != 'app.kubernetes.io/managed-by' && !k.contains('itechsmart.dev/'))",message="labels of itechsmart.dev and app.kubernetes.io/managed-by are the operator's"
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// template has a Go template for each key of the core Secret, such as
	// {"uri": "postgres://app:{{ .Value | urlquery }}@db/app"}. Without it the keys are the value's fields.
	// .Value is the main field, .Data all fields by name; .Path, .Type and .Version are those of the Secret.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Template map[string]Template `json:"template,omitempty"`

	// deletionPolicy controls what happens to the core Secret when the resource is deleted.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy common.DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// Template is a Go template of one key of a core Secret.
// +kubebuilder:validation:MaxLength=16384
type Template string

// WorkloadReference names a workload of the same namespace.
type WorkloadReference struct {
	// kind is Deployment, StatefulSet or DaemonSet.
	// +kubebuilder:validation:Enum=Deployment;StatefulSet;DaemonSet
	// +required
	Kind string `json:"kind,omitempty"`

	// name of the workload.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`
}

// AccessRule lets a subject use a Secret.
type AccessRule struct {
	// subject that is allowed.
	// +required
	Subject Subject `json:"subject,omitzero"`

	// verbs that the subject may use.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +required
	Verbs []Verb `json:"verbs,omitempty"`

	// when is a CEL expression over principal, path, verb and request that must be true.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	When string `json:"when,omitempty"`
}

// SecretStatus is the observed state of a Secret.
type SecretStatus struct {
	// observedGeneration is the generation that the status reports on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// currentVersion is the version in use: the newest, or the pinned one.
	// +optional
	CurrentVersion int64 `json:"currentVersion,omitempty"`

	// latestVersion is the newest version.
	// +optional
	LatestVersion int64 `json:"latestVersion,omitempty"`

	// versions is the number of versions, including deleted ones.
	// +optional
	Versions int64 `json:"versions,omitempty"`

	// storedAt is when the first version was stored. It changes if the value is destroyed and stored again.
	// +optional
	StoredAt *metav1.MicroTime `json:"storedAt,omitempty"`

	// keyID is the root key that wraps the data key of the newest version.
	// +optional
	KeyID string `json:"keyID,omitempty"`

	// expiresAt is when the version in use expires; absent if it never does.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`

	// lastRotation is when the newest version was created.
	// +optional
	LastRotation *metav1.Time `json:"lastRotation,omitempty"`

	// nextRotation is when the next one is due.
	// +optional
	NextRotation *metav1.Time `json:"nextRotation,omitempty"`

	// sourceHash identifies the source that was last stored. It reveals nothing about the value.
	// +optional
	SourceHash string `json:"sourceHash,omitempty"`

	// sourceVersion identifies the versions of the core Secrets that the value was last copied from.
	// +optional
	SourceVersion string `json:"sourceVersion,omitempty"`

	// destination is the core Secret that was last written.
	// +optional
	Destination string `json:"destination,omitempty"`

	// dataMAC is an HMAC of what was last written to the destination, for detecting changes.
	// +optional
	DataMAC string `json:"dataMAC,omitempty"`

	// restartedVersion is the version that the restartTargets were last restarted for; -1 when a restart is due
	// because the value was destroyed and stored again.
	// +optional
	RestartedVersion int64 `json:"restartedVersion,omitempty"`

	// consumers are the workloads of the namespace whose Pods refer to the destination; the first 50 by kind and name.
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Consumers []Consumer `json:"consumers,omitempty"`

	// consumerCount is the number of all consumers.
	// +optional
	ConsumerCount int32 `json:"consumerCount,omitempty"`

	// conditions are Ready, Reconciling, Stalled, Synced, RotationDue, Expiring and KeyStale.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Consumer is a workload whose Pods refer to the destination.
type Consumer struct {
	// kind is Deployment, StatefulSet, DaemonSet or CronJob.
	// +required
	Kind string `json:"kind,omitempty"`

	// name of the workload.
	// +required
	Name string `json:"name,omitempty"`

	// via is how it refers to it: Volume (follows the destination), Environment (read once, when a Pod
	// starts), or Registry (imagePullSecrets).
	// +optional
	Via string `json:"via,omitempty"`

	// version that all its Pods use: for Volume the destination's, for a restarted workload the one that
	// it was restarted for, once its rollout is over. 0 is unknown.
	// +optional
	Version int64 `json:"version,omitempty"`
}

// Secret is a value with versions, stored in the Platform's Vault. It is not the core kind of the same name: its short
// name is vsec, its full one secrets.vault.itechsmart.dev.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=itechsmart;vault,shortName=vsec
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Version",type=integer,JSONPath=`.status.currentVersion`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expiresAt`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Secret struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec SecretSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status SecretStatus `json:"status,omitzero"`
}

// SecretList is a list of Secrets.
// +kubebuilder:object:root=true
type SecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Secret `json:"items"`
}
