// SPDX-License-Identifier: Apache-2.0

// Package config is the contract between the controller of product services, which renders one file per service, and the
// service, which reads it. The file is a Secret: it holds credentials and signing keys.
package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// FileName is the one key of the Secret, and the file's name in Dir.
	FileName = "service.json"
	// Dir is the mount path of the Secret.
	Dir = "/etc/itechsmart"
	// SpillDir is a writable volume for audit events that the database has not taken yet.
	SpillDir = "/var/lib/itechsmart"
	// Port serves REST.
	Port = 8080
	// MetricsPort serves /metrics, and pprof when it is on.
	MetricsPort = 9090
	// HealthPath reports the state of the dependencies.
	HealthPath = "/health"
	// LivePath reports the state of the process alone.
	LivePath = "/livez"
	// ReadyPath reports whether the service accepts requests.
	ReadyPath = "/readyz"
)

// Service is the configuration of a product service: what all of them share, and the product's own Settings.
type Service struct {
	// Product is the name of the product; Platform and Namespace are where it runs; Generation is that of its resource.
	Product    string `json:"product"`
	Platform   string `json:"platform"`
	Namespace  string `json:"namespace"`
	Generation int64  `json:"generation"`
	// Database is the binding of the product's own role, Identity that of the role that all products of the Platform share,
	// Redis that of the cache (nil: there is none).
	Database Database          `json:"database"`
	Identity Database          `json:"identity"`
	Redis    map[string]string `json:"redis,omitempty"`

	Auth      Auth      `json:"auth"`
	RateLimit RateLimit `json:"rateLimit"`
	CORS      CORS      `json:"cors"`
	Audit     Audit     `json:"audit"`
	// Tracing is the collector of spans; nil: none, unless OTEL_* variables name one.
	Tracing *Tracing `json:"tracing,omitempty"`
	// TrustedProxies are the CIDRs of proxies whose X-Forwarded-For header is trusted.
	TrustedProxies []string `json:"trustedProxies,omitempty"`
	LogLevel       string   `json:"logLevel,omitempty"` // debug, info, warn, error
	Pprof          bool     `json:"pprof,omitempty"`
	// URL is the service's address inside the cluster, without a path.
	URL string `json:"url,omitempty"`
	// Queue is the product's task queue, Objects the binding of the bucket for large values; nil: there is none.
	Queue   *Queue            `json:"queue,omitempty"`
	Objects map[string]string `json:"objects,omitempty"`
	// Settings is the product's own part: the Settings of workloads/<product>/config, as JSON.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// Database is a schema in PostgreSQL: a binding in the Service Binding format, and the schema's name.
type Database struct {
	Binding map[string]string `json:"binding"`
	Schema  string            `json:"schema"`
	// MinConnections and MaxConnections bound the pool; 10 and 20 when zero.
	MinConnections int32 `json:"minConnections,omitempty"`
	MaxConnections int32 `json:"maxConnections,omitempty"`
}

// Auth configures authentication.
type Auth struct {
	// Issuer is the `iss` and `aud` of tokens. It is the same for all products of a Platform: a login on one is a login on all.
	Issuer string `json:"issuer"`
	// Keys verify tokens; the first one signs them. Old keys stay until the tokens that they signed have expired.
	Keys []Key `json:"keys"`
	// AccessTTL defaults to 24 h, RefreshTTL to 30 days.
	AccessTTL  Duration `json:"accessTTL,omitempty"`
	RefreshTTL Duration `json:"refreshTTL,omitempty"`
	// OpenRegistration lets anybody register; otherwise only administrators create users.
	OpenRegistration bool     `json:"openRegistration,omitempty"`
	Password         Password `json:"password"`
	// Administrator is the first user, created when the database holds none.
	Administrator *Administrator `json:"administrator,omitempty"`
	Clients       []Client       `json:"clients,omitempty"` // of OAuth 2
	// ServiceAccounts whose tokens are accepted.
	ServiceAccounts []ServiceAccount `json:"serviceAccounts,omitempty"`
	// Issuers are other issuers whose tokens are accepted.
	Issuers []Issuer `json:"issuers,omitempty"`
}

// Key is one signing key.
type Key struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"` // HS256 or RS256
	// Secret is base64 for HS256 (at least 32 bytes), a PKCS #8 PEM for RS256.
	Secret string `json:"secret"`
}

