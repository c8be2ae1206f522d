// SPDX-License-Identifier: Apache-2.0

// Package store keeps secrets in PostgreSQL, encrypted: the data opens only with the root key, which is derived at unseal
// and never leaves memory.
package store

import (
	"context"
	"embed"
	"errors"
	"io"
	"time"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// Migrations are the goose migrations of Vault's schema, in directory "migrations".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Sentinel errors of Vault, for errors.Is; everything else is the database's.
var (
	// ErrSealed: the root key is not in memory. Unseal first.
	ErrSealed = errors.New("vault is sealed")
	// ErrUninitialized: there is no root key yet. Init first.
	ErrUninitialized = errors.New("vault is not initialized")
	// ErrInitialized: there already is a root key.
	ErrInitialized = errors.New("vault is already initialized")
	// ErrPassphrase: the passphrase, or the secret of the shares, is wrong.
	ErrPassphrase = errors.New("the passphrase or the shares are wrong")
	// ErrNotFound: no secret has this path, or it has no such version.
	ErrNotFound = errors.New("not found")
	// ErrExists: another secret has this path.
	ErrExists = errors.New("already exists")
	// ErrStale: check-and-set names a version that is not the newest.
	ErrStale = errors.New("there is a newer version")
	// ErrDeleted: the version is soft-deleted; undelete restores it.
	ErrDeleted = errors.New("the version is deleted")
	// ErrDestroyed: the version's value is permanently removed.
	ErrDestroyed = errors.New("the version is destroyed")
	// ErrNotGenerated: only a generated or an issued secret can be rotated.
	ErrNotGenerated = errors.New("the secret is neither generated nor issued")
	// ErrCorrupt: a row does not open: moved, cut, forged or damaged.
	ErrCorrupt = errors.New("the stored value does not open")
	// ErrStreamed: the value is a File that is too large to be read as a whole; Content reads it.
	ErrStreamed = errors.New("the file is read as a stream")
	// ErrChanged: another writer added a version during an upload, which cannot be repeated.
	ErrChanged = errors.New("another version was written meanwhile")
	// ErrBusy: the limit of concurrent uploads is reached.
	ErrBusy = errors.New("too many files are being written")
	// ErrInvalid: the request is invalid; errors.As finds a *material.FieldError that names the field.
	ErrInvalid = errors.New("invalid")
)

// Options of a Vault.
type Options struct {
	// Namespace is the one the Vault serves. Every row is bound to it.
	Namespace string
	// RewrapBatch is how many data keys one transaction re-wraps; 200 if zero.
	RewrapBatch int
	// RetireAfter is how long an older root key stays after its last use, so that every replica can reach the new one
	// from it by Refresh; a minute if zero, at once if negative.
	RetireAfter time.Duration
	// MaxFileBytes limits a File; DefaultMaxFileBytes if zero.
	MaxFileBytes int64
	// Uploads limits the files that are written at one time, each with a connection of its own; a quarter of the pool's,
	// 4 at most, if zero.
	Uploads int

	iterations int // of PBKDF2, for tests; keyring.Iterations when zero
}

// ListOptions select what List returns.
type ListOptions struct {
	Prefix string // of the path; empty: all
	Type   string // empty: all
	After  string // the last path of the previous page; empty: the first page
	Limit  int    // 1 to 1000; 100 when zero
}

// VersionsOptions select what Versions returns, the newest first.
type VersionsOptions struct {
	Before int64 // the last version of the previous page; 0: the first page
	Limit  int   // 1 to 1000; 100 when zero
}

// Upload describes a file besides its content.
type Upload struct {
	Filename  string // may be empty
	Metadata  map[string]string
	ExpiresAt *time.Time
	// CheckAndSet is the newest version that the writer knows, 0 for none; nil: not checked.
	CheckAndSet *int64
	// Replace refuses to create a secret.
	Replace bool
}

// Rotated is a new generation of the root key.
type Rotated struct {
	KeyID string
	// Shares of the new unseal secret, if shares were requested. They are shown once and stored nowhere.
	Shares []string
}

// Vault holds the secrets of one namespace. It is safe for concurrent use. Every write is one transaction, durable when
// the method returns without error. A write that returns an error of the database (a connection lost during commit) may
// have happened. "by" is the author, stored with the version. Besides those that are named, every method that touches a
// value returns ErrSealed, ErrCorrupt and the database's errors.
type Vault interface {
	Keys
	Files

	// List returns secrets in the order of their paths, and whether there are more. Sealed or not. ErrInvalid.
	List(ctx context.Context, options ListOptions) (secrets []wire.Secret, more bool, err error)
	// Get returns a secret without its value. Sealed or not. ErrNotFound.
	Get(ctx context.Context, path string) (wire.Secret, error)
	// Versions returns versions, the newest first, and whether there are more. Sealed or not. ErrNotFound.
	Versions(ctx context.Context, path string, options VersionsOptions) (versions []wire.Version, more bool, err error)
	// Read returns a version with its value; version 0 is the newest. ErrNotFound, ErrDeleted, ErrDestroyed.
	Read(ctx context.Context, path string, version int64) (wire.Read, error)
	// Diff compares the fields of two versions by HMAC; to 0 is the newest, from 0 the one before to. Errors as Read.
	Diff(ctx context.Context, path string, from, to int64) ([]wire.FieldDiff, error)
	// MAC returns the HMAC of a value under a key of the namespace: equal for equal values, also after a key rotation.
	MAC(ctx context.Context, value wire.Value) (string, error)

	// Create stores a secret with version 1. ErrExists (deleted secrets exist too), ErrInvalid.
	Create(ctx context.Context, path string, write wire.Write, by string) (wire.Secret, error)
	// Put adds a new version; an empty type is the secret's. ErrNotFound, ErrStale, ErrInvalid.
	Put(ctx context.Context, path string, write wire.Write, by string) (wire.Secret, error)
	// Apply stores the value that a resource declares, once: see wire.Apply. A declared value that equals the newest
	// version's adds none, and a generated or issued one is replaced only for another recipe or a new rotation token.
	// Changed metadata add a version with the same value. A newest version that is not live is replaced. ErrInvalid (also
	// for a forged or moved sealed value).
	Apply(ctx context.Context, path string, apply wire.Apply, by string) (wire.Applied, error)
	// Rotate adds a new version of a generated or issued secret. ErrNotFound, ErrNotGenerated.
	Rotate(ctx context.Context, path, by string) (wire.Secret, error)
	// Rollback adds a new version with the value, metadata and expiry of an older one. Errors as Read.
	Rollback(ctx context.Context, path string, version int64, by string) (wire.Secret, error)

	// Delete soft-deletes all versions. ErrNotFound.
	Delete(ctx context.Context, path string) error
	// Destroy permanently removes the secret, its versions and its data keys. ErrNotFound.
	Destroy(ctx context.Context, path string) error
	// DeleteVersion soft-deletes one version, UndeleteVersion restores it, DestroyVersion overwrites its value with null.
	// Each may be repeated. ErrNotFound; ErrDestroyed for the first two.
	DeleteVersion(ctx context.Context, path string, version int64) error
	UndeleteVersion(ctx context.Context, path string, version int64) error
	DestroyVersion(ctx context.Context, path string, version int64) error
}

// Files streams secrets of type File. One of up to 1 MiB is stored and read like any value; a larger one is stored in
// parts, and Read returns ErrStreamed.
type Files interface {
	// Upload adds a version of a File with the content, and creates the secret if there is none. It holds at most 1 MiB
	// of it in memory. If reading content fails, Upload returns that error and nothing was stored. ErrNotFound,
	// ErrExists, ErrStale, ErrChanged, ErrBusy, ErrInvalid.
	Upload(ctx context.Context, path string, upload Upload, content io.Reader, by string) (wire.Secret, error)
	// Content opens a version of a File; version 0 is the newest. By then it is certain that no part is missing and that
	// the first one opens; reading the rest may fail with ErrCorrupt, ErrSealed and, if it was destroyed meanwhile,
	// ErrCorrupt. ErrNotFound, ErrDeleted, ErrDestroyed, ErrInvalid for other types.
	Content(ctx context.Context, path string, version int64) (*Content, error)
}

// Keys manages the keys of a Vault.
type Keys interface {
	// Open unseals with a passphrase, and initializes first if there is no root key. ErrPassphrase.
	Open(ctx context.Context, passphrase []byte) error
	// Init creates the root key and unseals. ErrInitialized.
	Init(ctx context.Context, passphrase []byte) error
	// InitShares creates the root key from a random secret, split into shares of which threshold (2 to 255) are needed,
	// and unseals. The shares are returned once and stored nowhere. ErrInitialized, ErrInvalid.
	InitShares(ctx context.Context, shares, threshold int) ([]string, error)
	// Wrapped returns the unseal secret as it was wrapped outside the Vault: by wrap, if none is stored yet. Of replicas
	// that start together, the first one's is used. ErrInitialized if there is a root key without a wrapped secret.
	Wrapped(ctx context.Context, wrap func(secret []byte) ([]byte, error)) ([]byte, error)
	// Unseal derives the root key (an eighth of a second). ErrUninitialized, ErrPassphrase.
	Unseal(ctx context.Context, passphrase []byte) error
	// UnsealShare submits one share; the one that reaches the threshold unseals, and all of them are discarded.
	// ErrUninitialized, ErrInvalid (not a share, one of another set, or this vault has a passphrase), ErrPassphrase.
	UnsealShare(ctx context.Context, share string) (wire.SealStatus, error)
	// Seal discards the keys.
	Seal()
	// Sealed reports whether the keys are missing from memory, without the database.
	Sealed() bool
	// Refresh loads root keys that other replicas created and retires unused ones. Call it every few seconds. ErrSealed
	// if the newest root key cannot be reached from the one in memory: unseal again.
	Refresh(ctx context.Context) error
	// Status reports whether values can be read and the progress of a re-wrap. Counts are at most a second old.
	Status(ctx context.Context) (wire.SealStatus, error)
	// RotateRoot creates a new generation of the root key from the passphrase, which may be a new one: from then on only
	// that one unseals. Data keys stay wrapped by the older generation until Rewrap. ErrSealed.
	RotateRoot(ctx context.Context, passphrase []byte) (Rotated, error)
	// RotateRootShares does the same with new shares. ErrSealed, ErrInvalid.
	RotateRootShares(ctx context.Context, shares, threshold int) (Rotated, error)
	// Rewrap wraps data keys by the newest root key, batch after batch, until none is stale or the context ends; it
	// continues where another call or replica stopped. Keys that do not open stay, and are counted in ErrCorrupt.
	Rewrap(ctx context.Context) error
	// SealingKey returns the newest key that values are sealed to, created on first use.
	SealingKey(ctx context.Context) (wire.SealingKey, error)
	// RotateSealingKey creates a new one. Values that were sealed to older ones still open.
	RotateSealingKey(ctx context.Context) (wire.SealingKey, error)
}
