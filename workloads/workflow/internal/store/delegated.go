// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// DelegatedRef names one attempt of a step, or of an item of one.
type DelegatedRef struct {
	Run                 string
	Step, Item, Attempt int
}

// BeforeDelegated returns before all of them.
func BeforeDelegated() DelegatedRef { return DelegatedRef{Run: uuid.Nil.String(), Step: -1, Item: -2} }

// Delegated is a step that waits for the service to do something for it: the detail of its wait is an object of the one field
// "delegate".
type Delegated struct {
	DelegatedRef
	Workflow, Name string
	Detail         json.RawMessage
}

// waitsForService is the condition of the index steps_delegated.
const waitsForService = `s.phase = 'Waiting' AND s.resumable AND starts_with(s.detail::text, '{"delegate":')`

// Delegated returns a page of the steps that wait so behind a place, in order.
func (s *Store) Delegated(ctx context.Context, after DelegatedRef, limit int) ([]DelegatedRef, error) {
	rows, err := s.pool.Query(ctx, `SELECT s.run::text, s.step, s.item, s.attempt FROM steps s WHERE `+waitsForService+`
		AND (s.run, s.step, s.item) > ($1, $2, $3) ORDER BY s.run, s.step, s.item LIMIT $4`, after.Run, after.Step, after.Item, limit)
	if err != nil {
		return nil, fail("look for delegated steps", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DelegatedRef])
	return list, fail("look for delegated steps", err)
}

// unnested are refs as columns of a query.
const unnested = `unnest($1::text[]::uuid[], $2::int[], $3::int[], $4::int[]) AS u(run, step, item, attempt)`

func columns(refs []DelegatedRef) []any {
	var runs []string
	var steps, items, attempts []int
	for _, r := range refs {
		runs, steps, items, attempts = append(runs, r.Run), append(steps, r.Step), append(items, r.Item), append(attempts, r.Attempt)
	}
	return []any{runs, steps, items, attempts}
}

// DelegatedDetails returns what some of them wait for; those that wait no more are missing.
func (s *Store) DelegatedDetails(ctx context.Context, refs []DelegatedRef) ([]Delegated, error) {
	rows, err := s.pool.Query(ctx, `SELECT s.run::text, s.step, s.item, s.attempt, r.workflow, s.name, s.detail
		FROM `+unnested+` JOIN steps s USING (run, step, item, attempt) JOIN runs r ON r.id = s.run WHERE `+waitsForService, columns(refs)...)
	if err != nil {
		return nil, fail("read delegated steps", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delegated, error) {
		var d Delegated
		err := row.Scan(&d.Run, &d.Step, &d.Item, &d.Attempt, &d.Workflow, &d.Name, &d.Detail)
		return d, err
	})
	return list, fail("read delegated steps", err)
}

// Delegation is work of the service for a step.
type Delegation struct {
	DelegatedRef
	Kind, Target string
	// Begun: it was there once. Otherwise it may be there or not.
	Begun bool
}

// Intend notes what is about to be begun, and returns what was noted before, if there is something.
func (s *Store) Intend(ctx context.Context, d Delegation) (Delegation, error) {
	err := s.pool.QueryRow(ctx, `INSERT INTO delegations AS d (run, step, item, attempt, kind, target) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (run, step, item, attempt) DO UPDATE SET kind = d.kind RETURNING target, begun`,
		d.Run, d.Step, d.Item, d.Attempt, d.Kind, d.Target).Scan(&d.Target, &d.Begun)
	return d, fail("note a delegation", err)
}

// Begun notes that it is there.
func (s *Store) Begun(ctx context.Context, d Delegation) error {
	_, err := s.pool.Exec(ctx, `UPDATE delegations SET target = $5, begun = true WHERE run = $1 AND step = $2 AND item = $3 AND attempt = $4`,
		d.Run, d.Step, d.Item, d.Attempt, d.Target)
	return fail("note a delegation", err)
}

// Settled forgets what was noted.
func (s *Store) Settled(ctx context.Context, ref DelegatedRef) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM delegations WHERE run = $1 AND step = $2 AND item = $3 AND attempt = $4`, ref.Run, ref.Step, ref.Item, ref.Attempt)
	return fail("forget a delegation", err)
}

// Abandoned returns what was begun for steps that wait for it no more: their runs were cancelled, or their time was over.
func (s *Store) Abandoned(ctx context.Context, limit int) ([]Delegation, error) {
	rows, err := s.pool.Query(ctx, `SELECT d.run::text, d.step, d.item, d.attempt, d.kind, d.target, d.begun FROM delegations d
		WHERE NOT EXISTS (SELECT FROM steps s WHERE s.run = d.run AND s.step = d.step AND s.item = d.item AND s.attempt = d.attempt AND `+waitsForService+`)
		LIMIT $1`, limit)
	if err != nil {
		return nil, fail("look for abandoned delegations", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delegation, error) {
		var d Delegation
		err := row.Scan(&d.Run, &d.Step, &d.Item, &d.Attempt, &d.Kind, &d.Target, &d.Begun)
		return d, err
	})
	return list, fail("look for abandoned delegations", err)
}

// Outcome is the state of a run.
type Outcome struct {
	ID    string
	Phase Phase
	Error string
}

// Outcomes returns where some runs are, by id; those that are not kept any more are missing.
func (s *Store) Outcomes(ctx context.Context, ids []string) (map[string]Outcome, error) {
	rows, err := s.pool.Query(ctx, `SELECT id::text, phase, error FROM runs WHERE id = ANY($1::text[]::uuid[])`, ids)
	if err != nil {
		return nil, fail("read the outcomes of runs", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Outcome])
	if err != nil {
		return nil, fail("read the outcomes of runs", err)
	}
	out := make(map[string]Outcome, len(list))
	for _, o := range list {
		out[o.ID] = o
	}
	return out, nil
}
