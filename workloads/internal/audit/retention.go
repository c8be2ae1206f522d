// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// deleteRows limits one transaction of the retention.
	deleteRows = 5000
	// A spool without writes for this long belongs to a replica that no longer exists.
	spoolRetention = 30 * 24 * time.Hour
)

// retain deletes what is older than the retention, at start and every hour, jittered over replicas.
func (l *Log) retain(ctx context.Context) {
	for {
		for {
			deleted, err := l.deleteOld(ctx)
			if err != nil && ctx.Err() == nil {
				l.options.Log.Warn("audit log: retention", "error", err)
			}
			if err != nil || deleted < deleteRows {
				break
			}
		}
		if !pause(ctx, nil, retainEvery/2+rand.N(retainEvery)) {
			return
		}
	}
}

// deleteOld deletes up to deleteRows of the oldest events, and leaves a signed anchor where the chain continues, so that
// the verifier does not report a truncation. A younger event keeps all after it.
func (l *Log) deleteOld(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit there is nothing to roll back
	var mine bool
	if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtext('audit retention ' || current_schema()))`).Scan(&mine); err != nil {
		return 0, fmt.Errorf("lock: %w", err)
	}
	if !mine {
		return 0, nil // another replica does it
	}
	anchor := mark{kind: markAnchor, product: l.options.Product, time: l.now()}
	var hash []byte
	err = tx.QueryRow(ctx, `SELECT seq, hash FROM (
			SELECT seq, hash, bool_and(time < $1) OVER (ORDER BY seq) AS old
			FROM (SELECT seq, hash, time FROM audit_events ORDER BY seq LIMIT $2) AS oldest) AS marked
		WHERE old ORDER BY seq DESC LIMIT 1`, l.now().Add(-l.options.Retention), deleteRows).Scan(&anchor.seq, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find old events: %w", err)
	}
	copy(anchor.hash[:], hash)
	anchor.sign(l.options.Key)
	deleted, err := tx.Exec(ctx, `DELETE FROM audit_events WHERE seq <= $1`, anchor.seq)
	if err != nil {
		return 0, fmt.Errorf("delete old events: %w", err)
	}
	batch := &pgx.Batch{}
	queueMark(batch, anchor)
	batch.Queue(`DELETE FROM audit_checkpoints WHERE seq <= $1`, anchor.seq)
	batch.Queue(`DELETE FROM audit_spools WHERE updated_at < now() - $1::interval AND id <> $2`, spoolRetention, l.spool.id)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("leave an anchor: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("delete old events: %w", err)
	}
	return deleted.RowsAffected(), nil
}
