// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"errors"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxTogether bounds how many queries go in one batch.
const maxTogether = 32

// Together is a pool whose QueryRow sends the queries of many callers at once, over one connection and with one answer:
// under load that costs the server half. A single caller does not wait. It is for short reads; each statement
// sees all that was committed before it was sent, and one that fails fails alone.
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

// QueryRow is sent when its row is scanned.
func (t *Together) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &rowQuery{ctx: ctx, together: t, sql: sql, args: args}
}

// rowQuery is one query, and where its row goes.
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
	for _, q := range queries { // one that fails takes those behind it with it
		q.err = results.QueryRow().Scan(q.dest...)
		q.again = q.err != nil && !errors.Is(q.err, pgx.ErrNoRows)
	}
	_ = results.Close() // each query has its own error
}

func (q *rowQuery) alone() error {
	return q.together.Pool.QueryRow(q.ctx, q.sql, q.args...).Scan(q.dest...)
}
