// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
)

func (v *store) Delete(ctx context.Context, path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	var id int64
	err := v.pool.QueryRow(ctx, `
		WITH head AS (UPDATE secrets SET updated_at = now() WHERE namespace = $1 AND path = $2 RETURNING id),
		gone AS (UPDATE versions v SET deleted_at = now() FROM head
			WHERE v.secret_id = head.id AND v.deleted_at IS NULL AND v.destroyed_at IS NULL)
		SELECT id FROM head`, v.options.Namespace, path).Scan(&id)
	return found("delete secret", err)
}

func (v *store) Destroy(ctx context.Context, path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	return db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
		var id int64
		err := tx.QueryRow(ctx, `SELECT id FROM secrets WHERE namespace = $1 AND path = $2 FOR UPDATE`, v.options.Namespace, path).Scan(&id)
		if err := found("destroy secret", err); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM chunks WHERE content_id IN (SELECT content_id FROM versions WHERE secret_id = $1)`, id)
		if err != nil {
			return fmt.Errorf("destroy contents: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM versions WHERE secret_id = $1`, id); err != nil {
			return fmt.Errorf("destroy versions: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM secrets WHERE id = $1`, id); err != nil {
			return fmt.Errorf("destroy secret: %w", err)
		}
		// Without its data key, a copy of a version in a backup is noise.
		_, err = tx.Exec(ctx, `DELETE FROM data_keys WHERE namespace = $1 AND purpose = $2 AND subject = $3`,
			v.options.Namespace, keyring.PurposeSecret, path)
		if err != nil {
			return fmt.Errorf("destroy data keys: %w", err)
		}
		return nil
	})
}

func (v *store) DeleteVersion(ctx context.Context, path string, version int64) error {
	return v.change(ctx, path, version, `deleted_at = coalesce(v.deleted_at, now())`)
}

func (v *store) UndeleteVersion(ctx context.Context, path string, version int64) error {
	return v.change(ctx, path, version, `deleted_at = NULL`)
}

func (v *store) DestroyVersion(ctx context.Context, path string, version int64) error {
	err := v.change(ctx, path, version, `ciphertext = NULL, data_key_id = NULL, content_id = NULL, destroyed_at = now()`,
		`gone AS (DELETE FROM chunks c USING target t WHERE c.content_id = t.content_id)`)
	if err == ErrDestroyed { //nolint:errorlint // change returns it bare
		return nil
	}
	return err
}

// change sets columns of a version that is not destroyed. also are further clauses of the statement, about "target".
func (v *store) change(ctx context.Context, path string, version int64, set string, also ...string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	var destroyed bool
	err := v.pool.QueryRow(ctx, `
		WITH target AS (SELECT v.secret_id, v.version, v.content_id, v.destroyed_at IS NOT NULL AS destroyed
			FROM secrets s JOIN versions v ON v.secret_id = s.id
			WHERE s.namespace = $1 AND s.path = $2 AND v.version = $3 FOR NO KEY UPDATE OF v),
		`+strings.Join(append(also, `changed AS (UPDATE versions v SET `+set+` FROM target t
			WHERE v.secret_id = t.secret_id AND v.version = t.version AND NOT t.destroyed)`), ", ")+`
		SELECT destroyed FROM target`, v.options.Namespace, path, version).Scan(&destroyed)
	if err := found("version", err); err != nil {
		return err
	}
	if destroyed {
		return ErrDestroyed
	}
	return nil
}
