// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

// draft is a version to be written. Close it.
type draft struct {
	Type      string
	plaintext []byte
	metadata  map[string]string
	expiresAt *time.Time
	by        string
	declared  *declaration // nil: the stored one stays
	content   *content     // nil: the plaintext is the value
}

// content refers to the parts, which the transaction has already written.
type content struct {
	id   string
	size int64
	key  *keyring.DataKey // the secret's key, which the parts are sealed under
}

// columns returns those of the version's row.
func (c *content) columns() (id *string, size *int64) {
	if c == nil {
		return nil, nil
	}
	return &c.id, &c.size
}

// declaration is what is stored of an Apply.
type declaration struct {
	sourceHash, rotation string
	recipe               *recipe
}

// recipe describes how a value is generated; nil fields: it is given.
type recipe struct {
	Generate *wire.Generate `json:"generate,omitempty"`
	Issue    *wire.Issue    `json:"issue,omitempty"`
}

func (r *recipe) json() ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return json.Marshal(r)
}

// newDraft checks a value and encodes it.
func newDraft(secretType string, value wire.Value, metadata map[string]string, expiresAt *time.Time, by string) (*draft, error) {
	if err := checkMetadata(metadata); err != nil {
		return nil, err
	}
	expiry, err := material.Check(secretType, value)
	if err != nil {
		return nil, invalid(err)
	}
	if expiry == nil || (expiresAt != nil && expiresAt.Before(*expiry)) {
		expiry = expiresAt
	}
	plaintext, err := material.Encode(value)
	if err != nil {
		return nil, invalid(err)
	}
	return &draft{Type: secretType, plaintext: plaintext, metadata: metadata, expiresAt: utc(expiry), by: by}, nil
}

func (d *draft) Close() { keyring.Zero(d.plaintext) }

// head holds what a writer needs of a secret.
type head struct {
	id         int64
	Type       string
	version    int64
	createdAt  time.Time
	sourceHash string
	rotation   string
	recipe     *recipe
	key        dataKeyRow
}

// head reads a secret; lock blocks other writers until the transaction ends. ErrNotFound.
func (v *store) head(ctx context.Context, q querier, path string, lock bool) (head, error) {
	sql := `SELECT s.id, s.type, s.version, s.created_at, s.source_hash, s.rotation, s.recipe, k.id::text, k.root_key_id, k.wrapped
		FROM secrets s JOIN data_keys k ON k.id = s.data_key_id WHERE s.namespace = $1 AND s.path = $2`
	if lock {
		sql += ` FOR NO KEY UPDATE OF s`
	}
	var h head
	err := q.QueryRow(ctx, sql, v.options.Namespace, path).Scan(&h.id, &h.Type, &h.version, &h.createdAt, &h.sourceHash, &h.rotation,
		&h.recipe, &h.key.ID, &h.key.RootKeyID, &h.key.Wrapped)
	h.key.Namespace, h.key.Purpose, h.key.Subject = v.options.Namespace, keyring.PurposeSecret, path
	return h, found("secret", err)
}

func (v *store) Create(ctx context.Context, path string, write wire.Write, by string) (secret wire.Secret, err error) {
	if err := CheckPath(path); err != nil {
		return secret, err
	}
	if cas := write.CheckAndSet; cas != nil && *cas != 0 {
		return secret, ErrStale
	}
	d, err := newDraft(write.Type, write.Value, write.Metadata, write.ExpiresAt, by)
	if err != nil {
		return secret, err
	}
	defer d.Close()
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
		secret, err = v.create(ctx, v.pool, keys, path, d)
		return err
	})
	return secret, err
}

// create writes a secret with its data key and its first version, in one statement. ErrExists.
func (v *store) create(ctx context.Context, q querier, keys *keyring.Keyring, path string, d *draft) (wire.Secret, error) {
	secret := wire.Secret{Namespace: v.options.Namespace, Path: path, Type: d.Type, Version: 1, Versions: 1,
		Metadata: d.metadata, ExpiresAt: d.expiresAt, State: wire.StateLive}
	contentID, size := d.content.columns()
	var key *keyring.DataKey
	if d.content != nil {
		key, secret.Size = d.content.key, d.content.size
	} else {
		key = keyring.NewDataKey()
		defer key.Close()
	}
	row, err := v.newDataKey(keys, keyring.PurposeSecret, path, key)
	if err != nil {
		return secret, err
	}
	ciphertext, err := key.Seal(v.binding(path, 1, d.Type), d.plaintext)
	if err != nil {
		return secret, err
	}
	declared := d.declared
	if declared == nil {
		declared = &declaration{}
	}
	recipe, err := declared.recipe.json()
	if err != nil {
		return secret, err
	}
	err = q.QueryRow(ctx, `
		WITH key AS (`+insertDataKey+` RETURNING id),
		head AS (INSERT INTO secrets (namespace, path, type, version, data_key_id, source_hash, rotation, recipe)
			SELECT $2, $4, $7, 1, id, $8, $9, $10 FROM key RETURNING id)
		INSERT INTO versions (secret_id, version, data_key_id, ciphertext, metadata, created_by, expires_at, content_id, size)
		SELECT id, 1, $1, $11, $12, $13, $14, $15, $16 FROM head RETURNING created_at`,
		append(row.args(), d.Type, declared.sourceHash, declared.rotation, recipe, ciphertext, d.metadata, d.by, d.expiresAt, contentID, size)...).
		Scan(&secret.CreatedAt)
	if db.IsUnique(err, "secrets_namespace_path_key") {
		return secret, ErrExists
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return secret, errOutdated
	}
	if err != nil {
		return secret, fmt.Errorf("write secret: %w", err)
	}
	secret.UpdatedAt, secret.KeyID = secret.CreatedAt, row.ID
	return secret, nil
}

