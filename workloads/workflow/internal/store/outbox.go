// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Message is to be published. It is committed together with its cause.
type Message struct {
	ID   int64
	Body string
}

func (s *Store) publish(messages []Message) {
	if s.options.Publish != nil && len(messages) > 0 {
		s.options.Publish(messages)
	}
}

// Published removes what the queue has. A crash may bring it back, and then it is published again.
func (s *Store) Published(ctx context.Context, ids []int64) error {
	return fail("empty the outbox", pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SET LOCAL synchronous_commit = off")
		batch.Queue("DELETE FROM outbox WHERE id = ANY($1)", ids)
		return tx.SendBatch(ctx, batch).Close()
	}))
}

// Unpublished returns what stayed in the outbox for a while: whoever was to publish it has died, or had no queue.
func (s *Store) Unpublished(ctx context.Context, age time.Duration, limit int) ([]Message, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, body FROM outbox WHERE created <= $1 ORDER BY id LIMIT $2`, s.now().Add(-age), limit)
	if err != nil {
		return nil, fail("read the outbox", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Message])
	return list, fail("read the outbox", err)
}
