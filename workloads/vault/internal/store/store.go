// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

const (
	maxPath  = 253
	maxLimit = 1000

	defaultLimit       = 100
	defaultRewrapBatch = 200
	defaultRetireAfter = time.Minute

	// DefaultMaxFileBytes limits a File.
	DefaultMaxFileBytes = 64 << 20
	maxUploads          = 4

	maxMetadata      = 32
	maxMetadataValue = 256
)

var (
	pathForm     = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`)
	tokenForm    = regexp.MustCompile(`^[ -~]{0,256}$`)
	prefixForm   = regexp.MustCompile(`^[a-z0-9._/-]*$`)
	metadataForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
)

// store implements Vault.
type store struct {
	pool    *pgxpool.Pool
	reads   *db.Together // of values
	options Options

	mu     sync.RWMutex
	keys   *keyring.Keyring // nil: sealed
	shares []keyring.Share

	uploads chan struct{} // holds one element per file being written

	statusMu sync.Mutex
	counted  counts
}

// New opens a Vault, sealed, on a pool whose search_path is the schema that Migrations were applied to.
func New(pool *pgxpool.Pool, options Options) Vault {
	if options.RewrapBatch == 0 {
		options.RewrapBatch = defaultRewrapBatch
	}
	if options.RetireAfter == 0 {
		options.RetireAfter = defaultRetireAfter
	}
	if options.iterations == 0 {
		options.iterations = keyring.Iterations
	}
	if options.MaxFileBytes == 0 {
		options.MaxFileBytes = DefaultMaxFileBytes
	}
	if options.Uploads == 0 {
		options.Uploads = min(maxUploads, max(1, int(pool.Config().MaxConns)/4)) // the rest is for requests that do not wait for a client
	}
	return &store{pool: pool, reads: db.NewTogether(pool), options: options, uploads: make(chan struct{}, options.Uploads)}
}

// CheckPath refuses an invalid path of a secret, with a *material.FieldError under ErrInvalid.
func CheckPath(path string) error { return checkPath("path", path) }

func checkPath(field, path string) error {
	if len(path) > maxPath || !pathForm.MatchString(path) {
		return invalid(material.Invalid(field, "must have at most %d characters: segments of a-z, 0-9, '.', '_' and '-' between slashes, "+
			"each starting and ending with a letter or digit", maxPath))
	}
	return nil
}

func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

func checkMetadata(metadata map[string]string) error {
	if len(metadata) > maxMetadata {
		return invalid(material.Invalid("metadata", "must have at most %d entries", maxMetadata))
	}
	for name, value := range metadata {
		if !metadataForm.MatchString(name) {
			return invalid(material.Invalid("metadata", "a name must have at most 63 letters, digits, '.', '_', '-' and '/'"))
		}
		printable := strings.ToValidUTF8(value, "") == value && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
		if len(value) > maxMetadataValue || !printable {
			return invalid(material.Invalid("metadata."+name, "must have at most %d bytes of text on one line", maxMetadataValue))
		}
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// errAgain: another writer was faster. The operation is retried.
var errAgain = errors.New("changed meanwhile")

const attempts = 10

// withKeys runs an operation with the keyring, and again if another writer was faster or created a new root key.
func (v *store) withKeys(ctx context.Context, operation func(keys *keyring.Keyring, attempt int) error) error {
	var err error
	for attempt := range attempts {
		keys := v.keyring()
		if keys == nil {
			return ErrSealed
		}
		err = operation(keys, attempt)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAgain):
		case errors.Is(err, errOutdated), errors.Is(err, keyring.ErrUnknownKey), code(err) == foreignKeyViolation:
			if err := v.Refresh(ctx); err != nil {
				return err
			}
			if attempt > 1 && errors.Is(err, keyring.ErrUnknownKey) {
				return translate(err)
			}
		case errors.Is(err, keyring.ErrClosed) && v.keyring() != nil: // unsealed again, or the root key was retired meanwhile
		default:
			return translate(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return translate(err)
}

func (v *store) keyring() *keyring.Keyring {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.keys
}

// translate wraps the keyring's errors in the store's sentinels.
func translate(err error) error {
	switch {
	case errors.Is(err, keyring.ErrOpen), errors.Is(err, keyring.ErrUnknownKey), errors.Is(err, material.ErrEncoding):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, keyring.ErrClosed):
		return ErrSealed
	}
	return err
}

// SQLSTATE codes that are handled.
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
)

func code(err error) string {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// found turns "no rows" into ErrNotFound, and adds what failed to other errors.
func found(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func limit(asked int) (int, error) {
	switch {
	case asked == 0:
		return defaultLimit, nil
	case asked < 0 || asked > maxLimit:
		return 0, invalid(material.Invalid("limit", "must be 1 to %d", maxLimit))
	}
	return asked, nil
}
