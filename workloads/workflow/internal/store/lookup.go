// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// StepAt returns a step (item -1) or an item of a step. It returns ErrNotFound if it has not started.
func (s *Store) StepAt(ctx context.Context, run string, step, item int) (Step, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+stepColumnsSQL+` FROM steps WHERE run = $1 AND step = $2 AND item = $3`, run, step, item)
	if err != nil {
		return Step{}, fail("read step", err)
	}
	x, err := pgx.CollectExactlyOneRow(rows, scanStep)
	return x, fail("read step", err)
}

// Current returns the name of the run's first active step, or "" if there is none.
func (s *Store) Current(ctx context.Context, run string) (string, error) {
	var name string
	err := s.pool.QueryRow(ctx, `SELECT name FROM steps WHERE run = $1 AND item = -1 AND phase IN ('Ready', 'Running', 'Waiting')
		ORDER BY step LIMIT 1`, run).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return name, fail("read the active step", err)
}
