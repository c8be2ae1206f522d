// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
)

// dataKeyRow is one wrapped data key.
type dataKeyRow struct {
	keyring.Label
	RootKeyID string
	Wrapped   []byte
}

func scanDataKey(row pgx.CollectableRow) (dataKeyRow, error) {
	var k dataKeyRow
	err := row.Scan(&k.ID, &k.Namespace, &k.Purpose, &k.Subject, &k.RootKeyID, &k.Wrapped)
	return k, err
}

// open unwraps the key; the errors are the keyring's.
func (k dataKeyRow) open(keys *keyring.Keyring) (*keyring.DataKey, error) {
	root, err := keys.Root(k.RootKeyID)
	if err != nil {
		return nil, err
	}
	return root.Unwrap(k.Label, k.Wrapped)
}

func (k dataKeyRow) rewrap(keys *keyring.Keyring, active *keyring.Root) ([]byte, error) {
	key, err := k.open(keys)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return active.Wrap(k.Label, key)
}

// newDataKey wraps a key by the newest root key.
func (v *store) newDataKey(keys *keyring.Keyring, purpose, subject string, key *keyring.DataKey) (dataKeyRow, error) {
	active, err := keys.Active()
	if err != nil {
		return dataKeyRow{}, err
	}
	row := dataKeyRow{
		Label:     keyring.Label{ID: uuid.NewString(), Namespace: v.options.Namespace, Purpose: purpose, Subject: subject},
		RootKeyID: active.ID(),
	}
	row.Wrapped, err = active.Wrap(row.Label, key)
	return row, err
}

// insertDataKey writes no row if the root key is no longer the newest: then the writer loads the newest, so that a
// re-wrap finishes while others write.
const insertDataKey = `INSERT INTO data_keys (id, namespace, purpose, subject, root_key_id, wrapped)
	SELECT $1, $2, $3, $4, id, $6 FROM root_keys WHERE id = $5 AND active`

// errOutdated: another replica created a newer root key.
var errOutdated = errors.New("the root key is outdated")

func (k dataKeyRow) args() []any {
	return []any{k.ID, k.Namespace, k.Purpose, k.Subject, k.RootKeyID, k.Wrapped}
}

// macKey returns the namespace's key for comparing values, created on first use.
func (v *store) macKey(ctx context.Context, keys *keyring.Keyring) (*keyring.DataKey, error) {
	read := func() (dataKeyRow, error) {
		rows, err := v.pool.Query(ctx, `SELECT id::text, namespace, purpose, subject, root_key_id, wrapped FROM data_keys
			WHERE namespace = $1 AND purpose = $2`, v.options.Namespace, keyring.PurposeMAC)
		if err != nil {
			return dataKeyRow{}, err
		}
		return pgx.CollectExactlyOneRow(rows, scanDataKey)
	}
	row, err := read()
	if errors.Is(err, pgx.ErrNoRows) {
		key := keyring.NewDataKey()
		defer key.Close()
		made, wrapErr := v.newDataKey(keys, keyring.PurposeMAC, "", key)
		if wrapErr != nil {
			return nil, wrapErr
		}
		if _, err := v.pool.Exec(ctx, insertDataKey+` ON CONFLICT DO NOTHING`, made.args()...); err != nil {
			return nil, fmt.Errorf("write key for comparisons: %w", err)
		}
		if row, err = read(); errors.Is(err, pgx.ErrNoRows) {
			return nil, errOutdated
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read key for comparisons: %w", err)
	}
	row.Namespace, row.Subject = v.options.Namespace, ""
	return row.open(keys)
}
