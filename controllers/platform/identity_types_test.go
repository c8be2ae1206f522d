// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"testing"
	"time"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

var sharedSchema = ctrltest.Schema{Kind: v1alpha1.GroupVersion.WithKind("Platform"), Base: "backends: {postgresql: {managed: {}}}"}

// Each rule of what all services of a Platform share has a case that it accepts and one that it refuses.
func TestSharedSchemaOnCreate(t *testing.T) {
	sharedSchema.OnCreate(t, []ctrltest.Creation{
		{"RS256", `auth: {algorithm: RS256}`, ""},
		{"no algorithm", `auth: {algorithm: none}`, "spec.auth.algorithm"},
		{"no rotation", `auth: {keyRotation: {interval: 0s}}`, ""},
		{"rotation without rest", `auth: {keyRotation: {interval: 1m}}`, "interval must be 0s or at least 1h"},
		{"short tokens", `auth: {accessTokenTTL: 5m, refreshTokenTTL: 1h}`, ""},
		{"tokens for ever", `auth: {accessTokenTTL: 9000h}`, "accessTokenTTL must be from 1m to 720h"},
		{"refresh tokens that expire at once", `auth: {refreshTokenTTL: 1s}`, "refreshTokenTTL must be from 1m to 8760h"},
		{"a strict password", `auth: {password: {minLength: 16, upper: true, lower: true, digit: true, punctuation: true}}`, ""},
		{"a short password", `auth: {password: {minLength: 7}}`, "spec.auth.password.minLength"},
		{"an administrator", `auth: {administrator: {email: a@example.com}}`, ""},
		{"an administrator without an address", `auth: {administrator: {email: root}}`, "spec.auth.administrator.email"},
		{"a client", `auth: {clients: [{id: web, redirectURIs: ["https://web.example.com/callback"]}]}`, ""},
		{"a client twice", `auth: {clients: [{id: web}, {id: web}]}`, "Duplicate value"},
		{"a relative redirect", `auth: {clients: [{id: web, redirectURIs: ["/callback"]}]}`, "redirectURIs must be absolute"},
		{"a redirect with a fragment", `auth: {clients: [{id: web, redirectURIs: ["https://web.example.com/#x"]}]}`, "redirectURIs must be absolute"},
		{"a ServiceAccount", `auth: {serviceAccounts: [{namespace: ci, name: "*", role: viewer}]}`, ""},
		{"a ServiceAccount of every namespace", `auth: {serviceAccounts: [{namespace: "*", name: x, role: viewer}]}`, "spec.auth.serviceAccounts[0].namespace"},
		{"an unknown role", `auth: {serviceAccounts: [{namespace: ci, name: x, role: root}]}`, "spec.auth.serviceAccounts[0].role"},
		{"an issuer", `auth: {issuers: [{url: "https://ci.example.com", callers: [{name: ci, claims: {sub: "repo:acme/*"}, role: editor}]}]}`, ""},
		{"an issuer without TLS", `auth: {issuers: [{url: "http://ci.example.com", callers: [{name: ci, claims: {sub: x}, role: editor}]}]}`, "url must begin with https://"},
		{"an issuer without callers", `auth: {issuers: [{url: "https://ci.example.com", callers: []}]}`, "spec.auth.issuers[0].callers"},
		{"a caller without claims", `auth: {issuers: [{url: "https://ci.example.com", callers: [{name: ci, claims: {}, role: editor}]}]}`, "spec.auth.issuers[0].callers[0].claims"},
		{"a caller that anybody is", `auth: {issuers: [{url: "https://ci.example.com", callers: [{name: ci, claims: {sub: "*"}, role: editor}]}]}`, "spec.auth.issuers[0].callers[0].claims.sub"},
		{"a collector", `tracing: {endpoint: "http://collector.observability.svc:4318"}`, ""},
		{"a collector without a scheme", `tracing: {endpoint: "collector:4318"}`, "endpoint must begin with http"},
		{"a collector with a password", `tracing: {endpoint: "https://u:p@collector:4318"}`, "neither query, fragment nor user"},
		{"more than all spans", `tracing: {endpoint: "https://collector", samplePercent: 101}`, "spec.tracing.samplePercent"},
		{"no rate limit", `rateLimit: {requestsPerMinute: 0}`, ""},
		{"a negative rate limit", `rateLimit: {requestsPerMinute: -1}`, "spec.rateLimit.requestsPerMinute"},
		{"a store failure", `rateLimit: {onStoreFailure: Refuse}`, ""},
		{"an unknown store failure", `rateLimit: {onStoreFailure: Ignore}`, "spec.rateLimit.onStoreFailure"},
		{"an origin", `cors: {origins: ["https://console.example.com:8443"]}`, ""},
		{"every origin", `cors: {origins: ["*"]}`, "spec.cors.origins"},
		{"an origin with a path", `cors: {origins: ["https://a.example.com/"]}`, "spec.cors.origins"},
		{"a preflight for a week", `cors: {maxAge: 168h}`, "maxAge must be from 0s to 24h"},
		{"an audit of a year", `audit: {retention: 8760h, spillSize: 1Gi}`, ""},
		{"an audit of a minute", `audit: {retention: 1m}`, "retention must be at least 1h"},
		{"no room to spill", `audit: {spillSize: 1Ki}`, "spillSize must be from 1Mi to 10Gi"},
	})
}

func TestSharedDefaults(t *testing.T) {
	p := &v1alpha1.Platform{}
	sharedSchema.Defaulted(t, ``, p)
	spec := &p.Spec
	switch {
	case spec.Auth.Algorithm != v1alpha1.HS256 || spec.Auth.KeyRotation.Interval.Duration != 720*time.Hour:
		t.Errorf("keys %+v", spec.Auth)
	case spec.Auth.AccessTokenTTL.Duration != 24*time.Hour || spec.Auth.RefreshTokenTTL.Duration != 720*time.Hour || spec.Auth.Password.MinLength != 8:
		t.Errorf("auth %+v", spec.Auth)
	case *spec.RateLimit.RequestsPerMinute != 100 || spec.RateLimit.OnStoreFailure != v1alpha1.StoreFailureLimitLocally:
		t.Errorf("rate limit %+v", spec.RateLimit)
	case spec.CORS.MaxAge.Duration != 10*time.Minute:
		t.Errorf("cors %+v", spec.CORS)
	case spec.Audit.Retention.Duration != 2160*time.Hour || spec.Audit.SpillSize.String() != "64Mi":
		t.Errorf("audit %+v", spec.Audit)
	}
}
