// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

const withPostgres = "backends: {postgresql: {managed: {}}}, "

func parsePlatform(t *testing.T, spec, namespace string) *unstructured.Unstructured {
	t.Helper()
	p := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("{metadata: {name: a}, spec: {"+withPostgres+spec+"}}"), &p.Object); err != nil {
		t.Fatal(err)
	}
	p.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Platform"))
	p.SetNamespace(namespace)
	return p
}

// hsm is a key in one.
const hsm = `pkcs11: {module: /usr/lib/hsm.so, tokenLabel: vault, keyLabel: unseal, pinSecretRef: {name: hsm}}`

// Each rule of the products' schema has a case that it accepts and one that it refuses, on a real API server.
func TestProductSchemaOnCreate(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for _, test := range []struct{ name, spec, refused string }{
		{"a product", `products: {vault: {}}`, ""},
		{"an unknown unseal", `products: {vault: {unseal: {}}}`, "spec.products.vault.unseal: Invalid value: exactly one of secretRef, shamir and pkcs11"},
		{"a passphrase", `products: {vault: {unseal: {secretRef: {name: x}}}}`, ""},
		{"two unseals", `products: {vault: {unseal: {secretRef: {name: x}, shamir: {}}}}`, "exactly one of secretRef, shamir and pkcs11"},
		{"three unseals", `products: {vault: {unseal: {secretRef: {name: x}, shamir: {}, ` + hsm + `}}}`, "exactly one of secretRef, shamir and pkcs11"},
		{"a key in an HSM", `products: {vault: {unseal: {` + hsm + `}}}`, ""},
		{"an HSM's library by a relative path", `products: {vault: {unseal: {` + strings.Replace(hsm, "/usr", "usr", 1) + `}}}`, "module must be an absolute path"},
		{"an HSM's library by a path upwards", `products: {vault: {unseal: {` + strings.Replace(hsm, "/usr", "/usr/..", 1) + `}}}`, "module must be an absolute path"},
		{"an HSM without a key", `products: {vault: {unseal: {pkcs11: {module: /a.so, tokenLabel: a, pinSecretRef: {name: x}}}}}`, "spec.products.vault.unseal.pkcs11.keyLabel"},
		{"an HSM without a PIN", `products: {vault: {unseal: {pkcs11: {module: /a.so, tokenLabel: a, keyLabel: a}}}}`, "spec.products.vault.unseal.pkcs11.pinSecretRef"},
		{"shares", `products: {vault: {unseal: {shamir: {shares: 3, threshold: 3}}}}`, ""},
		{"too few shares", `products: {vault: {unseal: {shamir: {shares: 2, threshold: 3}}}}`, "threshold must not exceed shares"},
		{"one share", `products: {vault: {unseal: {shamir: {shares: 1, threshold: 1}}}}`, "spec.products.vault.unseal.shamir"},
		{"large files", `products: {vault: {maxFileSize: 1Gi}}`, ""},
		{"files of any size", `products: {vault: {maxFileSize: 2Gi}}`, "maxFileSize must be from 1Mi to 1Gi"},
		{"no files", `products: {vault: {maxFileSize: 1Ki}}`, "maxFileSize must be from 1Mi to 1Gi"},
		{"replicas", `products: {vault: {replicas: 3}}`, ""},
		{"no replica", `products: {vault: {replicas: 0}}`, "spec.products.vault.replicas"},
		{"autoscaling", `products: {vault: {autoscaling: {minReplicas: 2, maxReplicas: 2}}}`, ""},
		{"autoscaling downwards", `products: {vault: {autoscaling: {minReplicas: 3, maxReplicas: 2}}}`, "minReplicas must not exceed maxReplicas"},
		{"autoscaling without a bound", `products: {vault: {autoscaling: {minReplicas: 3}}}`, "spec.products.vault.autoscaling.maxReplicas"},
		{"an ingress", `products: {vault: {ingress: {host: vault.example.com}}}`, ""},
		{"an ingress without a host", `products: {vault: {ingress: {}}}`, "spec.products.vault.ingress.host"},
		{"an ingress with a URL", `products: {vault: {ingress: {host: "https://x"}}}`, "spec.products.vault.ingress.host"},
		{"a route", `products: {vault: {httpRoute: {parentRefs: [{name: gw}]}}}`, ""},
		{"a route without a Gateway", `products: {vault: {httpRoute: {parentRefs: []}}}`, "spec.products.vault.httpRoute.parentRefs"},
		{"a monitor", `products: {vault: {serviceMonitor: {}}}`, ""},
		{"a monitor that never rests", `products: {vault: {serviceMonitor: {interval: 10ms}}}`, "interval must be at least 1s"},
		{"proxies", `products: {vault: {trustedProxies: ["10.0.0.0/8", "fd00::/8"]}}`, ""},
		{"a proxy that is no CIDR", `products: {vault: {trustedProxies: ["10.0.0.1"]}}`, "trustedProxies must be CIDRs"},
		{"a worker", `products: {workflow: {worker: {replicas: 100, slots: 1000, image: "w:1"}, maxOutputBytes: 8388608}}`, ""},
		{"no worker", `products: {workflow: {worker: {replicas: 0}}}`, "spec.products.workflow.worker.replicas"},
		{"too many workers", `products: {workflow: {worker: {replicas: 101}}}`, "spec.products.workflow.worker.replicas"},
		{"no slot", `products: {workflow: {worker: {slots: 0}}}`, "spec.products.workflow.worker.slots"},
		{"too many slots", `products: {workflow: {worker: {slots: 1001}}}`, "spec.products.workflow.worker.slots"},
		{"a worker without an image", `products: {workflow: {worker: {image: ""}}}`, "spec.products.workflow.worker.image"},
		{"small outputs", `products: {workflow: {maxOutputBytes: 1023}}`, "spec.products.workflow.maxOutputBytes"},
		{"large outputs", `products: {workflow: {maxOutputBytes: 8388609}}`, "spec.products.workflow.maxOutputBytes"},
		{"a log level", `products: {vault: {logLevel: debug}}`, ""},
		{"an unknown log level", `products: {vault: {logLevel: loud}}`, "spec.products.vault.logLevel"},
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
	} {
		t.Run(test.name, func(t *testing.T) {
			check(t, c.Create(ctx, parsePlatform(t, test.spec, namespace), client.DryRunAll), test.refused)
		})
	}
}

