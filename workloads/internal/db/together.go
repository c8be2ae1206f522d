// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxTogether bounds how many queries go in one batch: the last one waits for all others.
const maxTogether = 32

// Together is a pool whose QueryRow sends the queries of many callers at once, over one connection and with one answer:
// under load that costs the server half. A caller who is alone waits for nobody. It is for short reads; each statement
// sees all that was committed before it was sent, and one that fails fails alone.
type Together struct {
	*pgxpool.Pool
	atOnce int // batches

	mu      sync.Mutex
	waiting []*rowQuery
	busy    int // batches that are under way
}

// NewTogether uses a few of the pool's connections at a time.
func NewTogether(pool *pgxpool.Pool) *Together {
	return &Together{Pool: pool, atOnce: 2 * runtime.GOMAXPROCS(0)}
}

// QueryRow is sent when its row is scanned.
func (t *Together) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return &rowQuery{ctx: ctx, together: t, sql: sql, args: args, done: make(chan error, 1)}
}

// rowQuery is one query, and where its row goes.
type rowQuery struct {
	ctx        context.Context
	together   *Together
	sql        string
	args, dest []any
	done       chan error
}

// Scan implements pgx.Row.
func (q *rowQuery) Scan(dest ...any) error {
	q.dest = dest
	t := q.together
	t.mu.Lock()
	t.waiting = append(t.waiting, q)
	begin := t.busy < t.atOnce
	if begin {
		t.busy++
	}
	t.mu.Unlock()
	if begin {
		go t.work()
	}
	select {
	case err := <-q.done:
		return err
	case <-q.ctx.Done():
	}
	if t.forget(q) {
		return q.ctx.Err()
	}
	return <-q.done // it is under way, and writes into dest
}

// forget takes a query back that was not sent yet.
func (t *Together) forget(q *rowQuery) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, q)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	return i >= 0
}

// work sends batches until nobody waits.
func (t *Together) work() {
	for {
		t.mu.Lock()
		n := min(len(t.waiting), maxTogether)
		if n == 0 {
			t.busy--
			t.mu.Unlock()
			return
		}
		batch := slices.Clone(t.waiting[:n])
		t.waiting = slices.Delete(t.waiting, 0, n)
		t.mu.Unlock()
		t.send(batch)
	}
}

func (t *Together) send(queries []*rowQuery) {
	if len(queries) == 1 {
		queries[0].alone()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	for _, q := range queries {
		batch.Queue(q.sql, q.args...)
	}
	results := t.SendBatch(ctx, batch)
	var again []*rowQuery // one that fails takes those behind it with it
	for _, q := range queries {
		if err := results.QueryRow().Scan(q.dest...); err == nil || errors.Is(err, pgx.ErrNoRows) {
			q.done <- err
		} else {
			again = append(again, q)
		}
	}
	_ = results.Close() // each query has its own error
	for _, q := range again {
		go q.alone()
	}
}

func (q *rowQuery) alone() {
	q.done <- q.together.Pool.QueryRow(q.ctx, q.sql, q.args...).Scan(q.dest...)
}
