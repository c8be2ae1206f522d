// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lockKey serializes transactions that count the runs of a key.
const lockKey = `SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))`

// countRuns selects how many runs of a key are active, and how many are queued.
const countRuns = `SELECT count(*) FILTER (WHERE phase <> 'Queued'), count(*) FILTER (WHERE phase = 'Queued')
	FROM runs WHERE workflow = $1 AND concurrency_key = $2 AND finished IS NULL`

// startBounded starts a run that has a concurrency limit. With CancelPrevious it is queued until the runs that TooMany returns have
// ended.
func (s *Store) startBounded(ctx context.Context, n NewRun) (string, bool, error) {
	r := &start{NewRun: n}
	err := s.begin(ctx, func(tx pgx.Tx) ([]Message, error) {
		if _, err := tx.Exec(ctx, lockKey, n.Workflow, n.Concurrency.Key); err != nil {
			return nil, err
		}
		if n.IdempotencyKey != "" { // a repeated start does not count again
			var known bool
			err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM runs WHERE workflow = $1 AND idempotency_key = $2)`, n.Workflow, n.IdempotencyKey).Scan(&known)
			if err != nil {
				return nil, err
			}
			if known {
				return s.insertIn(ctx, tx, []*start{r})
			}
		}
		var active, queued int
		if err := tx.QueryRow(ctx, countRuns, n.Workflow, n.Concurrency.Key).Scan(&active, &queued); err != nil {
			return nil, err
		}
		full := active >= n.Concurrency.Max
		if full && n.Concurrency.Policy == PolicySkip {
			return nil, fmt.Errorf("workflow %s has %d active runs: %w", n.Workflow, active, ErrBusy)
		}
		r.queued = full || queued > 0
		return s.insertIn(ctx, tx, []*start{r})
	})
	if err != nil {
		return "", false, fail("start", err)
	}
	s.started([]*start{r})
	return r.id, r.created, nil
}

// RunRef identifies a run and its definition.
type RunRef struct{ ID, Workflow, Hash string }

// TooMany returns the older runs of the same key that exceed the limit together with the given run.
func (s *Store) TooMany(ctx context.Context, id string, b Concurrency) ([]RunRef, error) {
	rows, err := s.pool.Query(ctx, `SELECT o.id::text, o.workflow, o.hash FROM runs r JOIN runs o USING (workflow, concurrency_key)
		WHERE r.id = $1 AND o.finished IS NULL AND o.id < r.id ORDER BY o.id DESC OFFSET $2`, id, b.Max-1)
	if err != nil {
		return nil, fail("list runs", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RunRef])
	return list, fail("list runs", err)
}

// Admissible returns queued runs that may start, at most one per key.
func (s *Store) Admissible(ctx context.Context, limit int) ([]RunRef, error) {
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT ON (q.workflow, q.concurrency_key) q.id::text, q.workflow, q.hash FROM runs q
		WHERE q.phase = 'Queued' AND q.concurrency_max > (SELECT count(*) FROM runs a WHERE a.workflow = q.workflow
			AND a.concurrency_key = q.concurrency_key AND a.finished IS NULL AND a.phase <> 'Queued')
		ORDER BY q.workflow, q.concurrency_key, q.id LIMIT $1`, limit)
	if err != nil {
		return nil, fail("list queued runs", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RunRef])
	return list, fail("list queued runs", err)
}

// Admit starts a queued run. It returns ErrLost if the limit is reached again, or if the run is not queued.
func (s *Store) Admit(ctx context.Context, t Target) error {
	return fail("admit", s.begin(ctx, func(tx pgx.Tx) ([]Message, error) {
		var room bool
		err := tx.QueryRow(ctx, `SELECT true FROM (SELECT workflow, concurrency_key AS key FROM runs WHERE id = $1) r,
			LATERAL pg_advisory_xact_lock(hashtextextended(r.workflow || '/' || r.key, 0))`, t.Run).Scan(&room)
		if err != nil {
			return nil, err
		}
		// A second statement sees the commits of earlier holders of the lock.
		err = tx.QueryRow(ctx, `SELECT phase = 'Queued' AND concurrency_max > (SELECT count(*) FROM runs a WHERE a.workflow = q.workflow
			AND a.concurrency_key = q.concurrency_key AND a.finished IS NULL AND a.phase <> 'Queued') FROM runs q WHERE id = $1`, t.Run).Scan(&room)
		if err != nil {
			return nil, err
		}
		if !room {
			return nil, ErrLost
		}
		r := &request{Transition: admit{t}}
		messages, err := s.transition(ctx, tx.Conn(), []*request{r}, false)
		return messages, cmp.Or(err, r.err)
	}))
}