func (v *store) Put(ctx context.Context, path string, write wire.Write, by string) (secret wire.Secret, err error) {
	if err := CheckPath(path); err != nil {
		return secret, err
	}
	err = v.append(ctx, path, func(_ *keyring.Keyring, _ querier, h head) (*draft, error) {
		if cas := write.CheckAndSet; cas != nil && *cas != h.version {
			return nil, ErrStale
		}
		if write.Type != "" && write.Type != h.Type {
			return nil, invalid(material.Invalid("type", "the secret is of type %s", h.Type))
		}
		return newDraft(h.Type, write.Value, write.Metadata, write.ExpiresAt, by)
	}, &secret)
	return secret, err
}

// optimistic is how often a writer tries without a lock, which takes one round trip less and blocks no one.
const optimistic = 2

// append writes the version that plan builds from the head. plan may run several times, and each draft is closed.
func (v *store) append(ctx context.Context, path string, plan func(*keyring.Keyring, querier, head) (*draft, error), secret *wire.Secret) error {
	return v.withKeys(ctx, func(keys *keyring.Keyring, attempt int) error {
		write := func(q querier, lock bool) error {
			h, err := v.head(ctx, q, path, lock)
			if err != nil {
				return err
			}
			d, err := plan(keys, q, h)
			if err != nil {
				return err
			}
			defer d.Close()
			*secret, err = v.add(ctx, q, keys, path, h, d)
			return err
		}
		if attempt < optimistic {
			return write(v.pool, false)
		}
		return db.InTx(ctx, v.pool, func(tx pgx.Tx) error { return write(tx, true) })
	})
}

// add writes the version after the head's, in one statement; errAgain if the head is no longer the newest.
func (v *store) add(ctx context.Context, q querier, keys *keyring.Keyring, path string, h head, d *draft) (wire.Secret, error) {
	secret := wire.Secret{Namespace: v.options.Namespace, Path: path, Type: h.Type, Version: h.version + 1, Versions: h.version + 1,
		Metadata: d.metadata, ExpiresAt: d.expiresAt, State: wire.StateLive, CreatedAt: h.createdAt, KeyID: h.key.ID}
	key, err := h.key.open(keys)
	if err != nil {
		return secret, err
	}
	defer key.Close()
	ciphertext, err := key.Seal(v.binding(path, secret.Version, h.Type), d.plaintext)
	if err != nil {
		return secret, err
	}
	active, err := keys.Active()
	if err != nil {
		return secret, err
	}
	secret.KeyStale = h.key.RootKeyID != active.ID()
	contentID, size := d.content.columns()
	if d.content != nil {
		secret.Size = d.content.size
	}
	var sourceHash, rotation *string
	var recipe []byte
	if d.declared != nil {
		sourceHash, rotation = &d.declared.sourceHash, &d.declared.rotation
		if recipe, err = d.declared.recipe.json(); err != nil {
			return secret, err
		}
	}
	err = q.QueryRow(ctx, `
		WITH head AS (UPDATE secrets SET version = $2, updated_at = now(), source_hash = coalesce($8, source_hash),
				rotation = coalesce($9, rotation), recipe = CASE WHEN $8::text IS NULL THEN recipe ELSE $10 END
			WHERE id = $1 AND version = $2 - 1 RETURNING id)
		INSERT INTO versions (secret_id, version, data_key_id, ciphertext, metadata, created_by, expires_at, content_id, size)
		SELECT id, $2, $3, $4, $5, $6, $7, $11, $12 FROM head RETURNING created_at`,
		h.id, secret.Version, h.key.ID, ciphertext, d.metadata, d.by, d.expiresAt, sourceHash, rotation, recipe, contentID, size).
		Scan(&secret.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return secret, errAgain
	}
	if err != nil {
		return secret, fmt.Errorf("write version: %w", err)
	}
	return secret, nil
}

func (v *store) Rollback(ctx context.Context, path string, version int64, by string) (secret wire.Secret, err error) {
	if err := CheckPath(path); err != nil {
		return secret, err
	}
	if version < 1 {
		return secret, invalid(material.Invalid("version", "must be 1 or above"))
	}
	err = v.append(ctx, path, func(keys *keyring.Keyring, q querier, h head) (*draft, error) {
		x, err := v.version(ctx, q, path, version)
		if err != nil {
			return nil, err
		}
		plaintext, err := v.open(keys, path, x)
		if err != nil {
			return nil, err
		}
		if material.IsManifest(plaintext) {
			return nil, ErrStreamed
		}
		return &draft{Type: h.Type, plaintext: plaintext, metadata: x.Metadata, expiresAt: x.ExpiresAt, by: by}, nil
	}, &secret)
	if errors.Is(err, ErrStreamed) {
		return v.rollbackContent(ctx, path, version, by)
	}
	return secret, err
}
