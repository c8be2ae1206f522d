// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// PipelineSpec describes a stream of records from sources through transforms to sinks.
//
// +kubebuilder:validation:XValidation:rule="self.consumerGroup == oldSelf.consumerGroup",message="consumerGroup is immutable: another group would read everything again",fieldPath=".consumerGroup"
// +kubebuilder:validation:XValidation:rule="!has(self.sinks) || self.sinks.all(s, !has(s.onError) || s.onError != 'DeadLetter') || has(self.deadLetter)",message="onError: DeadLetter needs spec.deadLetter",fieldPath=".deadLetter"
// +kubebuilder:validation:XValidation:rule="!has(self.transforms) || self.transforms.all(t, !has(t.onError) || t.onError != 'DeadLetter') || has(self.deadLetter)",message="onError: DeadLetter needs spec.deadLetter",fieldPath=".deadLetter"
type PipelineSpec struct {
	// paused stops the workers after they have written what they have read. The position in every source is kept.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// replicas is the number of workers. A source that cannot be shared limits it to one.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// delivery is the guarantee for records in flight when a worker dies: AtLeastOnce
	// acknowledges a source after the sinks have acknowledged, AtMostOnce before.
	// +kubebuilder:default=AtLeastOnce
	// +optional
	Delivery Delivery `json:"delivery,omitempty"`

	// consumerGroup is the name under which sources store their position. Defaults to
	// "itechsmart.<namespace>.<name>".
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=249
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9._-]*$`
	// +optional
	ConsumerGroup string `json:"consumerGroup"`

	// batching limits the size of a write.
	// +kubebuilder:default={}
	// +optional
	Batching Batching `json:"batching,omitzero"`

	// maxRecordSize is the largest record that is processed. A larger one goes to the dead-letter
	// topic, or stops the Pipeline if there is none.
	// +kubebuilder:default="16Mi"
	// +optional
	MaxRecordSize resource.Quantity `json:"maxRecordSize,omitzero"`

	// platformRef names the Platform whose backends serve sources and sinks without a connectionRef.
	// The default is the only Platform of the namespace.
	// +optional
	PlatformRef *PlatformReference `json:"platformRef,omitempty"`

	// sources are read concurrently.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +required
	Sources []Source `json:"sources,omitempty"`

	// transforms run on every record, in this order.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Transforms []Transform `json:"transforms,omitempty"`

	// sinks each get every record, unless a `route` transform selects some of them.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +required
	Sinks []Sink `json:"sinks,omitempty"`

	// deadLetter is the Kafka topic for records that cannot be processed, with onError: DeadLetter.
	// +optional
	DeadLetter *DeadLetter `json:"deadLetter,omitempty"`

	// tests run on every change before it rolls out. If one fails, the running generation stays in place.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Tests []Test `json:"tests,omitempty"`

	// deletionPolicy controls what happens to the topics and tables that this Pipeline created, when it
	// is deleted. Objects that it did not create are never removed.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy common.DeletionPolicy `json:"deletionPolicy,omitempty"`

	// worker configures the worker Pods.
	// +optional
	Worker Worker `json:"worker,omitzero"`
}

// Delivery is a delivery guarantee.
// +kubebuilder:validation:Enum=AtLeastOnce;AtMostOnce
type Delivery string

// OnError is the handling of a record that cannot be processed.
// +kubebuilder:validation:Enum=Fail;Drop;DeadLetter
type OnError string

// Batching limits a batch: it is written when it reaches the first limit.
type Batching struct {
	// count of records.
	// +kubebuilder:default=5000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Count int32 `json:"count,omitempty"`

	// bytes of keys and values.
	// +kubebuilder:default="4Mi"
	// +optional
	Bytes resource.Quantity `json:"bytes,omitzero"`

	// period since the batch's first record, such as 200ms.
	// +kubebuilder:default="200ms"
	// +optional
	Period metav1.Duration `json:"period,omitzero"`
}

// PlatformReference names a Platform.
type PlatformReference struct {
	// name of the Platform.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the Platform. Defaults to the namespace of the Pipeline. Another one must have a ReferenceGrant.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// Source is where records are read from.
type Source struct {
	// name of the source, unique in the Pipeline.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// type of the connector: kafka, postgres, http, s3, file, generate, …
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Type string `json:"type,omitempty"`

	// connectionRef names the address and credentials. Defaults to the Platform's backend of the connector's type.
	// +optional
	ConnectionRef *common.ConnectionReference `json:"connectionRef,omitempty"`

	// config of the connector, validated by its JSON Schema.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Config *apiextensionsv1.JSON `json:"config,omitempty"`

	// codec decodes bytes into records. Each connector has a default.
	// +optional
	Codec *Codec `json:"codec,omitempty"`
}

// Codec is a format of records.
type Codec struct {
	// format is json, raw, csv, parquet, …
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Format string `json:"format,omitempty"`

	// options of the format.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Options *apiextensionsv1.JSON `json:"options,omitempty"`
}

// Transform is one step that runs on every record.
type Transform struct {
	// name of the step, unique in the Pipeline.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// type of the transform: filter, map, set, rename, cast, route, …
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Type string `json:"type,omitempty"`

	// when is a CEL expression over this, key, headers and timestamp. The step applies to records for which it is
	// true; a filter keeps them.
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	When string `json:"when,omitempty"`

	// config of the transform, validated by its JSON Schema.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Config *apiextensionsv1.JSON `json:"config,omitempty"`

	// onError is the handling of a record that the step cannot process. Defaults to DeadLetter if the
	// Pipeline has a deadLetter, else Fail.
	// +optional
	OnError OnError `json:"onError,omitempty"`
}

// Sink is where records are written to.
type Sink struct {
	// name of the sink, unique in the Pipeline.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// type of the connector: kafka, clickhouse, postgres, http, s3, file, drop, …
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Type string `json:"type,omitempty"`

	// connectionRef names the address and credentials. Defaults to the Platform's backend of the connector's type.
	// +optional
	ConnectionRef *common.ConnectionReference `json:"connectionRef,omitempty"`

	// config of the connector, validated by its JSON Schema.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Config *apiextensionsv1.JSON `json:"config,omitempty"`

	// codec encodes records into bytes. Each connector has a default.
	// +optional
	Codec *Codec `json:"codec,omitempty"`

	// retry is the back-off of writes while the destination is unavailable.
	// +kubebuilder:default={}
	// +optional
	Retry Retry `json:"retry,omitzero"`

	// onError is the handling of a record that the destination rejects permanently. Defaults to DeadLetter if
	// the Pipeline has a deadLetter, else Fail.
	// +optional
	OnError OnError `json:"onError,omitempty"`
}

// Retry is exponential back-off with jitter, without a limit of attempts.
type Retry struct {
	// initial delay.
	// +kubebuilder:default="250ms"
	// +optional
	Initial metav1.Duration `json:"initial,omitzero"`

	// max delay.
	// +kubebuilder:default="30s"
	// +optional
	Max metav1.Duration `json:"max,omitzero"`
}

// DeadLetter is a Kafka topic for records that cannot be processed.
type DeadLetter struct {
	// topic that the records are written to, with headers that give the reason.
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9._-]{1,249}$`
	// +kubebuilder:validation:XValidation:rule="self != '.' && self != '..'",message="a topic cannot be named . or .."
	// +required
	Topic string `json:"topic,omitempty"`

	// partitions of the topic when it is created.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Partitions int32 `json:"partitions,omitempty"`

	// connectionRef names the Kafka cluster. Defaults to the Platform's.
	// +optional
	ConnectionRef *common.ConnectionReference `json:"connectionRef,omitempty"`
}

