// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SigningAlgorithm of tokens.
// +kubebuilder:validation:Enum=HS256;RS256
type SigningAlgorithm string

const (
	// HS256 signs with a key that the product services share.
	HS256 SigningAlgorithm = "HS256"
	// RS256 signs with a private key; everybody verifies with what /api/v1/jwks serves.
	RS256 SigningAlgorithm = "RS256"
)

// Auth is how users and programs prove who they are, on all products of the Platform alike.
type Auth struct {
	// algorithm that tokens are signed with. A change takes a rollout; tokens that were signed before stay valid.
	// +kubebuilder:default=HS256
	// +optional
	Algorithm SigningAlgorithm `json:"algorithm,omitempty"`

	// keyRotation replaces the signing key now and then.
	// +kubebuilder:default={}
	// +optional
	KeyRotation KeyRotation `json:"keyRotation,omitzero"`

	// accessTokenTTL is how long a token is valid.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="accessTokenTTL must be from 1m to 720h"
	// +optional
	AccessTokenTTL metav1.Duration `json:"accessTokenTTL,omitzero"`

	// refreshTokenTTL is how long a token can be renewed without a password.
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('8760h')",message="refreshTokenTTL must be from 1m to 8760h"
	// +optional
	RefreshTokenTTL metav1.Duration `json:"refreshTokenTTL,omitzero"`

	// openRegistration lets anybody who reaches the service register, without rights; otherwise an administrator makes users.
	// +optional
	OpenRegistration bool `json:"openRegistration,omitempty"`

	// password is what a new password must have.
	// +kubebuilder:default={}
	// +optional
	Password PasswordPolicy `json:"password,omitzero"`

	// administrator is the first user. Its password is made once, in the Secret <platform>-administrator.
	// +kubebuilder:default={}
	// +optional
	Administrator Administrator `json:"administrator,omitzero"`

	// clients are programs that log users in by OAuth 2.
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Clients []OAuthClient `json:"clients,omitempty"`

	// serviceAccounts of the cluster that may call with their own tokens, whose audience must be "itechsmart".
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	ServiceAccounts []ServiceAccountRole `json:"serviceAccounts,omitempty"`

	// issuers are others whose signed tokens (JWT) programs may call with, such as a CI system's.
	// +listType=map
	// +listMapKey=url
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Issuers []TokenIssuer `json:"issuers,omitempty"`
}

// TokenIssuer signs tokens with asymmetric keys, which are found by OpenID Connect discovery.
type TokenIssuer struct {
	// url is the tokens' iss; /.well-known/openid-configuration below it names the keys.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() == 'https' && !self.contains('#') && !self.contains('?')",message="url must begin with https:// and have neither query nor fragment"
	// +required
	URL string `json:"url,omitempty"`

	// audience that the tokens must be for.
	// +kubebuilder:default=itechsmart
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Audience string `json:"audience,omitempty"`

	// callers are who may call; the first whose claims fit counts.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +required
	Callers []TokenCaller `json:"callers,omitempty"`
}

// ClaimPattern is what a claim's text must be. A star is any run of characters, and cannot stand alone.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:Pattern=`[^*]`
type ClaimPattern string

// TokenCaller is a program that is known by what its token says of it.
type TokenCaller struct {
	// name of the caller in AccessPolicies, whose subject has the kind Client, and in the audit log.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]{1,64}$`
	// +required
	Name string `json:"name,omitempty"`

	// claims that the token must have, with these texts, such as sub: repo:acme/shop:*.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +required
	Claims map[string]ClaimPattern `json:"claims,omitempty"`

	// role is viewer, editor or admin, on every product of the Platform; each includes those before it.
	// +kubebuilder:validation:Enum=viewer;editor;admin
	// +required
	Role string `json:"role,omitempty"`
}

