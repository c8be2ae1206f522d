// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

const stateColumn = `CASE WHEN v.destroyed_at IS NOT NULL THEN 'destroyed' WHEN v.deleted_at IS NOT NULL THEN 'deleted' ELSE 'live' END`

// secretQuery reads secrets with their newest versions: one index lookup each, however many versions exist.
const secretQuery = `
	SELECT s.namespace, s.path, s.type, s.version, v.metadata, s.created_at, s.updated_at, v.expires_at, coalesce(v.size, 0),
		coalesce(v.data_key_id::text, ''), coalesce(k.root_key_id <> (SELECT id FROM root_keys WHERE active), false), ` + stateColumn + `
	FROM secrets s JOIN versions v ON v.secret_id = s.id AND v.version = s.version LEFT JOIN data_keys k ON k.id = v.data_key_id `

// versionsQuery walks the primary key backwards from the start of the page, whatever the planner's statistics: a secret
// of 1,000 versions costs as much as one of ten.
const versionsQuery = `
	SELECT v.version, v.created_at, v.created_by, v.expires_at, ` + stateColumn + `, v.metadata, coalesce(v.data_key_id::text, ''),
		coalesce(v.size, 0)
	FROM secrets s CROSS JOIN LATERAL (
		SELECT * FROM versions WHERE secret_id = s.id AND version < coalesce(nullif($3::bigint, 0), 9223372036854775807)
		ORDER BY version DESC LIMIT $4) v
	WHERE s.namespace = $1 AND s.path = $2
	ORDER BY v.version DESC`

const versionQuery = `
	SELECT s.type, v.version, v.created_at, v.created_by, v.expires_at, ` + stateColumn + `, v.metadata, coalesce(v.size, 0), v.ciphertext,
		k.id::text, k.root_key_id, k.wrapped
	FROM secrets s JOIN versions v ON v.secret_id = s.id AND v.version = coalesce(nullif($3::bigint, 0), s.version)
	LEFT JOIN data_keys k ON k.id = v.data_key_id
	WHERE s.namespace = $1 AND s.path = $2`

func scanSecret(row pgx.CollectableRow) (wire.Secret, error) {
	var s wire.Secret
	err := row.Scan(&s.Namespace, &s.Path, &s.Type, &s.Version, &s.Metadata, &s.CreatedAt, &s.UpdatedAt, &s.ExpiresAt, &s.Size,
		&s.KeyID, &s.KeyStale, &s.State)
	s.Versions = s.Version // append-only from 1: none is ever missing
	return s, err
}

