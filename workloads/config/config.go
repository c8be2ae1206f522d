// SPDX-License-Identifier: Apache-2.0

// Package config is the contract between the controller of product services,
// which renders one file per service, and the service, which reads it. The
// file is a Secret: it holds credentials and signing keys.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// FileName is the one key of the Secret, and the file's name in Dir.
	FileName = "service.json"
	// Dir is where the Secret is mounted.
	Dir = "/etc/itechsmart"
	// SpillDir is a writable volume for what the audit log cannot hand over yet.
	SpillDir = "/var/lib/itechsmart"
	// Port serves REST.
	Port = 8080
	// MetricsPort serves /metrics, and pprof when it is on.
	MetricsPort = 9090
	// HealthPath answers for dependencies.
	HealthPath = "/health"
	// LivePath answers for the process alone.
	LivePath = "/livez"
	// ReadyPath tells whether to send requests.
	ReadyPath = "/readyz"
)

// Service is everything that a product service is told.
type Service struct {
	// Product is the product's name. Platform and Namespace are whose it is; Generation is that of its resource.
	Product    string `json:"product"`
	Platform   string `json:"platform"`
	Namespace  string `json:"namespace"`
	Generation int64  `json:"generation"`
	// Database is the binding of the product's own role, Identity that of the role that all products of the
	// Platform share, Redis that of the cache; nil: none.
	Database Database          `json:"database"`
	Identity Database          `json:"identity"`
	Redis    map[string]string `json:"redis,omitempty"`

	Auth      Auth      `json:"auth"`
	RateLimit RateLimit `json:"rateLimit"`
	CORS      CORS      `json:"cors"`
	Audit     Audit     `json:"audit"`
	// Tracing says where spans go; nil: nowhere, unless OTEL_* variables say it.
	Tracing *Tracing `json:"tracing,omitempty"`
	// TrustedProxies are the CIDRs whose X-Forwarded-For is believed.
	TrustedProxies []string `json:"trustedProxies,omitempty"`
	LogLevel       string   `json:"logLevel,omitempty"` // debug, info, warn, error
	Pprof          bool     `json:"pprof,omitempty"`
	// URL is where the service answers inside of the cluster, without a path.
	URL string `json:"url,omitempty"`
	// Queue is the product's queue of tasks; nil: it has none. Objects is the binding of the bucket for what is large; nil: none.
	Queue   *Queue            `json:"queue,omitempty"`
	Objects map[string]string `json:"objects,omitempty"`
	// Settings are the product's own part, which workloads/<product>/config decodes.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// Database is a schema in PostgreSQL, in the Service Binding format plus the schema's name.
type Database struct {
	Binding map[string]string `json:"binding"`
	Schema  string            `json:"schema"`
	// MinConnections and MaxConnections bound the pool; 10 and 20 when zero.
	MinConnections int32 `json:"minConnections,omitempty"`
	MaxConnections int32 `json:"maxConnections,omitempty"`
}

// Auth is how users and programs prove who they are.
type Auth struct {
	// Issuer is the `iss` and `aud` of tokens: one per Platform, so that a login on one product holds on all.
	Issuer string `json:"issuer"`
	// Keys sign and verify tokens; the first signs. Old ones stay until the tokens that they signed have expired.
	Keys []Key `json:"keys"`
	// AccessTTL is 24 h, RefreshTTL 30 days when zero.
	AccessTTL  Duration `json:"accessTTL,omitempty"`
	RefreshTTL Duration `json:"refreshTTL,omitempty"`
	// OpenRegistration lets anybody register; otherwise an administrator makes users.
	OpenRegistration bool     `json:"openRegistration,omitempty"`
	Password         Password `json:"password"`
	// Administrator is the first one, made when the database holds no user.
	Administrator *Administrator `json:"administrator,omitempty"`
	Clients       []Client       `json:"clients,omitempty"` // of OAuth 2
	// ServiceAccounts lets tokens of the cluster's ServiceAccounts in, by "namespace/name"; "namespace/*" is every one.
	ServiceAccounts []ServiceAccount `json:"serviceAccounts,omitempty"`
	// Issuers are others whose tokens are taken.
	Issuers []Issuer `json:"issuers,omitempty"`
}

// Key is one signing key.
type Key struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"` // HS256 or RS256
	// Secret is base64 for HS256 (at least 32 bytes), a PKCS #8 PEM for RS256.
	Secret string `json:"secret"`
}

// Password is what a new password must have.
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
	Name string `json:"name"` // "namespace/name" or "namespace/*"
	Role string `json:"role"` // viewer, editor, admin
}

// Issuer signs tokens with asymmetric keys, which OpenID Connect discovery below URL names.
type Issuer struct {
	URL      string   `json:"url"`      // the tokens' iss
	Audience string   `json:"audience"` // that they must be for
	Callers  []Caller `json:"callers"`  // the first whose claims fit counts
}

// Caller is a program that is known by its token's claims.
type Caller struct {
	Name   string            `json:"name"`   // for policies and the audit log
	Claims map[string]string `json:"claims"` // a star is any run of characters
	Role   string            `json:"role"`   // viewer, editor, admin
}

// Tracing is a collector of spans (OTLP over HTTP).
type Tracing struct {
	Endpoint      string `json:"endpoint"`
	SamplePercent int    `json:"samplePercent"`
}

// RateLimit is a token bucket per user, and per address for those without a token.
type RateLimit struct {
	RequestsPerMinute int `json:"requestsPerMinute,omitempty"` // 100 when zero; -1: none
	Burst             int `json:"burst,omitempty"`             // RequestsPerMinute when zero
	// FailOpen lets requests through on local buckets when Redis fails; otherwise they get 503.
	FailOpen bool `json:"failOpen"`
}

// CORS is which web origins may call.
type CORS struct {
	Origins []string `json:"origins,omitempty"` // "https://console.example.com"; no "*" with credentials
	MaxAge  Duration `json:"maxAge,omitempty"`
}

// Audit is how long events stay, and how much may wait for the database.
type Audit struct {
	Retention  Duration `json:"retention,omitempty"`  // 90 days when zero
	SpillBytes int64    `json:"spillBytes,omitempty"` // 64 MiB when zero
	// Key is the Ed25519 seed (32 bytes, base64) that signs the log's checkpoints; it stays for as long as the log does.
	// Empty: derived from the first of Auth.Keys, so that a change of those shows as a finding in the log.
	Key string `json:"key,omitempty"`
}

// Queue is a queue of tasks in RabbitMQ, which the controller keeps as declared.
type Queue struct {
	Binding map[string]string `json:"binding"`
	Name    string            `json:"name"`
}

// Duration is a time.Duration as "24h".
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

// Or is the duration, or fallback when it is zero.
func (d Duration) Or(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// Load reads the file in dir, and refuses unknown keys and what comes after the object.
func Load(dir string) (*Service, error) {
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var s Service
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("parse %s: %w", FileName, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse %s: there is something after the configuration", FileName)
	}
	return &s, nil
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
