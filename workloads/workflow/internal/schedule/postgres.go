// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// retention is how long claims other than the newest are kept, for debugging.
const retention = 24 * time.Hour

// Database is the subset of a pool that Postgres needs.
type Database interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Postgres stores claims in the table ticks, whose primary key is (workflow, trigger, at).
type Postgres struct{ DB Database }

// Last implements Store.
func (p Postgres) Last(ctx context.Context, workflow, trigger string) (time.Time, error) {
	var last *time.Time
	err := p.DB.QueryRow(ctx, `SELECT max(at) FROM ticks WHERE workflow = $1 AND trigger = $2`, workflow, trigger).Scan(&last)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the last tick: %w", err)
	}
	if last == nil {
		return time.Time{}, nil
	}
	return *last, nil
}

// Claim implements Store.
func (p Postgres) Claim(ctx context.Context, workflow, trigger string, at time.Time) (bool, error) {
	var first bool
	err := p.DB.QueryRow(ctx, `WITH claimed AS (
			INSERT INTO ticks (workflow, trigger, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING at
		), old AS (
			DELETE FROM ticks WHERE workflow = $1 AND trigger = $2 AND at < $4
		)
		SELECT count(*) = 1 FROM claimed`, workflow, trigger, at, at.Add(-retention)).Scan(&first)
	if err != nil {
		return false, fmt.Errorf("claim a tick: %w", err)
	}
	return first, nil
}

// Forget deletes the ticks of a deleted workflow.
func (p Postgres) Forget(ctx context.Context, workflow string) error {
	if _, err := p.DB.Exec(ctx, `DELETE FROM ticks WHERE workflow = $1`, workflow); err != nil {
		return fmt.Errorf("delete the ticks of workflow %s: %w", workflow, err)
	}
	return nil
}
