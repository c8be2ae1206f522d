// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceSpec is the part that the service kinds of all products share; each inlines it.
type ServiceSpec struct {
	// platformRef names the Platform that the service runs on: its backends, its identity and its keys.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="platformRef is immutable, for the service's data would stay behind: delete the service, and create one for the other Platform"
	// +required
	PlatformRef PlatformReference `json:"platformRef,omitzero"`

	// replicas of the service. Ignored with autoscaling.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// autoscaling sets the number of replicas by CPU load.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`

	// image replaces the operator's default image, tag included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// resources of the container. A value that is not set keeps its default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// ingress publishes the service through an Ingress.
	// +optional
	Ingress *ServiceIngress `json:"ingress,omitempty"`

	// httpRoute publishes the service through Gateways (gateway.networking.k8s.io), whose CRDs must be installed.
	// +optional
	HTTPRoute *ServiceHTTPRoute `json:"httpRoute,omitempty"`

	// serviceMonitor makes the Prometheus operator collect the metrics of the service and its workers. Its CRDs must be
	// installed.
	// +optional
	ServiceMonitor *ServiceMonitor `json:"serviceMonitor,omitempty"`

	// allowFrom lists who may connect in addition to the Pods of the namespace and the operator, such as the Pods of the
	// ingress controller or of the Gateway.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	AllowFrom []networkingv1.NetworkPolicyPeer `json:"allowFrom,omitempty"`

	// trustedProxies are the CIDRs of proxies whose X-Forwarded-For header is trusted.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="trustedProxies must be CIDRs, such as 10.0.0.0/8"
	// +optional
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// logLevel is the lowest level that is logged.
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=debug;info;warn;error
	// +optional
	LogLevel string `json:"logLevel,omitempty"`

	// pprof serves Go profiles on the metrics port.
	// +optional
	Pprof bool `json:"pprof,omitempty"`

	// deletionPolicy controls what happens to the service's schema, role, queue and generated Secrets when the service is
	// deleted.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Autoscaling is a HorizontalPodAutoscaler.
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas must not exceed maxReplicas",fieldPath=".minReplicas"
type Autoscaling struct {
	// minReplicas is the lower limit.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the upper limit.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +required
	MaxReplicas int32 `json:"maxReplicas,omitempty"`

	// cpuUtilization is the target, in percent of the requested CPU.
	// +kubebuilder:default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	CPUUtilization int32 `json:"cpuUtilization,omitempty"`
}

// ServiceIngress is an Ingress.
type ServiceIngress struct {
	// host of the service.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +required
	Host string `json:"host,omitempty"`

	// className of the Ingress. Defaults to the default IngressClass of the cluster.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	ClassName string `json:"className,omitempty"`

	// tlsSecretName is the Secret with the certificate of the host. Without it the Ingress has no TLS section.
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

	// hostnames of the service. Defaults to those of the listeners.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`
}

// GatewayReference names a Gateway, or one of its listeners. The Gateway decides which namespaces may attach routes.
type GatewayReference struct {
	// name of the Gateway.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the Gateway. Defaults to the namespace of the service.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower-case letters, digits and '-'"
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// sectionName is the name of a listener. Defaults to all listeners.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}

// ServiceMonitor is a ServiceMonitor of the Prometheus operator.
type ServiceMonitor struct {
	// interval between scrapes.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="interval must be at least 1s"
	// +optional
	Interval metav1.Duration `json:"interval,omitzero"`

	// labels by which a Prometheus selects the monitor.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// WorkerSpec configures the workers of a service.
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

	// resources of the container. A value that is not set keeps its default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ServiceStatus is the state of one product service.
type ServiceStatus struct {
	// observedGeneration is the generation that the status reports on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// replicas that serve the current configuration.
	// +optional
	Replicas int32 `json:"replicas"`

	// url of the service inside the cluster.
	// +optional
	URL string `json:"url,omitempty"`

	// version is the tag of the running image.
	// +optional
	Version string `json:"version,omitempty"`

	// selector of the service's Pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// conditions are Ready, Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
