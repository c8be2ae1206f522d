// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// DueStep is a step that is due, with its run.
type DueStep struct {
	RunRef
	Step, Item int
}

// DueSteps returns the steps to Wake, longest due first.
func (s *Store) DueSteps(ctx context.Context, limit int) ([]DueStep, error) {
	rows, err := s.pool.Query(ctx, `SELECT r.id::text, r.workflow, r.hash, s.step, s.item FROM steps s JOIN runs r ON r.id = s.run
		WHERE s.due <= $1 ORDER BY s.due LIMIT $2`, s.now(), limit)
	if err != nil {
		return nil, fail("find due steps", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DueStep, error) {
		var d DueStep
		err := row.Scan(&d.ID, &d.Workflow, &d.Hash, &d.Step, &d.Item)
		return d, err
	})
	return list, fail("find due steps", err)
}

// DueRuns returns the runs that are past their deadline.
func (s *Store) DueRuns(ctx context.Context, limit int) ([]RunRef, error) {
	rows, err := s.pool.Query(ctx, `SELECT id::text, workflow, hash FROM runs WHERE deadline <= $1 ORDER BY deadline LIMIT $2`, s.now(), limit)
	if err != nil {
		return nil, fail("find due runs", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RunRef])
	return list, fail("find due runs", err)
}

// Held identifies a claim.
type Held struct {
	Run        string
	Step, Item int
	Owner      string
}

// A locked row is being changed: it is skipped, and neither renewed nor lost, so that renewals never wait.
const renewHeld = `
	WITH held AS (SELECT s.run, s.step, s.item FROM unnest($2::text[]::uuid[], $3::int[], $4::int[], $5::text[]) AS u(run, step, item, owner)
		JOIN steps s ON s.run = u.run AND s.step = u.step AND s.item = u.item AND s.owner = u.owner AND s.phase = 'Running'
		ORDER BY s.run, s.step, s.item FOR NO KEY UPDATE OF s SKIP LOCKED)
	UPDATE steps s SET due = $1 FROM held h WHERE s.run = h.run AND s.step = h.step AND s.item = h.item`

const lostHeld = `
	SELECT u.owner FROM unnest($1::text[]::uuid[], $2::int[], $3::int[], $4::text[]) AS u(run, step, item, owner)
	WHERE NOT EXISTS (SELECT FROM steps s WHERE s.run = u.run AND s.step = u.step AND s.item = u.item AND s.owner = u.owner
		AND s.phase IN ('Running', 'Ready'))`

// Renew renews claims for another lease, and returns the owners of lost ones: their run was stopped, or another worker has claimed
// the step.
func (s *Store) Renew(ctx context.Context, held []Held) (lost []string, err error) {
	var runs, owners []string
	var steps, items []int
	for _, h := range held {
		runs, steps, items, owners = append(runs, h.Run), append(steps, h.Step), append(items, h.Item), append(owners, h.Owner)
	}
	batch := &pgx.Batch{}
	batch.Queue(renewHeld, s.now().Add(s.options.Lease), runs, steps, items, owners)
	batch.Queue(lostHeld, runs, steps, items, owners).Query(func(rows pgx.Rows) (err error) {
		lost, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return lost, fail("renew leases", s.pool.SendBatch(ctx, batch).Close())
}

// Unused returns those of the given folders in object storage that no run refers to. Their names are UUIDs.
func (s *Store) Unused(ctx context.Context, folders []string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT u.id::text FROM unnest($1::text[]::uuid[]) AS u(id) WHERE NOT EXISTS (SELECT FROM runs r WHERE r.id = u.id)
		AND NOT EXISTS (SELECT FROM runs r WHERE r.objects IS NOT NULL AND r.objects @> ARRAY[u.id])`, folders)
	if err != nil {
		return nil, fail("find unused folders of object storage", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, fail("find unused folders of object storage", err)
}

// Owner returns the database's id. It marks the database's objects in object storage that several databases share.
func (s *Store) Owner(ctx context.Context) (string, error) {
	if known := s.owner.Load(); known != nil {
		return *known, nil
	}
	var id string
	if err := s.pool.QueryRow(ctx, `SELECT id::text FROM owner`).Scan(&id); err != nil {
		return "", fail("read the database's id", err)
	}
	s.owner.Store(&id)
	return id, nil
}

// Retention limits the history of a workflow.
type Retention struct {
	Successful, Failed int
	TTL                time.Duration // 0 means no limit
}

// newestDefinitions selects the newest definition of each workflow.
const newestDefinitions = `SELECT DISTINCT ON (workflow) workflow, hash FROM definitions WHERE workflow > $1 ORDER BY workflow, generation DESC, created DESC LIMIT $2`

// Workflows returns the newest definition of each workflow after a name. The ID of the references is empty.
func (s *Store) Workflows(ctx context.Context, after string, limit int) ([]RunRef, error) {
	rows, err := s.pool.Query(ctx, newestDefinitions, after, limit)
	if err != nil {
		return nil, fail("list workflows", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (RunRef, error) {
		var r RunRef
		err := row.Scan(&r.Workflow, &r.Hash)
		return r, err
	})
	return list, fail("list workflows", err)
}

const expired = `
	SELECT id FROM (SELECT id, finished, row_number() OVER (PARTITION BY phase = 'Succeeded' ORDER BY finished DESC, id DESC) AS place, phase
		FROM runs WHERE workflow = $1 AND finished IS NOT NULL) r
	WHERE place > CASE WHEN phase = 'Succeeded' THEN $2::int ELSE $3::int END OR finished <= $4::timestamptz LIMIT $5`

// Prune deletes the ended runs that a workflow's history does not retain, at most limit, and returns their number.
func (s *Store) Prune(ctx context.Context, workflow string, keep Retention, limit int) (int, error) {
	var before *time.Time
	if keep.TTL > 0 {
		t := s.now().Add(-keep.TTL)
		before = &t
	}
	var n int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, expired, workflow, keep.Successful, keep.Failed, before, limit)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		if err != nil || len(ids) == 0 {
			return err
		}
		n = len(ids)
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM events WHERE run = ANY($1)`, ids)
		batch.Queue(`DELETE FROM steps WHERE run = ANY($1)`, ids)
		batch.Queue(`DELETE FROM runs WHERE id = ANY($1)`, ids)
		return tx.SendBatch(ctx, batch).Close()
	})
	return n, fail("prune the history of "+workflow, err)
}
