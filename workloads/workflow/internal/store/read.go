// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Run is one execution of a workflow.
type Run struct {
	ID         string
	Workflow   string
	Generation int64
	Hash       string
	Phase      Phase
	// Seq is the number of the newest event.
	Seq                         int64
	Inputs, Trigger             json.RawMessage
	IdempotencyKey              string
	Attempt                     int
	RerunOf, RerunFrom          string
	Created                     time.Time
	Started, Finished, Deadline *time.Time
	Timeout                     time.Duration
	// Error is why the run did not succeed.
	Error string
	// Bounded means that the run has a concurrency limit: other runs may wait for its end.
	Bounded bool
	// Objects are the folders in object storage that its rows may refer to, besides the run's own.
	Objects []string
}

const runColumnsSQL = `id::text, workflow, generation, hash, phase, seq, inputs, trigger, coalesce(idempotency_key, ''), attempt,
	coalesce(rerun_of::text, ''), coalesce(rerun_from, ''), created, started, finished, deadline, timeout_ms, error, concurrency_key IS NOT NULL, objects::text[]`

func scanRun(rows pgx.CollectableRow) (Run, error) {
	var r Run
	var milliseconds int64
	err := rows.Scan(&r.ID, &r.Workflow, &r.Generation, &r.Hash, &r.Phase, &r.Seq, &r.Inputs, &r.Trigger, &r.IdempotencyKey, &r.Attempt,
		&r.RerunOf, &r.RerunFrom, &r.Created, &r.Started, &r.Finished, &r.Deadline, &milliseconds, &r.Error, &r.Bounded, &r.Objects)
	r.Timeout = time.Duration(milliseconds) * time.Millisecond
	return r, err
}

// Get returns a run, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (Run, error) {
	if _, err := uuid.Parse(id); err != nil {
		return Run{}, fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+runColumnsSQL+` FROM runs WHERE id = $1`, id)
	if err != nil {
		return Run{}, fail("read run", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRun)
	return r, fail("read run", err)
}

// ListOptions filter a list of runs.
type ListOptions struct {
	// Workflow selects the runs of one workflow; empty selects all.
	Workflow string
	// Phases selects runs in these phases; empty selects all.
	Phases []Phase
	// Before is the id of the previous page's last run; empty for the first page.
	Before string
	// Limit is between 1 and 1000; 0 means 100.
	Limit int
}

// List returns runs, newest first, and reports whether there are more.
func (s *Store) List(ctx context.Context, o ListOptions) ([]Run, bool, error) {
	size, err := limit(o.Limit)
	if err != nil {
		return nil, false, err
	}
	before := uuid.Max.String()
	if o.Before != "" {
		if _, err := uuid.Parse(o.Before); err != nil {
			return nil, false, fmt.Errorf("before: must be the id of a run: %w", backend.ErrInvalid)
		}
		before = o.Before
	}
	phases := []string{}
	for _, p := range o.Phases {
		phases = append(phases, string(p))
	}
	where := `WHERE id < $1 AND (cardinality($2::text[]) = 0 OR phase = ANY($2)) `
	args := []any{before, phases, size + 1}
	if o.Workflow != "" {
		where += `AND workflow = $4 `
		args = append(args, o.Workflow)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+runColumnsSQL+` FROM runs `+where+`ORDER BY id DESC LIMIT $3`, args...)
	if err != nil {
		return nil, false, fail("list runs", err)
	}
	list, err := pgx.CollectRows(rows, scanRun)
	return list[:min(size, len(list))], len(list) > size, fail("list runs", err)
}

// Step is a step that has started, or an item of one.
type Step struct {
	Step, Item, Attempt int
	Name                string
	Phase               Phase
	Output, Outputs     json.RawMessage
	// Detail is the detail of the wait.
	Detail            json.RawMessage
	Resumable         bool
	Error             string
	Started, Finished *time.Time
	// Due is when a waiting step continues.
	Due *time.Time
}