// KeyRotation is when a new signing key takes over. It is published to every replica before it signs, and the former one
// stays until the tokens that it signed have expired: nobody is logged out.
type KeyRotation struct {
	// interval after which a new key signs; 0s: never.
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || duration(self) >= duration('1h')",message="interval must be 0s or at least 1h"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// PasswordPolicy is what a new password must have.
type PasswordPolicy struct {
	// minLength in characters.
	// +kubebuilder:default=8
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=32
	// +optional
	MinLength int32 `json:"minLength,omitempty"`

	// upper demands an upper-case letter.
	// +optional
	Upper bool `json:"upper,omitempty"`

	// lower demands a lower-case letter.
	// +optional
	Lower bool `json:"lower,omitempty"`

	// digit demands a digit.
	// +optional
	Digit bool `json:"digit,omitempty"`

	// punctuation demands a character that is neither letter nor digit.
	// +optional
	Punctuation bool `json:"punctuation,omitempty"`
}

// Administrator is the first user.
type Administrator struct {
	// email that the administrator logs in with; admin@<platform>.<namespace>.svc when empty. It is read once, when the
	// Secret is made.
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:Pattern=`^([^@\s]+@[^@\s]+)?$`
	// +optional
	Email string `json:"email,omitempty"`
}

// OAuthClient is a program that logs users in.
type OAuthClient struct {
	// id of the client.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]{1,64}$`
	// +required
	ID string `json:"id,omitempty"`

	// redirectURIs that a user may be sent back to.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(u, isURL(u) && url(u).getScheme() != '' && !u.contains('#'))",message="redirectURIs must be absolute URIs without a fragment"
	// +optional
	RedirectURIs []string `json:"redirectURIs,omitempty"`

	// secretRef names the bcrypt hash of the client's secret, as `htpasswd -nBC 12` makes it. Without one the client is
	// public and must use PKCE.
	// +optional
	SecretRef *SecretHashReference `json:"secretRef,omitempty"`
}

// SecretHashReference names one key of a Secret of the same namespace.
type SecretHashReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// key of the Secret.
	// +kubebuilder:default=secret-hash
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +optional
	Key string `json:"key,omitempty"`
}

// ServiceAccountRole gives a ServiceAccount of the cluster a role on every product of the Platform.
type ServiceAccountRole struct {
	// namespace of the ServiceAccount.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Namespace string `json:"namespace,omitempty"`

	// name of the ServiceAccount; * is every one of the namespace.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(\*|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)$`
	// +required
	Name string `json:"name,omitempty"`

	// role is viewer, editor or admin; each includes those before it.
	// +kubebuilder:validation:Enum=viewer;editor;admin
	// +required
	Role string `json:"role,omitempty"`
}

// StoreFailure is what becomes of a request when the store of the rate limits does not answer.
// +kubebuilder:validation:Enum=LimitLocally;Refuse
type StoreFailure string

const (
	// StoreFailureLimitLocally lets every replica count for itself.
	StoreFailureLimitLocally StoreFailure = "LimitLocally"
	// StoreFailureRefuse answers 503.
	StoreFailureRefuse StoreFailure = "Refuse"
)

// RateLimit is a token bucket per user, and per address for who has no token.
type RateLimit struct {
	// requestsPerMinute that refill the bucket; 0: no limit.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RequestsPerMinute *int32 `json:"requestsPerMinute,omitempty"`

	// burst is the bucket's size; requestsPerMinute when 0.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst int32 `json:"burst,omitempty"`

	// onStoreFailure is what becomes of a request when Redis does not answer. Without the backend redis every replica
	// counts for itself.
	// +kubebuilder:default=LimitLocally
	// +optional
	OnStoreFailure StoreFailure `json:"onStoreFailure,omitempty"`
}

// CORS is which web pages may call.
type CORS struct {
	// origins of the pages, such as https://console.example.com. Credentials are allowed, and so "*" is not.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=270
	// +kubebuilder:validation:items:Pattern=`^https?://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?$`
	// +optional
	Origins []string `json:"origins,omitempty"`

	// maxAge is how long a browser may remember the answer to a preflight request.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="maxAge must be from 0s to 24h"
	// +optional
	MaxAge metav1.Duration `json:"maxAge,omitzero"`
}

// Tracing sends spans by OTLP over HTTP (OpenTelemetry).
type Tracing struct {
	// endpoint of the collector, such as http://collector.observability.svc:4318; the path /v1/traces is added.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && !self.contains('?') && !self.contains('#') && !self.contains('@')",message="endpoint must begin with http:// or https:// and have neither query, fragment nor user"
	// +required
	Endpoint string `json:"endpoint,omitempty"`

	// samplePercent of the requests that begin here; whoever calls with a trace has decided already.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	SamplePercent int32 `json:"samplePercent,omitempty"`
}

// Audit is the record of who did what.
type Audit struct {
	// retention is how long events stay.
	// +kubebuilder:default="2160h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="retention must be at least 1h"
	// +optional
	Retention metav1.Duration `json:"retention,omitzero"`

	// spillSize is how much of each replica's disk may wait for the database. When it is full, requests get 503.
	// +kubebuilder:default="64Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('10Gi')) <= 0",message="spillSize must be from 1Mi to 10Gi"
	// +optional
	SpillSize resource.Quantity `json:"spillSize,omitzero"`
}
