// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceSpec is what the service kinds of all products have in common; each inlines it.
type ServiceSpec struct {
	// platformRef names the Platform that the service runs on: its backends, its identity and its keys.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="platformRef is immutable, for the service's data would stay behind: delete the service, and create one for the other Platform"
	// +required
	PlatformRef PlatformReference `json:"platformRef,omitzero"`

	// replicas of the service. With autoscaling it is not used.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// autoscaling chooses the replicas by the processors' load.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`

	// image replaces the operator's default image, tag included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// resources of the container; a part that is not given keeps its default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// ingress publishes the service through an Ingress.
	// +optional
	Ingress *ServiceIngress `json:"ingress,omitempty"`

	// httpRoute publishes the service through Gateways (gateway.networking.k8s.io), whose CRDs must be installed.
	// +optional
	HTTPRoute *ServiceHTTPRoute `json:"httpRoute,omitempty"`

	// serviceMonitor tells the Prometheus operator to collect the metrics of the service and of its workers, where its CRDs are
	// installed.
	// +optional
	ServiceMonitor *ServiceMonitor `json:"serviceMonitor,omitempty"`

	// allowFrom are who may connect beside the Pods of the namespace and the operator: the Pods of the
	// ingress controller or of the Gateway.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	AllowFrom []networkingv1.NetworkPolicyPeer `json:"allowFrom,omitempty"`

	// trustedProxies are the CIDRs whose X-Forwarded-For is believed.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="trustedProxies must be CIDRs, such as 10.0.0.0/8"
	// +optional
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// logLevel is the least level that is logged.
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=debug;info;warn;error
	// +optional
	LogLevel string `json:"logLevel,omitempty"`

	// pprof serves Go's profiles on the metrics' port.
	// +optional
	Pprof bool `json:"pprof,omitempty"`

	// deletionPolicy says what becomes of the service's schema, its role, its queue and the Secrets that were made for it when
	// the service is deleted.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Autoscaling is a HorizontalPodAutoscaler.
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas must not exceed maxReplicas",fieldPath=".minReplicas"
type Autoscaling struct {
	// minReplicas that always run.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas under load.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +required
	MaxReplicas int32 `json:"maxReplicas,omitempty"`

	// cpuUtilization that is aimed at, in percent of the processors requested.
	// +kubebuilder:default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	CPUUtilization int32 `json:"cpuUtilization,omitempty"`
}

// ServiceIngress is an Ingress.
type ServiceIngress struct {
	// host that the service answers at.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +required
	Host string `json:"host,omitempty"`

	// className is the cluster's default IngressClass when empty.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	ClassName string `json:"className,omitempty"`

	// tlsSecretName is the Secret with the host's certificate; without it the Ingress has no TLS of its own.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	TLSSecretName string `json:"tlsSecretName,omitempty"`

	// annotations for the ingress controller.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ServiceHTTPRoute is an HTTPRoute of the Gateway API.
type ServiceHTTPRoute struct {
	// parentRefs are the Gateways.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +required
	ParentRefs []GatewayReference `json:"parentRefs,omitempty"`

	// hostnames that the service answers at; those of the Gateways' listeners when empty.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`
}

// GatewayReference names a Gateway, or one listener of it. The Gateway itself says which namespaces' routes it takes.
type GatewayReference struct {
	// name of the Gateway.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the Gateway; the service's own by default.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// sectionName is the listener's name; all listeners when empty.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}

// ServiceMonitor is a ServiceMonitor of the Prometheus operator.
type ServiceMonitor struct {
	// interval between collections.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="interval must be at least 1s"
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`

	// labels by which a Prometheus selects its monitors.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// WorkerSpec is how the workers beside a service run.
type WorkerSpec struct {
	// replicas of the worker.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// image replaces the operator's default image, tag included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// resources of the container; a part that is not given keeps its default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ServiceStatus is the state of one product service.
type ServiceStatus struct {
	// observedGeneration is the generation that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// replicas that serve the current configuration.
	// +optional
	Replicas int32 `json:"replicas"`

	// url of the service inside of the cluster.
	// +optional
	URL string `json:"url,omitempty"`

	// version is the tag of the image that runs.
	// +optional
	Version string `json:"version,omitempty"`

	// selector finds the service's Pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// conditions are Ready, Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
