// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/seal"
)

func (v *store) SealingKey(ctx context.Context) (key wire.SealingKey, err error) {
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
		key, err = v.sealingKey(ctx, keys)
		if errors.Is(err, pgx.ErrNoRows) {
			return v.newSealingKey(ctx, keys, false)
		}
		return err
	})
	return key, err
}

func (v *store) RotateSealingKey(ctx context.Context) (key wire.SealingKey, err error) {
	made := false
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
		if !made {
			if err := v.newSealingKey(ctx, keys, true); !errors.Is(err, errAgain) {
				return err
			}
			made = true
		}
		key, err = v.sealingKey(ctx, keys)
		return err
	})
	return key, err
}

// sealingKey returns the active one. Its public key is derived from the private key: an attacker who can write to the
// database, but does not know the root key, cannot make others seal to a key of his own.
func (v *store) sealingKey(ctx context.Context, keys *keyring.Keyring) (wire.SealingKey, error) {
	private, id, err := v.privateKey(ctx, v.pool, keys, "")
	if err != nil {
		return wire.SealingKey{}, err
	}
	defer private.Close()
	key, err := ecdh.X25519().NewPrivateKey(private.Bytes())
	if err != nil {
		return wire.SealingKey{}, fmt.Errorf("sealing key %s: %w", id, err)
	}
	public := key.PublicKey().Bytes()
	if seal.KeyID(public) != id {
		return wire.SealingKey{}, fmt.Errorf("sealing key %s: %w", id, ErrCorrupt)
	}
	return wire.SealingKey{ID: id, PublicKey: public}, nil
}

// privateKey returns the one with an id, or the active one if id is empty; pgx.ErrNoRows.
func (v *store) privateKey(ctx context.Context, q querier, keys *keyring.Keyring, id string) (*keyring.DataKey, string, error) {
	var row dataKeyRow
	err := q.QueryRow(ctx, `
		SELECT s.id, k.id::text, k.root_key_id, k.wrapped FROM sealing_keys s JOIN data_keys k ON k.id = s.data_key_id
		WHERE s.namespace = $1 AND (s.id = $2 OR ($2 = '' AND s.active))`, v.options.Namespace, id).
		Scan(&id, &row.ID, &row.RootKeyID, &row.Wrapped)
	if err != nil {
		return nil, "", fmt.Errorf("read sealing key: %w", err)
	}
	row.Namespace, row.Purpose, row.Subject = v.options.Namespace, keyring.PurposeSealing, id
	key, err := row.open(keys)
	return key, id, err
}

// newSealingKey creates the active one, and returns errAgain, so that it is read. Without replace it only creates the
// first.
func (v *store) newSealingKey(ctx context.Context, keys *keyring.Keyring, replace bool) error {
	private, public, err := seal.NewKey()
	if err != nil {
		return err
	}
	key, err := keyring.DataKeyOf(private)
	if err != nil {
		return err
	}
	defer key.Close()
	id := seal.KeyID(public)
	row, err := v.newDataKey(keys, keyring.PurposeSealing, id, key)
	if err != nil {
		return err
	}
	err = db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
		if replace {
			if _, err := tx.Exec(ctx, `UPDATE sealing_keys SET active = false WHERE namespace = $1 AND active`, v.options.Namespace); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, insertDataKey, row.args()...)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errOutdated
		}
		_, err = tx.Exec(ctx, `INSERT INTO sealing_keys (namespace, id, public_key, data_key_id, active) VALUES ($1, $2, $3, $4, true)`,
			v.options.Namespace, id, public, row.ID)
		return err
	})
	if err != nil && !db.IsUnique(err, "sealing_keys_active") { // another replica created one at the same time: that one is used
		return fmt.Errorf("write sealing key: %w", err)
	}
	return errAgain
}

// openSealed decrypts a sealed value that is bound to a resource of the namespace.
func (v *store) openSealed(ctx context.Context, q querier, keys *keyring.Keyring, name, text string) (wire.Value, error) {
	id, sealed, err := seal.Parse(text)
	if err != nil {
		return nil, invalid(material.Invalid("sealed", "%s", err))
	}
	private, _, err := v.privateKey(ctx, q, keys, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, invalid(material.Invalid("sealed", "it is sealed to key %s, which this vault does not have", id))
	}
	if err != nil {
		return nil, err
	}
	defer private.Close()
	value, err := seal.Open(private.Bytes(), id, seal.Binding{Namespace: v.options.Namespace, Name: name}, sealed)
	if err != nil {
		return nil, invalid(material.Invalid("sealed", "it does not open for %s/%s: it was modified, or sealed for another name or namespace",
			v.options.Namespace, name))
	}
	return value, nil
}