const stepColumnsSQL = `step, item, attempt, name, phase, output, outputs, detail, resumable, error, started, finished,
	CASE WHEN phase = 'Waiting' THEN due END`

// Cursor is a position in a list of steps.
type Cursor struct{ Step, Item int }

// Steps returns the steps of a run after a position, in order, and reports whether there are more. The first page is after {-1,
// -1}.
func (s *Store) Steps(ctx context.Context, run string, after Cursor, size int) ([]Step, bool, error) {
	size, err := limit(size)
	if err != nil {
		return nil, false, err
	}
	rows, err := s.pool.Query(ctx, `SELECT `+stepColumnsSQL+` FROM steps WHERE run = $1 AND (step, item) > ($2, $3) ORDER BY step, item LIMIT $4`,
		run, after.Step, after.Item, size+1)
	if err != nil {
		return nil, false, fail("list steps", err)
	}
	list, err := pgx.CollectRows(rows, scanStep)
	return list[:min(size, len(list))], len(list) > size, fail("list steps", err)
}

func scanStep(row pgx.CollectableRow) (Step, error) {
	var x Step
	err := row.Scan(&x.Step, &x.Item, &x.Attempt, &x.Name, &x.Phase, &x.Output, &x.Outputs, &x.Detail, &x.Resumable, &x.Error, &x.Started,
		&x.Finished, &x.Due)
	return x, err
}

// Results returns the results of the given steps of a run. Steps without a row are left out.
func (s *Store) Results(ctx context.Context, run string, steps []int) ([]Step, error) {
	rows, err := s.pool.Query(ctx, `SELECT step, phase, output, outputs, error, attempt FROM steps WHERE run = $1 AND step = ANY($2) AND item = -1`, run, steps)
	if err != nil {
		return nil, fail("read results", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Step, error) {
		x := Step{Item: wholeStep}
		err := row.Scan(&x.Step, &x.Phase, &x.Output, &x.Outputs, &x.Error, &x.Attempt)
		return x, err
	})
	return list, fail("read results", err)
}

// Item returns one item of a forEach.
func (s *Store) Item(ctx context.Context, run string, step, item int) (json.RawMessage, error) {
	var out json.RawMessage
	err := s.pool.QueryRow(ctx, `SELECT input -> $3::int FROM steps WHERE run = $1 AND step = $2 AND item = -1`, run, step, item).Scan(&out)
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == untranslatable {
		return s.itemOfWhole(ctx, run, step, item)
	}
	return out, fail("read item", err)
}

// untranslatable is the error code for U+0000 in a text: JSON operators reject it anywhere in a value.
const untranslatable = "22P05"

// itemOfWhole reads the whole list and selects the item in Go.
func (s *Store) itemOfWhole(ctx context.Context, run string, step, item int) (json.RawMessage, error) {
	var list []json.RawMessage
	err := s.pool.QueryRow(ctx, `SELECT input FROM steps WHERE run = $1 AND step = $2 AND item = -1`, run, step).Scan(&list)
	if err != nil || item >= len(list) {
		return nil, fail("read item", cmp.Or(err, pgx.ErrNoRows))
	}
	return list[item], nil
}

// Event is an entry of a run's history.
type Event struct {
	Seq  int64
	At   time.Time
	Kind string
	// Step is the step's name; empty for an event of the run.
	Step          string
	Item, Attempt int
	Detail        string
}

// Events returns at most size events of a run after the given one. Size is between 1 and 1000; 0 means 100.
func (s *Store) Events(ctx context.Context, run string, after int64, size int) ([]Event, error) {
	size, err := limit(size)
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `SELECT seq, at, kind, step, item, attempt, detail FROM events WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
		run, after, size)
	if err != nil {
		return nil, fail("read events", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	return list, fail("read events", err)
}

func limit(requested int) (int, error) {
	switch {
	case requested == 0:
		return defaultLimit, nil
	case requested < 0 || requested > maxLimit:
		return 0, fmt.Errorf("limit: must be between 1 and %d: %w", maxLimit, backend.ErrInvalid)
	}
	return requested, nil
}
