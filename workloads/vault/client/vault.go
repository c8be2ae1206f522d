// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
)

// Errors besides those of package backend, which they wrap.
var (
	// ErrSealed: the Vault has no root key, and cannot read or store a value until it is unsealed.
	ErrSealed = fmt.Errorf("the vault is sealed: %w", backend.ErrUnavailable)
	// ErrStale: another writer added a version that this one does not know of.
	ErrStale = fmt.Errorf("check-and-set failed: %w", backend.ErrInvalid)
	// ErrStreamed: the value is a File over 1 MiB, which Read does not return.
	ErrStreamed = fmt.Errorf("the file is too large to be read as a whole: %w", backend.ErrInvalid)
)

// TokenFile is the path of a Pod's ServiceAccount token for the Vault's audience.
const TokenFile = "/var/run/secrets/itechsmart/token"

// MaxPath is the maximum length of a path in characters.
const MaxPath = 253

// path matches the path of a secret.
var path = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`)

// ValidPath returns ErrInvalid unless p is a valid path of a secret.
func ValidPath(p string) error {
	if len(p) > MaxPath || !path.MatchString(p) {
		return fmt.Errorf("a path has at most %d lower-case letters, digits, '.', '_', '-' and '/', and each of its segments begins and ends with a letter or digit: %w",
			MaxPath, backend.ErrInvalid)
	}
	return nil
}

// MainField returns the field that is the value proper: "" for an unknown type.
func MainField(typ string) string {
	switch typ {
	case TypeText:
		return FieldText
	case TypeFile:
		return FieldFile
	case TypeCertificate:
		return FieldCertificate
	case TypeAPIKey:
		return FieldKey
	default:
		return ""
	}
}

// Fields returns the required and optional fields of a value of the type.
func Fields(typ string) (required, optional []string) {
	switch typ {
	case TypeText:
		return []string{FieldText}, nil
	case TypeFile:
		return []string{FieldFile}, []string{FieldFilename}
	case TypeCertificate:
		return []string{FieldCertificate, FieldPrivateKey}, []string{FieldCA}
	case TypeAPIKey:
		return []string{FieldKey}, []string{FieldID}
	default:
		return nil, nil
	}
}

// String never shows a value, so that a stray %v leaks nothing.
func (v Value) String() string { return fmt.Sprintf("value of %d fields", len(v)) }

// GoString makes %#v as safe as %v.
func (v Value) GoString() string { return v.String() }

// List selects secrets. The zero value selects all, in pages of the service's size.
type List struct {
	Prefix, Type, Cursor string
	Limit                int
}

// Client talks to one Vault. Methods wrap a sentinel of package backend: ErrNotFound, ErrExists, ErrInvalid (also
// ErrStale), ErrAuth, ErrUnavailable (also ErrSealed). Safe for concurrent use.
type Client interface {
	// Apply stores the value that a resource declares. It is idempotent: without a new SourceHash or Rotation nothing
	// changes.
	Apply(ctx context.Context, path string, declared Apply) (Applied, error)
	// Secret returns a secret without its value.
	Secret(ctx context.Context, path string) (Secret, error)
	// Secrets lists secrets without their values.
	Secrets(ctx context.Context, list List) (Page[Secret], error)
	// Read returns a version with its value; version 0 is the newest.
	Read(ctx context.Context, path string, version int64) (Read, error)
	// Versions lists the versions of a secret, the newest first.
	Versions(ctx context.Context, path, cursor string) (Page[Version], error)
	// Create stores a secret at a path that has none.
	Create(ctx context.Context, path string, value Write) (Secret, error)
	// Put stores a new version of a secret; ErrStale when CheckAndSet is not the newest version.
	Put(ctx context.Context, path string, value Write) (Secret, error)
	// Diff returns which fields differ between two versions, without values.
	Diff(ctx context.Context, path string, from, to int64) ([]FieldDiff, error)
	// Rotate adds a new version of a generated or issued secret; ErrInvalid for other secrets.
	Rotate(ctx context.Context, path string) (Secret, error)
	// Rollback adds a new version with the value of an old one.
	Rollback(ctx context.Context, path string, version int64) (Secret, error)
	// Delete hides all versions, or removes them permanently.
	Delete(ctx context.Context, path string, destroy bool) error
	// DeleteVersion hides one version, UndeleteVersion restores it, DestroyVersion removes its value permanently.
	DeleteVersion(ctx context.Context, path string, version int64) error
	UndeleteVersion(ctx context.Context, path string, version int64) error
	DestroyVersion(ctx context.Context, path string, version int64) error
	// SealStatus reports whether values can be read, and the progress of a re-wrap. It needs no token.
	SealStatus(ctx context.Context) (SealStatus, error)
	// SealingKey returns the public key that values are sealed to. It needs no token.
	SealingKey(ctx context.Context) (SealingKey, error)
	// Unseal submits one share of the root key.
	Unseal(ctx context.Context, share string) (SealStatus, error)
	// Seal discards the root key.
	Seal(ctx context.Context) error
	// Rewrap starts wrapping all data keys by the newest root key; SealStatus reports the progress.
	Rewrap(ctx context.Context) error
	// RotateKey creates a new root key, which wraps the keys of later values.
	RotateKey(ctx context.Context) error
}

// Token returns the bearer token of the next request.
type Token func(context.Context) (string, error)

// TokenFromFile reads the file again for every request, because kubelet replaces it.
func TokenFromFile(name string) Token {
	return func(context.Context) (string, error) {
		file, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("token: %w: %w", backend.ErrAuth, err)
		}
		defer file.Close()
		const largest = 64 << 10
		data, err := io.ReadAll(io.LimitReader(file, largest))
		if err != nil {
			return "", fmt.Errorf("token: %w: %w", backend.ErrAuth, err)
		}
		token := strings.TrimSpace(string(data))
		if token == "" {
			return "", fmt.Errorf("token: file %s is empty: %w", name, backend.ErrAuth)
		}
		return token, nil
	}
}

// StaticToken returns a token that never changes.
func StaticToken(token string) Token {
	return func(context.Context) (string, error) { return token, nil }
}

func validEndpoint(endpoint string) error {
	parsed, err := url.Parse(endpoint)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" {
		return fmt.Errorf("endpoint is not http(s)://host:port: %w", backend.ErrInvalid)
	}
	return nil
}
