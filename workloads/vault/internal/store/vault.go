// SPDX-License-Identifier: Apache-2.0

// Package store keeps secrets in PostgreSQL, encrypted: what is written there opens only with the root key, which is
// derived at unseal and lives in memory alone.
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

// Sentinel errors of Vault. errors.Is decides; everything else is the database's.
var (
	// ErrSealed: the root key is not in memory. Unseal first.
	ErrSealed = errors.New("vault is sealed")
	// ErrUninitialized: there is no root key yet. Init first.
	ErrUninitialized = errors.New("vault is not initialized")
	// ErrInitialized: there is a root key already.
	ErrInitialized = errors.New("vault is initialized already")
	// ErrPassphrase: the passphrase, or the secret that the shares give, is not the one.
	ErrPassphrase = errors.New("the passphrase or the shares are wrong")
	// ErrNotFound: no secret has this path, or it has no such version.
	ErrNotFound = errors.New("not found")
	// ErrExists: a secret has this path already.
	ErrExists = errors.New("exists already")
	// ErrStale: check-and-set names a version that is not the newest.
	ErrStale = errors.New("the newest version is another one")
	// ErrDeleted: the version is soft-deleted; undelete brings it back.
	ErrDeleted = errors.New("the version is deleted")
	// ErrDestroyed: the version's value is gone forever.
	ErrDestroyed = errors.New("the version is destroyed")
	// ErrNotGenerated: only a generated or an issued secret can be rotated.
	ErrNotGenerated = errors.New("the secret is neither generated nor issued")
	// ErrCorrupt: a row does not open: moved, cut, forged or damaged.
	ErrCorrupt = errors.New("the stored value does not open")
	// ErrStreamed: the value is a File that is too large to be read as a whole; Content reads it.
	ErrStreamed = errors.New("the file is read as a stream")
	// ErrChanged: somebody else wrote a version while a file was on its way, which cannot be sent twice.
	ErrChanged = errors.New("another version was written meanwhile")
	// ErrBusy: as many files are on their way as may be at one time.
	ErrBusy = errors.New("too many files are being written")
	// ErrInvalid: the request is refused as it stands; errors.As finds a *material.FieldError that names the field.
	ErrInvalid = errors.New("invalid")
)

// Options of a Vault.
type Options struct {
	// Namespace is the one that the Vault serves. Every row is bound to it.
	Namespace string
	// RewrapBatch is how many data keys one transaction wraps again; 200 when zero.
	RewrapBatch int
	// RetireAfter is how long an older root key stays after its last use, so that every replica learns the new one from
	// it by Refresh; a minute when zero, at once when negative.
	RetireAfter time.Duration
	// MaxFileBytes bounds a File; DefaultMaxFileBytes when zero.
	MaxFileBytes int64
	// Uploads is how many files are written at one time, each with a connection of its own; a quarter of the pool's, 4 at most, when
	// zero.
	Uploads int

	iterations int // of PBKDF2, for tests; keyring.Iterations when zero
}

// ListOptions choose what List gives.
type ListOptions struct {
	Prefix string // of the path; empty: all
	Type   string // empty: all
	After  string // the last path of the page before; empty: the first page
	Limit  int    // 1 to 1000; 100 when zero
}

// VersionsOptions choose what Versions gives, the newest first.
type VersionsOptions struct {
	Before int64 // the last version of the page before; 0: the first page
	Limit  int   // 1 to 1000; 100 when zero
}

// Upload is the metadata of a file.
type Upload struct {
	Filename  string // may be empty
	Metadata  map[string]string
	ExpiresAt *time.Time
	// CheckAndSet is the newest version that the writer knows of, 0 for none; nil: not checked.
	CheckAndSet *int64
	// Replace refuses to make a secret that is not there yet.
	Replace bool
}

// Rotated is a new generation of the root key.
type Rotated struct {
	KeyID string
	// Shares of the new unseal secret, when shares were asked for. They are shown once and kept nowhere.
	Shares []string
}

