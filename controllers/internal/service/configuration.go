// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/signingkeys"
	"github.com/itechsmart/operator/workloads/config"
)

// bcryptHash matches the hashes of OAuth 2 clients' secrets.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// configuration returns the file that the service reads, without its generation and its product's part.
func (p *pass) configuration(
	platform *platformv1alpha1.Platform, servers *servers, databases *databases, queue *config.Queue, auth *config.Auth, settings any,
) (*config.Service, error) {
	spec := &platform.Spec
	c := &config.Service{
		Product: p.kind.Product, Platform: platform.Name, Namespace: platform.Namespace,
		URL:      common.ServiceURL(platform.Namespace, platform.Name, p.kind.Product),
		Database: databases.own, Identity: databases.identity, Queue: queue, Objects: servers.bucket(),
		Auth: *auth, RateLimit: rateLimit(&spec.RateLimit),
		CORS:           config.CORS{Origins: spec.CORS.Origins, MaxAge: config.Duration(spec.CORS.MaxAge.Duration)},
		Audit:          config.Audit{Retention: config.Duration(spec.Audit.Retention.Duration), SpillBytes: spec.Audit.SpillSize.Value()},
		TrustedProxies: p.spec.TrustedProxies, LogLevel: p.spec.LogLevel, Pprof: p.spec.Pprof,
	}
	if t := spec.Tracing; t != nil {
		c.Tracing = &config.Tracing{Endpoint: t.Endpoint, SamplePercent: int(t.SamplePercent)}
	}
	if servers.redis.Type != "" {
		c.Redis = servers.redis.Data()
	}
	if settings != nil {
		data, err := json.Marshal(settings)
		if err != nil {
			return nil, fmt.Errorf("render the settings of %s: %w", p.kind.Title, err)
		}
		c.Settings = data
	}
	return c, nil
}

// authentication returns the authentication of users and programs, which is the same for all services of the Platform.
func (p *pass) authentication(ctx context.Context, platform *platformv1alpha1.Platform) (*config.Auth, error) {
	keys, err := p.signingKeys(ctx, platform)
	if err != nil {
		return nil, err
	}
	administrator, err := p.ofPlatform(ctx, platform, platform.AdministratorName())
	if err != nil {
		return nil, err
	}
	clients, err := p.clients(ctx, platform)
	if err != nil {
		return nil, err
	}
	auth := &platform.Spec.Auth
	return &config.Auth{
		Issuer: common.TokenAudience, Keys: keys,
		AccessTTL: config.Duration(auth.AccessTokenTTL.Duration), RefreshTTL: config.Duration(auth.RefreshTokenTTL.Duration),
		OpenRegistration: auth.OpenRegistration,
		Password: config.Password{
			MinLength: int(auth.Password.MinLength), Upper: auth.Password.Upper, Lower: auth.Password.Lower,
			Digit: auth.Password.Digit, Punctuation: auth.Password.Punctuation,
		},
		Administrator:   &config.Administrator{Email: string(administrator.Data["username"]), Password: string(administrator.Data["password"])},
		Clients:         clients,
		ServiceAccounts: p.serviceAccounts(platform),
		Issuers:         issuers(auth.Issuers),
	}, nil
}

func (p *pass) signingKeys(ctx context.Context, platform *platformv1alpha1.Platform) ([]config.Key, error) {
	secret, err := p.ofPlatform(ctx, platform, platform.SigningKeysName())
	if err != nil {
		return nil, err
	}
	keys, err := signingkeys.Decode(secret)
	if err != nil {
		return nil, err
	}
	out := make([]config.Key, 0, len(keys))
	for _, key := range keys {
		out = append(out, config.Key{ID: key.ID, Algorithm: key.Algorithm, Secret: key.Secret})
	}
	return out, nil
}

func issuers(specs []platformv1alpha1.TokenIssuer) []config.Issuer {
	var out []config.Issuer
	for i := range specs {
		issuer := config.Issuer{URL: specs[i].URL, Audience: specs[i].Audience}
		for _, c := range specs[i].Callers {
			claims := map[string]string{}
			for name, pattern := range c.Claims {
				claims[name] = string(pattern)
			}
			issuer.Callers = append(issuer.Callers, config.Caller{Name: c.Name, Claims: claims, Role: c.Role})
		}
		out = append(out, issuer)
	}
	return out
}

// clients returns the OAuth 2 clients, with the hashes of their secrets.
func (p *pass) clients(ctx context.Context, platform *platformv1alpha1.Platform) ([]config.Client, error) {
	var out []config.Client
	for i := range platform.Spec.Auth.Clients {
		spec := &platform.Spec.Auth.Clients[i]
		client := config.Client{ID: spec.ID, RedirectURIs: spec.RedirectURIs}
		if spec.SecretRef != nil {
			hash, err := p.secretHash(ctx, platform, spec)
			if err != nil {
				return nil, err
			}
			client.SecretHash = hash
		}
		out = append(out, client)
	}
	return out, nil
}

func (p *pass) secretHash(ctx context.Context, platform *platformv1alpha1.Platform, spec *platformv1alpha1.OAuthClient) (string, error) {
	path := fmt.Sprintf("Platform %s: spec.auth.clients[%s].secretRef", platform.Name, spec.ID)
	from := refs.From{Group: platformv1alpha1.GroupVersion.Group, Kind: "Platform", Namespace: platform.Namespace}
	secret, err := p.deps.Refs.Secret(ctx, path, from, platform.Namespace, spec.SecretRef.Name)
	if err != nil {
		return "", err
	}
	hash, err := retained.Value(secret, path, spec.SecretRef.Key)
	if err != nil {
		return "", err
	}
	if !bcryptHash.MatchString(hash) {
		return "", reconcile.Stall(common.ReasonInvalidSpec,
			"%s: key %q of Secret %s is not a bcrypt hash, such as `htpasswd -nBC 12` makes", path, spec.SecretRef.Key, spec.SecretRef.Name)
	}
	return hash, nil
}

// serviceAccounts returns the ServiceAccounts whose tokens are accepted: the manager's, and those that the Platform names.
func (p *pass) serviceAccounts(platform *platformv1alpha1.Platform) []config.ServiceAccount {
	var out []config.ServiceAccount
	if o := p.deps.Options; o.ManagerNamespace != "" && o.ManagerServiceAccount != "" {
		out = append(out, config.ServiceAccount{Name: o.ManagerNamespace + "/" + o.ManagerServiceAccount, Role: "admin"})
	}
	for _, account := range platform.Spec.Auth.ServiceAccounts {
		out = append(out, config.ServiceAccount{Name: account.Namespace + "/" + account.Name, Role: account.Role})
	}
	return out
}

func rateLimit(spec *platformv1alpha1.RateLimit) config.RateLimit {
	out := config.RateLimit{Burst: int(spec.Burst), FailOpen: spec.OnStoreFailure != platformv1alpha1.StoreFailureRefuse}
	if spec.RequestsPerMinute != nil {
		out.RequestsPerMinute = int(*spec.RequestsPerMinute)
		if out.RequestsPerMinute == 0 {
			out.RequestsPerMinute = -1 // the service's word for no limit
		}
	}
	return out
}
