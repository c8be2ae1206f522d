// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Message is a message to publish. It is committed with the transition that caused it.
type Message struct {
	ID   int64
	Body string
}

func (s *Store) publish(messages []Message) {
	if s.options.Publish != nil && len(messages) > 0 {
		s.options.Publish(messages)
	}
}

// Published removes published messages. A crash may undo this; then they are published again.
func (s *Store) Published(ctx context.Context, ids []int64) error {
	return fail("empty the outbox", pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SET LOCAL synchronous_commit = off")
		batch.Queue("DELETE FROM outbox WHERE id = ANY($1)", ids)
		return tx.SendBatch(ctx, batch).Close()
	}))
}

// Unpublished returns messages older than age: their publisher crashed, or had no queue.
func (s *Store) Unpublished(ctx context.Context, age time.Duration, limit int) ([]Message, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, body FROM outbox WHERE created <= $1 ORDER BY id LIMIT $2`, s.now().Add(-age), limit)
	if err != nil {
		return nil, fail("read the outbox", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Message])
	return list, fail("read the outbox", err)
}
