// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// PlatformSpec describes the platform of a tenant.
type PlatformSpec struct {
	// backends are the systems in which products store and move data.
	// +optional
	Backends Backends `json:"backends,omitzero"`

	// auth configures how users and programs log in to the products. One login is valid for all of them.
	// +kubebuilder:default={}
	// +optional
	Auth Auth `json:"auth,omitzero"`

	// rateLimit limits the requests of a user, or of an address, to a product.
	// +kubebuilder:default={}
	// +optional
	RateLimit RateLimit `json:"rateLimit,omitzero"`

	// cors lists the web pages that may call the products.
	// +kubebuilder:default={}
	// +optional
	CORS CORS `json:"cors,omitzero"`

	// audit configures the audit log of the products.
	// +kubebuilder:default={}
	// +optional
	Audit Audit `json:"audit,omitzero"`

	// tracing sends traces of the products to a collector.
	// +optional
	Tracing *Tracing `json:"tracing,omitempty"`

	// deletionPolicy controls what happens to the volumes of managed backends, to the resources of operated
	// ones, and to the schema of users in an external one, when the Platform is deleted.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy common.DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Backends has one field per backing system. The Platform has the backends whose fields are set.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.clickhouse) || !has(self.clickhouse.operated)",message="operated is not supported for ClickHouse yet (Altinity's operator is planned): use managed or external",fieldPath=".clickhouse.operated"
// +kubebuilder:validation:XValidation:rule="!has(self.redis) || !has(self.redis.operated)",message="operated is not supported for Redis: use managed or external",fieldPath=".redis.operated"
// +kubebuilder:validation:XValidation:rule="!has(self.objectStorage) || !has(self.objectStorage.managed)",message="managed is not supported for object storage: use external, with the Secret of a store that speaks S3",fieldPath=".objectStorage.managed"
// +kubebuilder:validation:XValidation:rule="!has(self.objectStorage) || !has(self.objectStorage.operated)",message="operated is not supported for object storage: use external, with the Secret of a store that speaks S3",fieldPath=".objectStorage.operated"
type Backends struct {
	// postgresql is the relational database.
	// +optional
	PostgreSQL *Backend `json:"postgresql,omitempty"`

	// kafka is the event log.
	// +optional
	Kafka *Backend `json:"kafka,omitempty"`

	// clickhouse is the analytical database.
	// +optional
	ClickHouse *Backend `json:"clickhouse,omitempty"`

	// redis is the cache.
	// +optional
	Redis *Backend `json:"redis,omitempty"`

	// rabbitmq is the message broker.
	// +optional
	RabbitMQ *Backend `json:"rabbitmq,omitempty"`

	// objectStorage is a bucket with an S3 API, for values that are too large for the database. Only external is supported.
	// +optional
	ObjectStorage *Backend `json:"objectStorage,omitempty"`
}

// Backend is exactly one of managed, external and operated.
// +kubebuilder:validation:XValidation:rule="[has(self.managed), has(self.external), has(self.operated)].filter(x, x).size() == 1",message="exactly one of managed, external and operated must be set"
// +kubebuilder:validation:XValidation:rule="has(self.managed) == has(oldSelf.managed) && has(self.external) == has(oldSelf.external) && has(self.operated) == has(oldSelf.operated)",message="a backend's mode is immutable, for its data would stay behind: remove the backend first, then add it in the new mode"
type Backend struct {
	// managed runs the official image on one node, for development and small sites.
	// +optional
	Managed *ManagedBackend `json:"managed,omitempty"`

	// external uses an existing system.
	// +optional
	External *ExternalBackend `json:"external,omitempty"`

	// operated creates the custom resource of another operator that is installed in the
	// cluster (CloudNativePG, Strimzi, RabbitMQ Cluster Operator), and uses its Secret.
	// +optional
	Operated *OperatedBackend `json:"operated,omitempty"`
}

// ManagedBackend is a single-node StatefulSet.
type ManagedBackend struct {
	// version is the tag of the image, such as "15". Defaults to the version that the operator is tested with.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`
	// +optional
	Version string `json:"version,omitempty"`

	// image replaces the default image, tag included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// storage is the volume for the data.
	// +kubebuilder:default={size: "8Gi", storageClassName: ""}
	// +optional
	Storage Storage `json:"storage,omitzero"`

	// resources of the container. Each backend has a default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// config adds or overrides settings in the configuration file of the
	// system: shared_buffers (PostgreSQL), maxmemory (Redis), log.retention.hours (Kafka), …
	// +kubebuilder:validation:MaxProperties=100
	// +optional
	Config map[string]ConfigValue `json:"config,omitempty"`
}

// ConfigValue is the value of a setting, on a single line.
// +kubebuilder:validation:MaxLength=4096
// +kubebuilder:validation:Pattern=`^[^\r\n]*$`
type ConfigValue string

// Storage is a persistent volume.
// +kubebuilder:validation:XValidation:rule="self.storageClassName == oldSelf.storageClassName",message="storageClassName is immutable",fieldPath=".storageClassName"
// +kubebuilder:validation:XValidation:rule="quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",message="a volume cannot shrink",fieldPath=".size"
type Storage struct {
	// size of the volume. It can grow if the storage class allows it, and never shrink.
	// +kubebuilder:default="8Gi"
	// +optional
	Size resource.Quantity `json:"size,omitzero"`

	// storageClassName of the volume. Defaults to the default class of the cluster.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	StorageClassName string `json:"storageClassName"`
}

// ExternalBackend is an existing system.
type ExternalBackend struct {
	// secretRef names a Secret in the Service Binding format: host, port, username, password, uri,
	// and, where they apply, database, bootstrap-servers, sasl-mechanism, bucket, prefix, region, access-key,
	// secret-key, tls, ca.crt.
	// +required
	SecretRef SecretReference `json:"secretRef,omitzero"`
}

// SecretReference names a Secret.
type SecretReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the Secret. Defaults to the namespace of the Platform. Another one must have a ReferenceGrant.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// OperatedBackend is a cluster that another operator manages.
type OperatedBackend struct {
	// replicas of the cluster.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// version of the system, in the notation of the other operator. Defaults to its default.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Version string `json:"version,omitempty"`

	// storage is the volume of each replica.
	// +kubebuilder:default={size: "8Gi", storageClassName: ""}
	// +optional
	Storage Storage `json:"storage,omitzero"`

	// resources of each replica.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// config adds settings of the system.
	// +kubebuilder:validation:MaxProperties=100
	// +optional
	Config map[string]ConfigValue `json:"config,omitempty"`
}

// PlatformStatus is the observed state of a Platform.
type PlatformStatus struct {
	// observedGeneration is the generation that the status reports on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// ready is the number of backends that are ready, of all: "3/5".
	// +optional
	Ready string `json:"ready,omitempty"`

	// backends has a row per backend.
	// +listType=map
	// +listMapKey=name
	// +optional
	Backends []BackendStatus `json:"backends,omitempty"`

	// conditions are Ready, Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackendStatus is the state of one backend.
type BackendStatus struct {
	// name of the backend: postgresql, kafka, clickhouse, redis, rabbitmq, objectstorage.
	// +required
	Name string `json:"name,omitempty"`

	// mode is managed, external or operated.
	// +optional
	Mode string `json:"mode,omitempty"`

	// ready is true when a client can log in to the backend.
	// +required
	Ready bool `json:"ready"`

	// endpoint is host:port.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// version as the server reports it.
	// +optional
	Version string `json:"version,omitempty"`

	// bindingSecret is the Secret, in the Service Binding format, that products read.
	// +optional
	BindingSecret string `json:"bindingSecret,omitempty"`

	// message says what is missing and what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// Platform provides what a tenant's products run on: backends, identity and keys.
//
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",message="a Platform's name has at most 40 lower-case letters, digits and hyphens and begins with a letter, since the names of Services derive from it"
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=itechsmart
// +kubebuilder:printcolumn:name="Backends",type=string,JSONPath=`.status.ready`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Platform struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec PlatformSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status PlatformStatus `json:"status,omitzero"`
}

// PlatformList is a list of Platforms.
// +kubebuilder:object:root=true
type PlatformList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Platform `json:"items"`
}
