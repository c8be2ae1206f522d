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
	// HS256 signs with a symmetric key that the services share.
	HS256 SigningAlgorithm = "HS256"
	// RS256 signs with a private key. /api/v1/jwks serves the public keys.
	RS256 SigningAlgorithm = "RS256"
)

// Auth configures the authentication of users and programs, for all products of the Platform.
type Auth struct {
	// algorithm that signs tokens. A change needs a rollout. Tokens that are already signed stay valid.
	// +kubebuilder:default=HS256
	// +optional
	Algorithm SigningAlgorithm `json:"algorithm,omitempty"`

	// keyRotation replaces the signing key periodically.
	// +kubebuilder:default={}
	// +optional
	KeyRotation KeyRotation `json:"keyRotation,omitzero"`

	// accessTokenTTL is the lifetime of a token.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="accessTokenTTL must be from 1m to 720h"
	// +optional
	AccessTokenTTL metav1.Duration `json:"accessTokenTTL,omitzero"`

	// refreshTokenTTL is the time in which a token can be renewed without a password.
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('8760h')",message="refreshTokenTTL must be from 1m to 8760h"
	// +optional
	RefreshTokenTTL metav1.Duration `json:"refreshTokenTTL,omitzero"`

	// openRegistration lets everyone register, without any role. Otherwise an administrator creates users.
	// +optional
	OpenRegistration bool `json:"openRegistration,omitempty"`

	// password sets the requirements for new passwords.
	// +kubebuilder:default={}
	// +optional
	Password PasswordPolicy `json:"password,omitzero"`

	// administrator is the first user. Its password is generated once, in the Secret <platform>-administrator.
	// +kubebuilder:default={}
	// +optional
	Administrator Administrator `json:"administrator,omitzero"`

	// clients are programs that log in users by OAuth 2.
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Clients []OAuthClient `json:"clients,omitempty"`

	// serviceAccounts of the cluster that may call with their own tokens. The audience of the tokens must be "itechsmart".
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	ServiceAccounts []ServiceAccountRole `json:"serviceAccounts,omitempty"`

	// issuers are third parties, such as a CI system, whose signed tokens (JWT) are accepted.
	// +listType=map
	// +listMapKey=url
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Issuers []TokenIssuer `json:"issuers,omitempty"`
}

// TokenIssuer signs tokens with asymmetric keys, which OpenID Connect discovery finds.
type TokenIssuer struct {
	// url is the iss claim of the tokens. /.well-known/openid-configuration below it names the keys.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() == 'https' && !self.contains('#') && !self.contains('?')",message="url must begin with https:// and have neither query nor fragment"
	// +required
	URL string `json:"url,omitempty"`

	// audience that the tokens must have.
	// +kubebuilder:default=itechsmart
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Audience string `json:"audience,omitempty"`

	// callers are the programs that may call. The first one whose claims match is used.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +required
	Callers []TokenCaller `json:"callers,omitempty"`
}

// ClaimPattern is the pattern of a claim. A star matches any characters. A single star is not allowed.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:Pattern=`[^*]`
type ClaimPattern string

// TokenCaller is a program that the claims of its token identify.
type TokenCaller struct {
	// name of the caller in AccessPolicies, as a subject of kind Client, and in the audit log.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]{1,64}$`
	// +required
	Name string `json:"name,omitempty"`

	// claims that the token must have, such as sub: repo:acme/shop:*.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +required
	Claims map[string]ClaimPattern `json:"claims,omitempty"`

	// role is viewer, editor or admin, for every product of the Platform. Each includes the ones before it.
	// +kubebuilder:validation:Enum=viewer;editor;admin
	// +required
	Role string `json:"role,omitempty"`
}

