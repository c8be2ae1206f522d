// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Summary describes the stored runs of one workflow.
type Summary struct {
	Phases map[Phase]int64
	// Last is the latest run.
	Last Progress
}

// Summaries returns the summaries of all workflows by name, with two queries.
func (s *Store) Summaries(ctx context.Context) (map[string]Summary, error) {
	rows, err := s.pool.Query(ctx, `SELECT workflow, phase, count(*) FROM runs GROUP BY workflow, phase`)
	if err != nil {
		return nil, fail("count runs", err)
	}
	out := map[string]Summary{}
	names := []string{}
	var workflow string
	var phase Phase
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&workflow, &phase, &n}, func() error {
		if _, known := out[workflow]; !known {
			out[workflow] = Summary{Phases: map[Phase]int64{}}
			names = append(names, workflow)
		}
		out[workflow].Phases[phase] = n
		return nil
	})
	if err != nil {
		return nil, fail("count runs", err)
	}
	rows, err = s.pool.Query(ctx, `SELECT w.name, r.id::text, r.phase, coalesce(r.started, r.created) FROM unnest($1::text[]) AS w(name),
		LATERAL (SELECT * FROM runs WHERE workflow = w.name ORDER BY id DESC LIMIT 1) r`, names)
	if err != nil {
		return nil, fail("find the last runs", err)
	}
	var last Progress
	_, err = pgx.ForEachRow(rows, []any{&workflow, &last.ID, &last.Phase, &last.Started}, func() error {
		one := out[workflow]
		one.Last = last
		out[workflow] = one
		return nil
	})
	return out, fail("find the last runs", err)
}

// Progress is the progress of a run.
type Progress struct {
	ID         string
	Phase      Phase
	Generation int64
	Error      string
	// Step is the first active step, or the first failed step of an ended run.
	Step              string
	Started, Finished *time.Time
}

const progress = `
	SELECT r.id::text, r.phase, r.generation, r.error, coalesce((SELECT s.name FROM steps s WHERE s.run = r.id AND s.item = -1
			AND s.phase = ANY(CASE WHEN r.finished IS NULL THEN ARRAY['Running', 'Waiting', 'Ready'] ELSE ARRAY['Failed'] END)
			ORDER BY s.phase = 'Ready', s.step LIMIT 1), ''), r.started, r.finished
	FROM runs r WHERE r.id = ANY($1::text[]::uuid[])`

// Progresses returns the progress of the given runs by id. Deleted runs are left out.
func (s *Store) Progresses(ctx context.Context, ids []string) (map[string]Progress, error) {
	rows, err := s.pool.Query(ctx, progress, ids)
	if err != nil {
		return nil, fail("read the progress of runs", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Progress])
	if err != nil {
		return nil, fail("read the progress of runs", err)
	}
	out := make(map[string]Progress, len(list))
	for _, p := range list {
		out[p.ID] = p
	}
	return out, nil
}