func TestProductSchemaOnUpdate(t *testing.T) {
	c, _ := ctrltest.Env(t)
	const generated, named, shared = `products: {vault: {}}`, `products: {vault: {unseal: {secretRef: {name: x}}}}`, `products: {vault: {unseal: {shamir: {shares: 5, threshold: 3}}}}`
	const keyed = `products: {vault: {unseal: {` + hsm + `}}}`
	for _, test := range []struct{ name, before, after, refused string }{
		{"a passphrase of one's own", generated, named, ""},
		{"another passphrase's Secret", named, `products: {vault: {unseal: {secretRef: {name: another}}}}`, ""},
		{"shares instead of a passphrase", generated, shared, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"a key in an HSM instead of a passphrase", generated, keyed, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"a key in an HSM instead of a passphrase of one's own", named, keyed, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"a key in an HSM instead of shares", shared, keyed, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"a passphrase instead of a key in an HSM", keyed, generated, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"another library of the HSM", keyed, strings.Replace(keyed, "hsm.so", "hsm-2.so", 1), ""},
		{"a passphrase instead of shares", shared, named, "unseal cannot change between a passphrase, Shamir shares and PKCS #11"},
		{"more shares", shared, `products: {vault: {unseal: {shamir: {shares: 7, threshold: 3}}}}`, "shares and threshold are immutable"},
		{"the same shares", shared, shared + `, rateLimit: {burst: 5}`, ""},
		{"no product any more", shared, `rateLimit: {}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := ctrltest.Namespace(t)
			p := parsePlatform(t, test.before, namespace)
			if err := c.Create(ctx, p); err != nil {
				t.Fatal(err)
			}
			after := parsePlatform(t, test.after, namespace)
			after.SetResourceVersion(p.GetResourceVersion())
			check(t, c.Update(ctx, after, client.DryRunAll), test.refused)
		})
	}
}

func TestProductDefaults(t *testing.T) {
	c, _ := ctrltest.Env(t)
	live := parsePlatform(t, `products: {vault: {}, workflow: {}}`, ctrltest.Namespace(t))
	if err := c.Create(ctx, live); err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.Platform{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(live), p); err != nil {
		t.Fatal(err)
	}
	spec := &p.Spec
	switch {
	case spec.Products.Vault.Replicas != 1 || spec.Products.Vault.LogLevel != "info":
		t.Errorf("vault %+v", spec.Products.Vault)
	case spec.Products.Workflow.Worker.Replicas != 1 || spec.Products.Workflow.Worker.Slots != 100 || spec.Products.Workflow.MaxOutputBytes != 256<<10:
		t.Errorf("workflow %+v", spec.Products.Workflow)
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