// KeyRotation is the schedule for new signing keys. A key is published to every replica before it signs, and the former one
// is kept until the tokens that it signed have expired, so no user is logged out.
type KeyRotation struct {
	// interval between rotations. 0s disables rotation.
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || duration(self) >= duration('1h')",message="interval must be 0s or at least 1h"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// PasswordPolicy sets the requirements for new passwords.
type PasswordPolicy struct {
	// minLength in characters.
	// +kubebuilder:default=8
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=32
	// +optional
	MinLength int32 `json:"minLength,omitempty"`

	// upper requires an upper-case letter.
	// +optional
	Upper bool `json:"upper,omitempty"`

	// lower requires a lower-case letter.
	// +optional
	Lower bool `json:"lower,omitempty"`

	// digit requires a digit.
	// +optional
	Digit bool `json:"digit,omitempty"`

	// punctuation requires a character that is neither a letter nor a digit.
	// +optional
	Punctuation bool `json:"punctuation,omitempty"`
}

// Administrator is the first user.
type Administrator struct {
	// email of the administrator, for logging in. Defaults to admin@<platform>.<namespace>.svc. It is read once, when the
	// Secret is created.
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:Pattern=`^([^@\s]+@[^@\s]+)?$`
	// +optional
	Email string `json:"email,omitempty"`
}

// OAuthClient is a program that logs in users.
type OAuthClient struct {
	// id of the client.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]{1,64}$`
	// +required
	ID string `json:"id,omitempty"`

	// redirectURIs to which users may be redirected.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(u, isURL(u) && url(u).getScheme() != '' && !u.contains('#'))",message="redirectURIs must be absolute URIs without a fragment"
	// +optional
	RedirectURIs []string `json:"redirectURIs,omitempty"`

	// secretRef names the bcrypt hash of the client's secret, as `htpasswd -nBC 12` prints it. A client without a secret is
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

// ServiceAccountRole gives a ServiceAccount a role in every product of the Platform.
type ServiceAccountRole struct {
	// namespace of the ServiceAccount.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Namespace string `json:"namespace,omitempty"`

	// name of the ServiceAccount. * matches all of the namespace.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(\*|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)$`
	// +required
	Name string `json:"name,omitempty"`

	// role is viewer, editor or admin. Each includes the ones before it.
	// +kubebuilder:validation:Enum=viewer;editor;admin
	// +required
	Role string `json:"role,omitempty"`
}

// StoreFailure is the handling of requests while the store of the rate limits is unavailable.
// +kubebuilder:validation:Enum=LimitLocally;Refuse
type StoreFailure string

const (
	// StoreFailureLimitLocally limits per replica.
	StoreFailureLimitLocally StoreFailure = "LimitLocally"
	// StoreFailureRefuse returns 503.
	StoreFailureRefuse StoreFailure = "Refuse"
)

// RateLimit is a token bucket per user, and per address for requests without a token.
type RateLimit struct {
	// requestsPerMinute is the rate at which the bucket refills. 0 disables the limit.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RequestsPerMinute *int32 `json:"requestsPerMinute,omitempty"`

	// burst is the size of the bucket. Defaults to requestsPerMinute.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst int32 `json:"burst,omitempty"`

	// onStoreFailure is the handling of requests while Redis is unavailable. Without the backend redis the limit is per
	// replica.
	// +kubebuilder:default=LimitLocally
	// +optional
	OnStoreFailure StoreFailure `json:"onStoreFailure,omitempty"`
}

// CORS lists the web pages that may call.
type CORS struct {
	// origins of the pages, such as https://console.example.com. Credentials are allowed, so "*" is not.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=270
	// +kubebuilder:validation:items:Pattern=`^https?://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?$`
	// +optional
	Origins []string `json:"origins,omitempty"`

	// maxAge is how long a browser may cache the response to a preflight request.
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

	// samplePercent of the traces that start here. For other requests the caller decides.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	SamplePercent int32 `json:"samplePercent,omitempty"`
}

// Audit configures the audit log.
type Audit struct {
	// retention of events.
	// +kubebuilder:default="2160h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="retention must be at least 1h"
	// +optional
	Retention metav1.Duration `json:"retention,omitzero"`

	// spillSize limits the events that wait on each replica's disk while the database is unavailable. When it is full, requests get 503.
	// +kubebuilder:default="64Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('10Gi')) <= 0",message="spillSize must be from 1Mi to 10Gi"
	// +optional
	SpillSize resource.Quantity `json:"spillSize,omitzero"`
}
