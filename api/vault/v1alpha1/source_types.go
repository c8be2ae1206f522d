// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Source is exactly one source of a value.
// +kubebuilder:validation:XValidation:rule="[has(self.sealed), has(self.valueFrom), has(self.generate), has(self.issue), has(self.external)].filter(x, x).size() == 1",message="exactly one of sealed, valueFrom, generate, issue and external must be set"
type Source struct {
	// sealed is a value that was encrypted to the Vault's public key by `vaultctl seal`. It is bound to
	// the resource's namespace and name, and safe to commit.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1450000
	// +optional
	Sealed string `json:"sealed,omitempty"`

	// valueFrom copies the value from core Secrets of the namespace, and follows their changes.
	// +optional
	ValueFrom *ValueFrom `json:"valueFrom,omitempty"`

	// generate creates a random value, for a Text or an APIKey.
	// +optional
	Generate *Generate `json:"generate,omitempty"`

	// issue creates a key pair and a certificate.
	// +optional
	Issue *Issue `json:"issue,omitempty"`

	// external is a value that is written by REST or vaultctl.
	// +optional
	External *External `json:"external,omitempty"`
}

// ValueFrom is exactly one of secretKeyRef and secretKeyRefs.
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.secretKeyRefs)",message="exactly one of secretKeyRef and secretKeyRefs must be set"
type ValueFrom struct {
	// secretKeyRef is the value's main field: text, file or key.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// secretKeyRefs has one reference per field of the value.
	// +listType=map
	// +listMapKey=field
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	// +optional
	SecretKeyRefs []FieldReference `json:"secretKeyRefs,omitempty"`
}

// SecretKeyReference names a key of a core Secret of the same namespace.
type SecretKeyReference struct {
	// name of the core Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// key within it.
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +required
	Key string `json:"key,omitempty"`
}

// FieldReference is the source of one field of the value.
type FieldReference struct {
	// field of the value: text, file, filename, tls.crt, tls.key, ca.crt, key or id.
	// +kubebuilder:validation:Enum=text;file;filename;tls.crt;tls.key;ca.crt;key;id
	// +required
	Field string `json:"field,omitempty"`

	SecretKeyReference `json:",inline"`
}

// Generate describes a random value.
type Generate struct {
	// length in characters, without the prefix.
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=4096
	// +optional
	Length int32 `json:"length,omitempty"`

	// charset that characters are drawn from.
	// +kubebuilder:default=alphanumeric
	// +kubebuilder:validation:Enum=alphanumeric;alphabetic;numeric;hex;printable
	// +optional
	Charset string `json:"charset,omitempty"`

	// prefix comes before the random part, such as "sk_live_".
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	// +optional
	Prefix string `json:"prefix,omitempty"`
}

// Issue describes a certificate. It is self-signed unless caSecretRef is set.
// +kubebuilder:validation:XValidation:rule="has(self.dnsNames) || has(self.ipAddresses) || has(self.commonName) && has(self.ca) && self.ca",message="dnsNames or ipAddresses must be set; the certificate of a CA may have a commonName instead"
// +kubebuilder:validation:XValidation:rule="(has(self.dnsNames) ? self.dnsNames.size() : 0) + (has(self.ipAddresses) ? self.ipAddresses.size() : 0) <= 100",message="dnsNames and ipAddresses have over 100 entries together"
type Issue struct {
	// commonName of the subject, in printable ASCII.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[ -~]+$`
	// +optional
	CommonName string `json:"commonName,omitempty"`

	// dnsNames that the certificate is valid for; the first label may be "*".
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`
	// +optional
	DNSNames []string `json:"dnsNames,omitempty"`

	// ipAddresses that the certificate is valid for.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.all(a, isIP(a))",message="ipAddresses are IPv4 or IPv6 addresses"
	// +optional
	IPAddresses []string `json:"ipAddresses,omitempty"`

	// ttl is how long the certificate is valid.
	// +kubebuilder:default="2160h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('87600h')",message="ttl is from 5m to 87600h"
	// +optional
	TTL metav1.Duration `json:"ttl,omitzero"`

	// ca lets the certificate sign others.
	// +optional
	CA bool `json:"ca,omitempty"`

	// caSecretRef names the vault Secret of type Certificate, of the same namespace, that signs.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`
}

// SecretReference names a vault Secret of the same namespace.
type SecretReference struct {
	// name of the vault Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`
}

// External is a value that is written by REST or vaultctl.
type External struct {
	// path of the value; spec.path, or the resource's name, by default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`
	// +optional
	Path string `json:"path,omitempty"`
}