// Password is the policy for new passwords.
type Password struct {
	MinLength   int  `json:"minLength,omitempty"` // 8 when zero
	Upper       bool `json:"upper,omitempty"`
	Lower       bool `json:"lower,omitempty"`
	Digit       bool `json:"digit,omitempty"`
	Punctuation bool `json:"punctuation,omitempty"`
}

// Administrator is the first user.
type Administrator struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Client is an OAuth 2 client.
type Client struct {
	ID           string   `json:"id"`
	RedirectURIs []string `json:"redirectURIs,omitempty"`
	// SecretHash is bcrypt; empty for a public client, which must use PKCE.
	SecretHash string `json:"secretHash,omitempty"`
}

// ServiceAccount gives a ServiceAccount a role on products.
type ServiceAccount struct {
	Name string `json:"name"` // "namespace/name"; "namespace/*" is every one of a namespace
	Role string `json:"role"` // viewer, editor, admin
}

// Issuer signs tokens with asymmetric keys, which are found by OpenID Connect discovery below URL.
type Issuer struct {
	URL      string   `json:"url"`      // the tokens' iss
	Audience string   `json:"audience"` // the tokens' aud
	Callers  []Caller `json:"callers"`  // the first whose claims match applies
}

// Caller is a program, identified by the claims of its token.
type Caller struct {
	Name   string            `json:"name"`   // for policies and the audit log
	Claims map[string]string `json:"claims"` // "*" matches any run of characters
	Role   string            `json:"role"`   // viewer, editor, admin
}

// Tracing is a collector of spans (OTLP over HTTP).
type Tracing struct {
	Endpoint      string `json:"endpoint"`
	SamplePercent int    `json:"samplePercent"`
}

// RateLimit is a token bucket per user, and per address for requests without a token.
type RateLimit struct {
	RequestsPerMinute int `json:"requestsPerMinute,omitempty"` // 100 when zero; -1: no limit
	Burst             int `json:"burst,omitempty"`             // RequestsPerMinute when zero
	// FailOpen falls back to local buckets when Redis is down; otherwise requests get 503.
	FailOpen bool `json:"failOpen"`
}

// CORS is the web origins that may call.
type CORS struct {
	Origins []string `json:"origins,omitempty"` // "https://console.example.com"; no "*" with credentials
	MaxAge  Duration `json:"maxAge,omitempty"`
}

// Audit configures how long audit events are kept, and how many may wait for the database.
type Audit struct {
	Retention  Duration `json:"retention,omitempty"`  // 90 days when zero
	SpillBytes int64    `json:"spillBytes,omitempty"` // 64 MiB when zero
	// Key is the Ed25519 seed (32 bytes, base64) that signs the log's checkpoints; it must stay the same as long as the log
	// exists. Empty: derived from the first of Auth.Keys, so that rotating those shows as a finding in the log.
	Key string `json:"key,omitempty"`
}

// Queue is a queue in RabbitMQ, which the controller declares.
type Queue struct {
	Binding map[string]string `json:"binding"`
	Name    string            `json:"name"`
}

// Duration is a time.Duration that is written as text, such as "24h".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: %w", text, err)
	}
	*d = Duration(parsed)
	return nil
}

// Or returns the duration, or fallback when it is zero.
func (d Duration) Or(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// Load reads the file in dir. It returns the paths of the keys that this version does not know as well, those of the
// product's own part aside: an older image starts on a newer manager's file.
func Load(dir string) (s *Service, unknown []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	s = &Service{}
	if unknown, err = Decode(data, s); err != nil {
		return nil, nil, fmt.Errorf("parse %s: %w", FileName, err)
	}
	return s, unknown, nil
}

// Settings returns the product's own part of a configuration, and the paths of the keys in it that T does not have.
func Settings[T any](s *Service) (settings T, unknown []string, err error) {
	if len(s.Settings) == 0 {
		return settings, nil, nil
	}
	if unknown, err = Decode(s.Settings, &settings); err != nil {
		return settings, nil, fmt.Errorf("parse settings in %s: %w", FileName, err)
	}
	for i := range unknown {
		unknown[i] = "settings." + unknown[i]
	}
	return settings, unknown, nil
}

// Prefixes parses the CIDRs of a field.
func Prefixes(field string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("configuration: %s[%d]: %w", field, i, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}
