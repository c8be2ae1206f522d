// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

func (v *store) RotateRoot(ctx context.Context, passphrase []byte) (Rotated, error) {
	if len(passphrase) == 0 {
		return Rotated{}, invalid(material.Invalid("passphrase", "must not be empty"))
	}
	id, err := v.rotateRoot(ctx, passphrase, 0, 0)
	return Rotated{KeyID: id}, err
}

func (v *store) RotateRootShares(ctx context.Context, shares, threshold int) (Rotated, error) {
	secret, texts, err := newShares(shares, threshold)
	if err != nil {
		return Rotated{}, err
	}
	defer keyring.Zero(secret)
	id, err := v.rotateRoot(ctx, secret, shares, threshold)
	if err != nil {
		return Rotated{}, err
	}
	return Rotated{KeyID: id, Shares: texts}, nil
}

func (v *store) rotateRoot(ctx context.Context, secret []byte, shares, threshold int) (id string, err error) {
	if err := v.Refresh(ctx); err != nil {
		return "", err
	}
	err = v.withKeys(ctx, func(keys *keyring.Keyring, attempt int) error {
		if attempt > 0 {
			if err := v.Refresh(ctx); err != nil {
				return err
			}
		}
		old, err := keys.Active()
		if err != nil {
			return err
		}
		root, params, err := keyring.NewRootIterations(secret, old.Generation()+1, v.options.iterations)
		if err != nil {
			return err
		}
		row := rootRow{Params: params, Shares: shares, Threshold: threshold, Active: true}
		if err := v.succeed(ctx, old, root, row); err != nil {
			root.Close()
			return err
		}
		keys.Add(root)
		id = root.ID()
		return nil
	})
	return id, err
}

// succeed writes a new generation and the two links to the previous one, in one transaction: from either root key the
// other one can be reached until the older is retired.
func (v *store) succeed(ctx context.Context, old, root *keyring.Root, row rootRow) error {
	next, err := old.WrapRoot(root)
	if err != nil {
		return err
	}
	if row.Previous, err = root.WrapRoot(old); err != nil {
		return err
	}
	return db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE root_keys SET active = false, next = $2 WHERE id = $1 AND active`, old.ID(), next)
		if err != nil {
			return fmt.Errorf("retire root key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errAgain // another replica rotated
		}
		if err := insertRoot(ctx, tx, row); err != nil {
			return fmt.Errorf("write root key: %w", err)
		}
		return nil
	})
}

// retire removes the oldest generations that no data key needs. It keeps those between, because the links go through
// them. If a data key is being written under one at this moment, the foreign key refuses the removal; then they stay
// until the next time.
func (v *store) retire(ctx context.Context) error {
	err := db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			DELETE FROM root_keys WHERE NOT active
			AND generation < (SELECT min(generation) FROM root_keys r
				WHERE r.active OR EXISTS (SELECT FROM data_keys d WHERE d.root_key_id = r.id))
			AND (SELECT created_at FROM root_keys WHERE active) <= now() - $1::interval`, max(v.options.RetireAfter, 0))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE root_keys SET previous = NULL
			WHERE previous IS NOT NULL AND generation = (SELECT min(generation) FROM root_keys)`)
		return err
	})
	if code(err) == foreignKeyViolation {
		return nil
	}
	if err != nil {
		return fmt.Errorf("retire root keys: %w", err)
	}
	return nil
}

func (v *store) Rewrap(ctx context.Context) error {
	for {
		if err := v.Refresh(ctx); err != nil { // another replica may have created the newest
			return err
		}
		wrapped, failed := 0, 0
		after := "00000000-0000-0000-0000-000000000000"
		for {
			var batch rewrapped
			err := v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
				batch, err = v.rewrapBatch(ctx, keys, after)
				return err
			})
			if err != nil {
				return fmt.Errorf("re-wrap: %w", err)
			}
			wrapped, failed = wrapped+batch.wrapped, failed+batch.failed
			if batch.last == "" {
				break
			}
			after = batch.last
		}
		v.forgetCounts()
		if wrapped > 0 {
			continue // once more: a replica may have written one under the older key meanwhile
		}
		if failed > 0 {
			return fmt.Errorf("re-wrap: %d data keys do not open: %w", failed, ErrCorrupt)
		}
		return v.Refresh(ctx)
	}
}

// rewrapped is the result of one batch; last is empty if none was left.
type rewrapped struct {
	wrapped, failed int
	last            string
}

// rewrapBatch wraps the next data keys of older generations again, in one transaction.
func (v *store) rewrapBatch(ctx context.Context, keys *keyring.Keyring, after string) (batch rewrapped, err error) {
	active, err := keys.Active()
	if err != nil {
		return batch, err
	}
	err = db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
		batch = rewrapped{}
		rows, err := tx.Query(ctx, `
			SELECT id::text, namespace, purpose, subject, root_key_id, wrapped FROM data_keys
			WHERE id > $1 AND root_key_id IN (SELECT id FROM root_keys WHERE generation < $2)
			ORDER BY id LIMIT $3 FOR UPDATE`, after, active.Generation(), v.options.RewrapBatch)
		if err != nil {
			return fmt.Errorf("read data keys: %w", err)
		}
		list, err := pgx.CollectRows(rows, scanDataKey)
		if err != nil {
			return fmt.Errorf("read data keys: %w", err)
		}
		var ids []string
		var wraps [][]byte
		for _, k := range list {
			batch.last = k.ID
			wrap, err := k.rewrap(keys, active)
			if errors.Is(err, keyring.ErrOpen) {
				batch.failed++
				continue
			}
			if err != nil {
				return err
			}
			ids, wraps = append(ids, k.ID), append(wraps, wrap)
		}
		if len(ids) == 0 {
			return nil
		}
		batch.wrapped = len(ids)
		_, err = tx.Exec(ctx, `UPDATE data_keys d SET root_key_id = $1, wrapped = n.wrapped
			FROM unnest($2::uuid[], $3::bytea[]) AS n (id, wrapped) WHERE d.id = n.id`, active.ID(), ids, wraps)
		if err != nil {
			return fmt.Errorf("write data keys: %w", err)
		}
		return nil
	})
	return batch, err
}

// counts are numbers of data keys at one time.
type counts struct {
	at           time.Time
	stale, total int64
}

// countsAge is how old counts may be, because the status needs no login.
const countsAge = time.Second

func (v *store) forgetCounts() {
	v.statusMu.Lock()
	defer v.statusMu.Unlock()
	v.counted = counts{}
}

func (v *store) count(ctx context.Context) (counts, error) {
	v.statusMu.Lock()
	defer v.statusMu.Unlock()
	if time.Since(v.counted.at) < countsAge {
		return v.counted, nil
	}
	c := counts{at: time.Now()}
	err := v.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE NOT r.active), count(*)
		FROM data_keys d JOIN root_keys r ON r.id = d.root_key_id`).Scan(&c.stale, &c.total)
	if err != nil {
		return counts{}, fmt.Errorf("count data keys: %w", err)
	}
	v.counted = c
	return c, nil
}

func (v *store) Status(ctx context.Context) (wire.SealStatus, error) {
	status := wire.SealStatus{Sealed: true}
	_, active, err := v.roots(ctx, v.pool)
	if errors.Is(err, ErrUninitialized) {
		return status, nil
	}
	if err != nil {
		return status, err
	}
	c, err := v.count(ctx)
	if err != nil {
		return status, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	status.Sealed, status.Progress = v.keys == nil, len(v.shares)
	status.KeyID, status.Threshold = active.ID, active.Threshold
	status.Stale, status.Total = c.stale, c.total
	return status, nil
}
