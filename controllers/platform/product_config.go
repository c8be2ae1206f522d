// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/workloads/config"
)

// bcryptHash is what OAuth 2 clients' secrets are given as.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// render gathers what the service is told, and makes its children from it.
func (r *productRun) render(ctx context.Context) error {
	c, err := r.configuration(ctx)
	if err != nil {
		return err
	}
	// The generation is told and does not count: an edit that is none of the service's business restarts nothing.
	hash := checksum(c)
	name := configPrefix(r.platform.Name, r.kind.name) + hash
	known, err := r.readConfig(ctx, name)
	if err != nil {
		return err
	}
	c.Generation = r.platform.Generation
	if known != nil {
		c.Generation = known.Generation
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("render configuration: %w", err)
	}
	r.children = renderService(serviceInput{
		platform: r.platform, kind: r.kind, spec: r.spec, defaults: r.defaults,
		image: r.image(), configName: name, configHash: hash, config: data,
		postgres: r.postgres, redis: r.redis, rabbitmq: r.rabbitmq, objects: r.objects,
		spill: r.platform.Spec.Audit.SpillSize.Value(),
	})
	r.config = c
	return nil
}

// configuration is the file that the service reads, without its generation.
func (r *productRun) configuration(ctx context.Context) (*config.Service, error) {
	auth, err := r.authentication(ctx)
	if err != nil {
		return nil, err
	}
	spec := &r.platform.Spec
	own, identity, _ := connections(spec, r.kind, r.spec)
	c := &config.Service{
		Product: r.kind.name, Platform: r.platform.Name, Namespace: r.platform.Namespace,
		Database: r.own.binding(r.postgres, own), Identity: r.identity.binding(r.postgres, identity),
		Auth: *auth, RateLimit: rateLimit(&spec.RateLimit),
		CORS:           config.CORS{Origins: spec.CORS.Origins, MaxAge: config.Duration(spec.CORS.MaxAge.Duration)},
		Audit:          config.Audit{Retention: config.Duration(spec.Audit.Retention.Duration), SpillBytes: spec.Audit.SpillSize.Value()},
		TrustedProxies: r.spec.TrustedProxies, LogLevel: r.spec.LogLevel, Pprof: r.spec.Pprof,
	}
	if t := spec.Tracing; t != nil {
		c.Tracing = &config.Tracing{Endpoint: t.Endpoint, SamplePercent: int(t.SamplePercent)}
	}
	if r.redis.Type != "" {
		c.Redis = r.redis.Data()
	}
	if r.told != nil {
		r.told(c)
	}
	return c, nil
}

// prepare gathers what only this product is told, before anything is stored.
func (r *productRun) prepare(ctx context.Context) error {
	if r.kind.configure == nil {
		return nil
	}
	var err error
	r.told, err = r.kind.configure(ctx, r)
	return err
}

func (r *productRun) authentication(ctx context.Context) (*config.Auth, error) {
	keys, err := r.signingKeys(ctx)
	if err != nil {
		return nil, err
	}
	administrator, err := r.administrator(ctx)
	if err != nil {
		return nil, err
	}
	clients, err := r.clients(ctx)
	if err != nil {
		return nil, err
	}
	auth := &r.platform.Spec.Auth
	return &config.Auth{
		Issuer: v1alpha1.TokenAudience, Keys: keys,
		AccessTTL: config.Duration(auth.AccessTokenTTL.Duration), RefreshTTL: config.Duration(auth.RefreshTokenTTL.Duration),
		OpenRegistration: auth.OpenRegistration,
		Password: config.Password{
			MinLength: int(auth.Password.MinLength), Upper: auth.Password.Upper, Lower: auth.Password.Lower,
			Digit: auth.Password.Digit, Punctuation: auth.Password.Punctuation,
		},
		Administrator: administrator, Clients: clients, ServiceAccounts: r.serviceAccounts(),
		Issuers: issuers(auth.Issuers),
	}, nil
}

func issuers(specs []v1alpha1.TokenIssuer) []config.Issuer {
	var out []config.Issuer
	for i := range specs {
		told := config.Issuer{URL: specs[i].URL, Audience: specs[i].Audience}
		for _, c := range specs[i].Callers {
			claims := map[string]string{}
			for name, pattern := range c.Claims {
				claims[name] = string(pattern)
			}
			told.Callers = append(told.Callers, config.Caller{Name: c.Name, Claims: claims, Role: c.Role})
		}
		out = append(out, told)
	}
	return out
}

// clients are the OAuth 2 clients, with the hashes of their secrets.
func (r *productRun) clients(ctx context.Context) ([]config.Client, error) {
	var out []config.Client
	for i := range r.platform.Spec.Auth.Clients {
		client := &r.platform.Spec.Auth.Clients[i]
		told := config.Client{ID: client.ID, RedirectURIs: client.RedirectURIs}
		if client.SecretRef != nil {
			path := fmt.Sprintf("spec.auth.clients[%s].secretRef", client.ID)
			hash, err := r.referenced(ctx, path, client.SecretRef.Name, client.SecretRef.Key)
			if err != nil {
				return nil, err
			}
			if !bcryptHash.MatchString(hash) {
				return nil, reconcile.Stall(common.ReasonInvalidSpec,
					"%s: key %q of Secret %s is not a bcrypt hash, such as `htpasswd -nBC 12` makes", path, client.SecretRef.Key, client.SecretRef.Name)
			}
			told.SecretHash = hash
		}
		out = append(out, told)
	}
	return out, nil
}

// referenced reads one key of a Secret of the Platform's namespace that somebody else made.
func (r *productRun) referenced(ctx context.Context, path, name, key string) (string, error) {
	from := refs.From{Group: v1alpha1.GroupVersion.Group, Kind: kindPlatform, Namespace: r.platform.Namespace}
	secret, err := r.deps.Refs.Secret(ctx, path, from, r.platform.Namespace, name)
	if err != nil {
		return "", err
	}
	return valueOf(secret, path, key)
}

func valueOf(secret *corev1.Secret, path, key string) (string, error) {
	value := strings.TrimRight(string(secret.Data[key]), "\r\n") // `kubectl create secret --from-file` leaves one
	if value == "" {
		return "", reconcile.Stall(common.ReasonInvalidSpec, "%s: Secret %s lacks key %q", path, secret.Name, key)
	}
	return value, nil
}

// serviceAccounts are who may call with a token of the cluster: the manager, and whom the specification names.
func (r *productRun) serviceAccounts() []config.ServiceAccount {
	var out []config.ServiceAccount
	if d := r.defaults; d.managerNamespace != "" && d.managerServiceAccount != "" {
		out = append(out, config.ServiceAccount{Name: d.managerNamespace + "/" + d.managerServiceAccount, Role: "admin"})
	}
	for _, account := range r.platform.Spec.Auth.ServiceAccounts {
		out = append(out, config.ServiceAccount{Name: account.Namespace + "/" + account.Name, Role: account.Role})
	}
	return out
}

func rateLimit(spec *v1alpha1.RateLimit) config.RateLimit {
	out := config.RateLimit{Burst: int(spec.Burst), FailOpen: spec.OnStoreFailure != v1alpha1.StoreFailureRefuse}
	if spec.RequestsPerMinute != nil {
		out.RequestsPerMinute = int(*spec.RequestsPerMinute)
		if out.RequestsPerMinute == 0 {
			out.RequestsPerMinute = -1 // the service's word for no limit
		}
	}
	return out
}