// Vault is the secrets of one namespace. It is safe for concurrent use. Every write is one transaction, durable when the
// method returns without error. A write that returns an error of the database (a connection lost during commit) may have
// happened. "by" is who does it, kept with the version. Besides those that are named, every method that touches a value
// returns ErrSealed, ErrCorrupt and the database's errors.
type Vault interface {
	Keys
	Files

	// List gives secrets in the order of their paths, and whether there are more. Sealed or not. ErrInvalid.
	List(ctx context.Context, options ListOptions) (secrets []wire.Secret, more bool, err error)
	// Get gives a secret without its value. Sealed or not. ErrNotFound.
	Get(ctx context.Context, path string) (wire.Secret, error)
	// Versions gives versions, the newest first, and whether there are more. Sealed or not. ErrNotFound.
	Versions(ctx context.Context, path string, options VersionsOptions) (versions []wire.Version, more bool, err error)
	// Read gives a version with its value; version 0 is the newest. ErrNotFound, ErrDeleted, ErrDestroyed.
	Read(ctx context.Context, path string, version int64) (wire.Read, error)
	// Diff compares the fields of two versions by HMAC; to 0 is the newest, from 0 the one before to. Errors as Read.
	Diff(ctx context.Context, path string, from, to int64) ([]wire.FieldDiff, error)
	// MAC is the HMAC of a value under a key of the namespace: equal for equal values, the same after a key rotation.
	MAC(ctx context.Context, value wire.Value) (string, error)

	// Create makes a secret with version 1. ErrExists (deleted secrets exist too), ErrInvalid.
	Create(ctx context.Context, path string, write wire.Write, by string) (wire.Secret, error)
	// Put makes a new version; an empty type is the secret's. ErrNotFound, ErrStale, ErrInvalid.
	Put(ctx context.Context, path string, write wire.Write, by string) (wire.Secret, error)
	// Apply makes the value that a resource declares, once: see wire.Apply. A declared value that equals the newest version's
	// makes none, and a generated or issued one is created again only for another recipe or a new rotation token. Other metadata
	// make a version with the same value. A newest version that is not live is replaced. ErrInvalid (a forged or moved
	// sealed value too).
	Apply(ctx context.Context, path string, apply wire.Apply, by string) (wire.Applied, error)
	// Rotate makes a new version of a generated or issued secret. ErrNotFound, ErrNotGenerated.
	Rotate(ctx context.Context, path, by string) (wire.Secret, error)
	// Rollback makes a new version with the value, metadata and expiry of an older one. Errors as Read.
	Rollback(ctx context.Context, path string, version int64, by string) (wire.Secret, error)

	// Delete soft-deletes all versions. ErrNotFound.
	Delete(ctx context.Context, path string) error
	// Destroy removes the secret, its versions and its data keys forever. ErrNotFound.
	Destroy(ctx context.Context, path string) error
	// DeleteVersion soft-deletes one version, UndeleteVersion brings it back, DestroyVersion overwrites its value with
	// null. Each may be repeated. ErrNotFound; ErrDestroyed for the first two.
	DeleteVersion(ctx context.Context, path string, version int64) error
	UndeleteVersion(ctx context.Context, path string, version int64) error
	DestroyVersion(ctx context.Context, path string, version int64) error
}

// Files are secrets of type File as streams. One of up to 1 MiB is stored and read like any value; a larger one is stored in
// parts, and Read answers ErrStreamed.
type Files interface {
	// Upload makes a new version of a File from what content gives until its end, and the secret when there is none. It holds
	// no more of it in memory than 1 MiB. When content fails, which is the error then, nothing was stored. ErrNotFound,
	// ErrExists, ErrStale, ErrChanged, ErrBusy, ErrInvalid.
	Upload(ctx context.Context, path string, upload Upload, content io.Reader, by string) (wire.Secret, error)
	// Content opens a version of a File; version 0 is the newest. That no part is missing, and that the first one opens, is
	// known then; reading the rest may fail by ErrCorrupt, ErrSealed and, when it was destroyed meanwhile, ErrCorrupt.
	// ErrNotFound, ErrDeleted, ErrDestroyed, ErrInvalid for other types.
	Content(ctx context.Context, path string, version int64) (*Content, error)
}

// Keys is the keyring of a Vault.
type Keys interface {
	// Open unseals with a passphrase, and initializes first when there is no root key. ErrPassphrase.
	Open(ctx context.Context, passphrase []byte) error
	// Init makes the root key and unseals. ErrInitialized.
	Init(ctx context.Context, passphrase []byte) error
	// InitShares makes the root key of a random secret, of which threshold (2 to 255) of so many shares are needed, and
	// unseals. The shares are shown once and kept nowhere. ErrInitialized, ErrInvalid.
	InitShares(ctx context.Context, shares, threshold int) ([]string, error)
	// Wrapped is the unseal secret in the form that something outside of the Vault has wrapped it: what wrap gives, when none
	// is stored yet. Of replicas that start together the first one's counts. ErrInitialized when there is a root key, and
	// no wrapped secret that it was made with.
	Wrapped(ctx context.Context, wrap func(secret []byte) ([]byte, error)) ([]byte, error)
	// Unseal derives the root key (an eighth of a second). ErrUninitialized, ErrPassphrase.
	Unseal(ctx context.Context, passphrase []byte) error
	// UnsealShare takes one share; the one that reaches the threshold unseals, and forgets them all.
	// ErrUninitialized, ErrInvalid (no share, one of another set, or this vault has a passphrase), ErrPassphrase.
	UnsealShare(ctx context.Context, share string) (wire.SealStatus, error)
	// Seal forgets the keys.
	Seal()
	// Sealed reports whether the keys are in memory, without the database.
	Sealed() bool
	// Refresh learns of root keys that other replicas made and retires those that nothing needs. Call it every few
	// seconds. ErrSealed when the newest root key cannot be reached from the one in memory: unseal again.
	Refresh(ctx context.Context) error
	// Status reports whether values can be read and how far a re-wrap is. Counts are at most a second old.
	Status(ctx context.Context) (wire.SealStatus, error)
	// RotateRoot makes a new generation of the root key from the passphrase, which may be a new one: from then on only
	// that one unseals. Data keys stay wrapped by the older generation until Rewrap. ErrSealed.
	RotateRoot(ctx context.Context, passphrase []byte) (Rotated, error)
	// RotateRootShares does so with new shares. ErrSealed, ErrInvalid.
	RotateRootShares(ctx context.Context, shares, threshold int) (Rotated, error)
	// Rewrap wraps data keys by the newest root key, batch after batch, until none is stale or the context ends; it
	// continues where another call or replica stopped. Keys that do not open stay, and are counted in ErrCorrupt.
	Rewrap(ctx context.Context) error
	// SealingKey is the newest key that values are sealed to, made on first use.
	SealingKey(ctx context.Context) (wire.SealingKey, error)
	// RotateSealingKey makes a new one. Values that were sealed to older ones still open.
	RotateSealingKey(ctx context.Context) (wire.SealingKey, error)
}
