// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Products has one field per product service; a field that is absent means that the Platform does not run it.
type Products struct {
	// vault keeps secrets, versioned and encrypted. It needs the backend postgresql; redis, when there is one, lets
	// its replicas share their rate limits.
	// +optional
	Vault *VaultProduct `json:"vault,omitempty"`

	// workflow runs Workflows. It needs the backends postgresql and rabbitmq; objectStorage, when there is one, takes
	// large payloads.
	// +optional
	Workflow *WorkflowProduct `json:"workflow,omitempty"`
}

// WorkflowProduct is how Workflow runs.
type WorkflowProduct struct {
	ProductSpec `json:",inline"`

	// worker is how the steps' workers run.
	// +kubebuilder:default={}
	// +optional
	Worker WorkflowWorker `json:"worker,omitzero"`

	// maxOutputBytes bounds the output of one step, and, up to 8 MiB, the inputs of a run. With the backend objectStorage
	// it may be up to 64 MiB, else up to 8 MiB.
	// +kubebuilder:default=262144
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	MaxOutputBytes int32 `json:"maxOutputBytes,omitempty"`
}

// WorkflowWorker is how the steps' workers run.
type WorkflowWorker struct {
	// replicas of the worker.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// slots is how many steps a worker runs at a time.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Slots int32 `json:"slots,omitempty"`

	// image replaces the operator's default image, tag included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// resources of the container; a part that is not given keeps its default.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// VaultProduct is how Vault runs.
// +kubebuilder:validation:XValidation:rule="(has(self.unseal) && has(self.unseal.shamir)) == (has(oldSelf.unseal) && has(oldSelf.unseal.shamir)) && (has(self.unseal) && has(self.unseal.pkcs11)) == (has(oldSelf.unseal) && has(oldSelf.unseal.pkcs11))",message="unseal cannot change between a passphrase, Shamir shares and PKCS #11: the root key was made with the former",fieldPath=".unseal"
type VaultProduct struct {
	ProductSpec `json:",inline"`

	// unseal is where the key comes from that all others are under; by default a passphrase that the operator makes
	// once and keeps in the Secret <platform>-vault-unseal. Without it no secret can be read: keep a copy elsewhere.
	// +optional
	Unseal *VaultUnseal `json:"unseal,omitempty"`

	// maxFileSize bounds a secret of type File, which comes and goes as a stream when it has over 1Mi.
	// +kubebuilder:default="64Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('1Gi')) <= 0",message="maxFileSize must be from 1Mi to 1Gi"
	// +optional
	MaxFileSize resource.Quantity `json:"maxFileSize,omitzero"`
}

// VaultUnseal is exactly one of secretRef, shamir and pkcs11.
// +kubebuilder:validation:XValidation:rule="[has(self.secretRef), has(self.shamir), has(self.pkcs11)].filter(x, x).size() == 1",message="exactly one of secretRef, shamir and pkcs11 must be set"
type VaultUnseal struct {
	// secretRef names the passphrase in a Secret of the Platform's namespace.
	// +optional
	SecretRef *SecretKeyReference `json:"secretRef,omitempty"`

	// shamir splits the root key into shares, which people hand in over REST after every start.
	// +optional
	Shamir *VaultShamir `json:"shamir,omitempty"`

	// pkcs11 lets a key in an HSM unseal: the operator's passphrase is replaced by a random one, which that key wraps and
	// the database keeps. It needs an image that was built for it, see docs/pkcs11.md.
	// +optional
	PKCS11 *VaultPKCS11 `json:"pkcs11,omitempty"`
}

// VaultPKCS11 is one key of a PKCS #11 token.
type VaultPKCS11 struct {
	// module is the path of the HSM's PKCS #11 library in the image.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/') && !self.contains('..')",message="module must be an absolute path without .."
	// +required
	Module string `json:"module,omitempty"`

	// tokenLabel finds the token.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +required
	TokenLabel string `json:"tokenLabel,omitempty"`

	// keyLabel finds the key: an AES key that encrypts and decrypts by AES-GCM, or an RSA key pair for OAEP. There must be one
	// key of the label.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	KeyLabel string `json:"keyLabel,omitempty"`

	// pinSecretRef names the PIN of the token's user in a Secret of the Platform's namespace.
	// +required
	PINSecretRef PINReference `json:"pinSecretRef,omitzero"`
}

// PINReference names a PIN in a Secret of the same namespace.
type PINReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// key of the Secret.
	// +kubebuilder:default=pin
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +optional
	Key string `json:"key,omitempty"`
}

// SecretKeyReference names one key of a Secret of the same namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// key of the Secret.
	// +kubebuilder:default=passphrase
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +optional
	Key string `json:"key,omitempty"`
}

// VaultShamir is Shamir's secret sharing.
// +kubebuilder:validation:XValidation:rule="self.threshold <= self.shares",message="threshold must not exceed shares",fieldPath=".threshold"
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="shares and threshold are immutable: the root key was split into them"
type VaultShamir struct {
	// shares that the root key is split into.
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	// +optional
	Shares int32 `json:"shares,omitempty"`

	// threshold is how many shares unseal.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	// +optional
	Threshold int32 `json:"threshold,omitempty"`
}

// ProductSpec is what all product services have in common.
type ProductSpec struct {
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
	Ingress *ProductIngress `json:"ingress,omitempty"`

	// httpRoute publishes the service through Gateways (gateway.networking.k8s.io), whose CRDs must be installed.
	// +optional
	HTTPRoute *ProductHTTPRoute `json:"httpRoute,omitempty"`

	// serviceMonitor tells the Prometheus operator to collect the metrics of the service and of its workers, where its CRDs are
	// installed.
	// +optional
	ServiceMonitor *ProductServiceMonitor `json:"serviceMonitor,omitempty"`

	// allowFrom are who may connect beside the Pods of the Platform's namespace and the operator: the Pods of the
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

// ProductIngress is an Ingress.
type ProductIngress struct {
	// host that the service answers at.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +required
	Host string `json:"host,omitempty"`

	// className is the cluster's default IngressClass when empty.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ClassName string `json:"className,omitempty"`

	// tlsSecretName is the Secret with the host's certificate; without it the Ingress has no TLS of its own.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	TLSSecretName string `json:"tlsSecretName,omitempty"`

	// annotations for the ingress controller.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ProductHTTPRoute is an HTTPRoute of the Gateway API.
type ProductHTTPRoute struct {
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
	// +required
	Name string `json:"name,omitempty"`

	// namespace of the Gateway; the Platform's own by default.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// sectionName is the listener's name; all listeners when empty.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}

// ProductServiceMonitor is a ServiceMonitor of the Prometheus operator.
type ProductServiceMonitor struct {
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

// ProductStatus is the state of one product service.
type ProductStatus struct {
	// name of the product, as in spec.products.
	// +required
	Name string `json:"name,omitempty"`

	// ready is true when every replica serves the current configuration.
	// +required
	Ready bool `json:"ready"`

	// replicas that serve the current configuration.
	// +optional
	Replicas int32 `json:"replicas"`

	// url of the service inside of the cluster.
	// +optional
	URL string `json:"url,omitempty"`

	// version is the tag of the image that runs.
	// +optional
	Version string `json:"version,omitempty"`

	// message says what is missing and what to do.
	// +optional
	Message string `json:"message,omitempty"`
}