func (v *store) List(ctx context.Context, options ListOptions) ([]wire.Secret, bool, error) {
	size, err := limit(options.Limit)
	if err != nil {
		return nil, false, err
	}
	if len(options.Prefix) > maxPath || !prefixForm.MatchString(options.Prefix) {
		return nil, false, invalid(material.Invalid("prefix", "must have at most %d of the characters of a path", maxPath))
	}
	if len(options.After) > maxPath || !prefixForm.MatchString(options.After) {
		return nil, false, invalid(material.Invalid("after", "must be a path"))
	}
	if options.Type != "" && !material.IsType(options.Type) {
		return nil, false, invalid(material.Invalid("type", "must be Text, File, Certificate or APIKey"))
	}
	// Every character of a path sorts before DEL in collation C.
	rows, err := v.pool.Query(ctx, secretQuery+`
		WHERE s.namespace = $1 AND s.path >= $2 AND s.path < $2 || chr(127) AND s.path > $3 AND ($4 = '' OR s.type = $4)
		ORDER BY s.path LIMIT $5`, v.options.Namespace, options.Prefix, options.After, options.Type, size+1)
	if err != nil {
		return nil, false, fmt.Errorf("list secrets: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSecret)
	if err != nil {
		return nil, false, fmt.Errorf("list secrets: %w", err)
	}
	return list[:min(size, len(list))], len(list) > size, nil
}

func (v *store) Get(ctx context.Context, path string) (wire.Secret, error) {
	return v.get(ctx, v.pool, path)
}

func (v *store) get(ctx context.Context, q querier, path string) (wire.Secret, error) {
	if err := CheckPath(path); err != nil {
		return wire.Secret{}, err
	}
	rows, err := q.Query(ctx, secretQuery+`WHERE s.namespace = $1 AND s.path = $2`, v.options.Namespace, path)
	if err != nil {
		return wire.Secret{}, fmt.Errorf("read secret: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSecret)
	return s, found("secret", err)
}

func (v *store) Versions(ctx context.Context, path string, options VersionsOptions) ([]wire.Version, bool, error) {
	size, err := limit(options.Limit)
	if err != nil {
		return nil, false, err
	}
	if err := CheckPath(path); err != nil {
		return nil, false, err
	}
	rows, err := v.pool.Query(ctx, versionsQuery, v.options.Namespace, path, options.Before, size+1)
	if err != nil {
		return nil, false, fmt.Errorf("list versions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.Version, error) {
		var x wire.Version
		err := row.Scan(&x.Version, &x.CreatedAt, &x.CreatedBy, &x.ExpiresAt, &x.State, &x.Metadata, &x.KeyID, &x.Size)
		return x, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list versions: %w", err)
	}
	if len(list) == 0 && options.Before == 0 { // a secret has at least one
		return nil, false, fmt.Errorf("secret: %w", ErrNotFound)
	}
	return list[:min(size, len(list))], len(list) > size, nil
}

// stored is a version as it is stored, with its data key.
type stored struct {
	wire.Version
	Type       string
	ciphertext []byte
	key        dataKeyRow
}

// version reads one version; 0 is the newest. ErrNotFound, ErrDeleted, ErrDestroyed.
func (v *store) version(ctx context.Context, q querier, path string, number int64) (stored, error) {
	var x stored
	var keyID, rootID *string
	err := q.QueryRow(ctx, versionQuery, v.options.Namespace, path, number).
		Scan(&x.Type, &x.Version.Version, &x.CreatedAt, &x.CreatedBy, &x.ExpiresAt, &x.State, &x.Metadata, &x.Size, &x.ciphertext,
			&keyID, &rootID, &x.key.Wrapped)
	if err := found("version", err); err != nil {
		return x, err
	}
	switch x.State {
	case wire.StateDeleted:
		return x, ErrDeleted
	case wire.StateDestroyed:
		return x, ErrDestroyed
	}
	if keyID == nil {
		return x, fmt.Errorf("version %d has no data key: %w", x.Version.Version, ErrCorrupt)
	}
	// The expected label, not what the row says: a row that was moved does not open.
	x.key.Label = keyring.Label{ID: *keyID, Namespace: v.options.Namespace, Purpose: keyring.PurposeSecret, Subject: path}
	x.key.RootKeyID, x.KeyID = *rootID, *keyID
	return x, nil
}

// open decrypts a version; the caller zeroes the plaintext.
func (v *store) open(keys *keyring.Keyring, path string, x stored) ([]byte, error) {
	key, err := x.key.open(keys)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	plaintext, err := key.Open(v.binding(path, x.Version.Version, x.Type), x.ciphertext)
	if err != nil {
		return nil, fmt.Errorf("version %d: %w", x.Version.Version, err)
	}
	return plaintext, nil
}

func (v *store) binding(path string, version int64, secretType string) keyring.Binding {
	return keyring.Binding{Namespace: v.options.Namespace, Path: path, Version: version, Type: secretType}
}

func (v *store) Read(ctx context.Context, path string, version int64) (read wire.Read, err error) {
	if err := CheckPath(path); err != nil {
		return read, err
	}
	if version < 0 {
		return read, invalid(material.Invalid("version", "must be 0, the newest, or above"))
	}
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) error {
		x, err := v.version(ctx, v.reads, path, version)
		if err != nil {
			return err
		}
		plaintext, err := v.open(keys, path, x)
		if err != nil {
			return err
		}
		defer keyring.Zero(plaintext)
		if material.IsManifest(plaintext) {
			return ErrStreamed
		}
		value, err := material.Decode(plaintext)
		read = wire.Read{Version: x.Version, Type: x.Type, Value: value}
		return err
	})
	return read, err
}

func (v *store) MAC(ctx context.Context, value wire.Value) (text string, err error) {
	plaintext, err := material.Encode(value)
	if err != nil {
		return "", invalid(err)
	}
	defer keyring.Zero(plaintext)
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) error {
		key, err := v.macKey(ctx, keys)
		if err != nil {
			return err
		}
		defer key.Close()
		sum, err := key.MAC([]byte("value"), plaintext)
		text = hex.EncodeToString(sum)
		return err
	})
	return text, err
}

// utc rounds times as the database does.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC().Truncate(time.Microsecond)
	return &u
}
