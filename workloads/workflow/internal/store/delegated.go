// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// DelegatedRef identifies one attempt of a step or item.
type DelegatedRef struct {
	Run                 string
	Step, Item, Attempt int
}

// BeforeDelegated returns a reference that sorts before all others.
func BeforeDelegated() DelegatedRef { return DelegatedRef{Run: uuid.Nil.String(), Step: -1, Item: -2} }

// Delegated is a step that waits for work of the service: the detail of its wait is an object whose first field is "delegate".
type Delegated struct {
	DelegatedRef
	Workflow, Name string
	Detail         json.RawMessage
}

// waitsForService is the condition of the index steps_delegated.
const waitsForService = `s.phase = 'Waiting' AND s.resumable AND starts_with(s.detail::text, '{"delegate":')`

// Delegated returns a page of such steps, in order, starting after the given one.
func (s *Store) Delegated(ctx context.Context, after DelegatedRef, limit int) ([]DelegatedRef, error) {
	rows, err := s.pool.Query(ctx, `SELECT s.run::text, s.step, s.item, s.attempt FROM steps s WHERE `+waitsForService+`
		AND (s.run, s.step, s.item) > ($1, $2, $3) ORDER BY s.run, s.step, s.item LIMIT $4`, after.Run, after.Step, after.Item, limit)
	if err != nil {
		return nil, fail("find delegated steps", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DelegatedRef])
	return list, fail("find delegated steps", err)
}

// unnested is the table of refs in a query; columns returns its arguments.
const unnested = `unnest($1::text[]::uuid[], $2::int[], $3::int[], $4::int[]) AS u(run, step, item, attempt)`

func columns(refs []DelegatedRef) []any {
	var runs []string
	var steps, items, attempts []int
	for _, r := range refs {
		runs, steps, items, attempts = append(runs, r.Run), append(steps, r.Step), append(items, r.Item), append(attempts, r.Attempt)
	}
	return []any{runs, steps, items, attempts}
}

// DelegatedDetails returns the details of the given steps. Steps that no longer wait are left out.
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

// Delegation records work of the service for a step.
type Delegation struct {
	DelegatedRef
	Kind, Target string
	// Begun means that the target has existed. Otherwise it may or may not exist.
	Begun bool
}

// Intend records the target before it is created. It returns the existing record if there is one.
func (s *Store) Intend(ctx context.Context, d Delegation) (Delegation, error) {
	err := s.pool.QueryRow(ctx, `INSERT INTO delegations AS d (run, step, item, attempt, kind, target) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (run, step, item, attempt) DO UPDATE SET kind = d.kind RETURNING target, begun`,
		d.Run, d.Step, d.Item, d.Attempt, d.Kind, d.Target).Scan(&d.Target, &d.Begun)
	return d, fail("record a delegation", err)
}

// Begun records that the target exists.
func (s *Store) Begun(ctx context.Context, d Delegation) error {
	_, err := s.pool.Exec(ctx, `UPDATE delegations SET target = $5, begun = true WHERE run = $1 AND step = $2 AND item = $3 AND attempt = $4`,
		d.Run, d.Step, d.Item, d.Attempt, d.Target)
	return fail("record a delegation", err)
}

// Settled deletes the record.
func (s *Store) Settled(ctx context.Context, ref DelegatedRef) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM delegations WHERE run = $1 AND step = $2 AND item = $3 AND attempt = $4`, ref.Run, ref.Step, ref.Item, ref.Attempt)
	return fail("delete a delegation", err)
}

// Abandoned returns delegations whose step no longer waits for them, because its run was canceled or it timed out.
func (s *Store) Abandoned(ctx context.Context, limit int) ([]Delegation, error) {
	rows, err := s.pool.Query(ctx, `SELECT d.run::text, d.step, d.item, d.attempt, d.kind, d.target, d.begun FROM delegations d
		WHERE NOT EXISTS (SELECT FROM steps s WHERE s.run = d.run AND s.step = d.step AND s.item = d.item AND s.attempt = d.attempt AND `+waitsForService+`)
		LIMIT $1`, limit)
	if err != nil {
		return nil, fail("find abandoned delegations", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delegation, error) {
		var d Delegation
		err := row.Scan(&d.Run, &d.Step, &d.Item, &d.Attempt, &d.Kind, &d.Target, &d.Begun)
		return d, err
	})
	return list, fail("find abandoned delegations", err)
}

// Outcome is the state of a run.
type Outcome struct {
	ID    string
	Phase Phase
	Error string
}

// Outcomes returns the state of the given runs by id. Deleted runs are left out.
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
