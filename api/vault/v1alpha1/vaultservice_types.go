// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// VaultServiceSpec configures the Vault of a Platform.
// +kubebuilder:validation:XValidation:rule="(has(self.unseal) && has(self.unseal.shamir)) == (has(oldSelf.unseal) && has(oldSelf.unseal.shamir)) && (has(self.unseal) && has(self.unseal.pkcs11)) == (has(oldSelf.unseal) && has(oldSelf.unseal.pkcs11))",message="unseal cannot change between a passphrase, Shamir shares and PKCS #11: the root key was made with the former",fieldPath=".unseal"
type VaultServiceSpec struct {
	common.ServiceSpec `json:",inline"`

	// unseal is the source of the root key, which encrypts all other keys. Defaults to a passphrase that the operator generates
	// once, in the Secret <platform>-vault-unseal. Without it no secret can be read: keep a copy elsewhere.
	// +optional
	Unseal *VaultUnseal `json:"unseal,omitempty"`

	// maxFileSize limits secrets of type File. Files over 1Mi are streamed.
	// +kubebuilder:default="64Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('1Gi')) <= 0",message="maxFileSize must be from 1Mi to 1Gi"
	// +optional
	MaxFileSize resource.Quantity `json:"maxFileSize,omitzero"`
}

// VaultUnseal is exactly one of secretRef, shamir and pkcs11.
// +kubebuilder:validation:XValidation:rule="[has(self.secretRef), has(self.shamir), has(self.pkcs11)].filter(x, x).size() == 1",message="exactly one of secretRef, shamir and pkcs11 must be set"
type VaultUnseal struct {
	// secretRef names the passphrase in a Secret of the same namespace.
	// +optional
	SecretRef *PassphraseReference `json:"secretRef,omitempty"`

	// shamir splits the root key into shares, which people submit over REST after every start.
	// +optional
	Shamir *VaultShamir `json:"shamir,omitempty"`

	// pkcs11 unseals with a key in an HSM. The key wraps a random passphrase, which is stored in
	// the database. It needs an image that is built for it, see docs/pkcs11.md.
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

	// keyLabel finds the key: an AES key that encrypts and decrypts by AES-GCM, or an RSA key pair for OAEP. There must be
	// exactly one key with the label.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	KeyLabel string `json:"keyLabel,omitempty"`

	// pinSecretRef names the PIN of the token's user in a Secret of the same namespace.
	// +required
	PINSecretRef PINReference `json:"pinSecretRef,omitzero"`
}

// PINReference names a PIN in a Secret of the same namespace.
type PINReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// key of the Secret.
	// +kubebuilder:default=pin
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +optional
	Key string `json:"key,omitempty"`
}

// PassphraseReference names a passphrase in a Secret of the same namespace.
type PassphraseReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
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

	// threshold is the number of shares needed to unseal.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	// +optional
	Threshold int32 `json:"threshold,omitempty"`
}

// VaultService runs Vault on a Platform.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:categories=itechsmart
// +kubebuilder:printcolumn:name="Platform",type=string,JSONPath=`.spec.platformRef.name`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VaultService struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's name, namespace, labels and annotations.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state.
	// +required
	Spec VaultServiceSpec `json:"spec,omitzero"`

	// status is the observed state. observedGeneration is -1 before the first pass.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status common.ServiceStatus `json:"status,omitzero"`
}

// VaultServiceList is a list of VaultServices.
// +kubebuilder:object:root=true
type VaultServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []VaultService `json:"items"`
}