// Test is an example that gates a rollout.
type Test struct {
	// name of the test.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`

	// input are the values of the records to run through the transforms.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +required
	Input []apiextensionsv1.JSON `json:"input,omitempty"`

	// expect are the values that the sinks must get, in order.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Expect []apiextensionsv1.JSON `json:"expect,omitempty"`

	// expectErrors is the number of records that must fail.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ExpectErrors int32 `json:"expectErrors,omitempty"`
}

// Worker configures the worker Pods.
type Worker struct {
	// resources of the worker's container.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// volumeClaims are PersistentVolumeClaims of the namespace, mounted at /data/<name>, for the file connectors.
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	VolumeClaims []string `json:"volumeClaims,omitempty"`
}

// Pipeline streams records from sources through transforms to sinks.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:categories=itechsmart;dataflow,shortName=pipe
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="In/s",type=integer,JSONPath=`.status.throughput.in`
// +kubebuilder:printcolumn:name="Out/s",type=integer,JSONPath=`.status.throughput.out`
// +kubebuilder:printcolumn:name="Lag",type=integer,JSONPath=`.status.lag`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 52",message="a Pipeline's name has at most 52 characters, since its workers' names derive from it"
type Pipeline struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec PipelineSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status PipelineStatus `json:"status,omitzero"`
}

// PipelineList is a list of Pipelines.
// +kubebuilder:object:root=true
type PipelineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Pipeline `json:"items"`
}
