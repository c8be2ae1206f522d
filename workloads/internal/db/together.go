// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"errors"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxTogether limits the queries in one batch.
const maxTogether = 32

// Together is a pool whose QueryRow sends the queries of many callers at once, over one connection in one round trip:
// under load that halves the server's work. A single caller does not wait. It is for short reads; each statement sees
// everything committed before it was sent, and one that fails does not affect the others.
type Together struct {
	*pgxpool.Pool
	queries *Joiner[rowQuery]
}

// NewTogether uses a few of the pool's connections at a time.
func NewTogether(pool *pgxpool.Pool) *Together {
	t := &Together{Pool: pool}
	t.queries = NewJoiner(maxTogether, 2*runtime.GOMAXPROCS(0), t.send)
	return t
}

// QueryRow returns a row whose query is sent when it is scanned.
func (t *Together) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &rowQuery{ctx: ctx, together: t, sql: sql, args: args}
}

// rowQuery is one query, and the destination of its row.
type rowQuery struct {
	ctx        context.Context
	together   *Together
	sql        string
	args, dest []any
	again      bool // it, or one before it, failed
	err        error
}

// Scan implements pgx.Row.
func (q *rowQuery) Scan(dest ...any) error {
	q.dest = dest
	answer, err := q.together.queries.Do(q.ctx, *q)
	switch {
	case err != nil:
		return err
	case answer.again:
		return q.alone()
	}
	return answer.err
}

func (t *Together) send(queries []*rowQuery) {
	if len(queries) == 1 {
		queries[0].err = queries[0].alone()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	for _, q := range queries {
		batch.Queue(q.sql, q.args...)
	}
	results := t.SendBatch(ctx, batch)
	for _, q := range queries { // one that fails aborts those after it
		q.err = results.QueryRow().Scan(q.dest...)
		q.again = q.err != nil && !errors.Is(q.err, pgx.ErrNoRows)
	}
	_ = results.Close() // each query has its own error
}

func (q *rowQuery) alone() error {
	return q.together.Pool.QueryRow(q.ctx, q.sql, q.args...).Scan(q.dest...)
}
