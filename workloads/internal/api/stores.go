// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrStoreFull means that a MemoryStore is at its limit of keys.
var ErrStoreFull = errors.New("the store of idempotency keys is full")

// MemoryStore stores responses in this process: for one replica, and for tests.
type MemoryStore struct {
	mu      sync.Mutex
	limit   int
	now     func() time.Time
	answers map[string]*storedAnswer
}

type storedAnswer struct {
	name                string
	fingerprint, answer []byte
	expires             time.Time
}

// NewMemoryStore returns a store of up to limit keys, each with up to 1 MiB.
func NewMemoryStore(limit int) *MemoryStore {
	return &MemoryStore{limit: limit, now: time.Now, answers: map[string]*storedAnswer{}}
}

// Claim implements Store; ErrStoreFull if no key has expired.
func (m *MemoryStore) Claim(_ context.Context, id []byte, name string, fingerprint []byte, lease time.Duration) (Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if k, ok := m.answers[string(id)]; ok && now.Before(k.expires) {
		return Claim{Fingerprint: k.fingerprint, Answer: k.answer}, nil
	}
	if len(m.answers) >= m.limit {
		for key, k := range m.answers {
			if !now.Before(k.expires) {
				delete(m.answers, key)
			}
		}
		if len(m.answers) >= m.limit {
			return Claim{}, ErrStoreFull
		}
	}
	m.answers[string(id)] = &storedAnswer{name: name, fingerprint: fingerprint, expires: now.Add(lease)}
	return Claim{Mine: true}, nil
}

// Finish implements Store.
func (m *MemoryStore) Finish(_ context.Context, id []byte, name string, answer []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.answers[string(id)]; ok && k.name == name {
		k.answer, k.expires = answer, m.now().Add(ttl)
	}
	return nil
}

// Release implements Store.
func (m *MemoryStore) Release(_ context.Context, id []byte, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.answers[string(id)]; ok && k.name == name {
		delete(m.answers, string(id))
	}
	return nil
}

// PostgresStore stores responses in the table api_idempotency, for all replicas.
type PostgresStore struct{ pool *pgxpool.Pool }

// NewPostgresStore uses a pool whose search_path has the table of Migrations.
func NewPostgresStore(pool *pgxpool.Pool) *PostgresStore { return &PostgresStore{pool: pool} }

// Claim implements Store.
func (s *PostgresStore) Claim(ctx context.Context, id []byte, name string, fingerprint []byte, lease time.Duration) (Claim, error) {
	for {
		tag, err := s.pool.Exec(ctx, `
			INSERT INTO api_idempotency AS known (id, claim, fingerprint, expires_at) VALUES ($1, $2, $3, now() + $4)
			ON CONFLICT (id) DO UPDATE SET claim = excluded.claim, fingerprint = excluded.fingerprint, answer = NULL, expires_at = excluded.expires_at
			WHERE known.expires_at <= now()`, id, name, fingerprint, lease)
		if err != nil {
			return Claim{}, fmt.Errorf("claim an idempotency key: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return Claim{Mine: true}, nil
		}
		var c Claim
		err = s.pool.QueryRow(ctx, `SELECT fingerprint, answer FROM api_idempotency WHERE id = $1`, id).Scan(&c.Fingerprint, &c.Answer)
		if errors.Is(err, pgx.ErrNoRows) { // it was released in between
			continue
		}
		if err != nil {
			return Claim{}, fmt.Errorf("look up an idempotency key: %w", err)
		}
		return c, nil
	}
}

// Finish implements Store.
func (s *PostgresStore) Finish(ctx context.Context, id []byte, name string, answer []byte, ttl time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE api_idempotency SET answer = $3, expires_at = now() + $4 WHERE id = $1 AND claim = $2`, id, name, answer, ttl)
	if err != nil {
		return fmt.Errorf("store a response: %w", err)
	}
	return nil
}

// Release implements Store.
func (s *PostgresStore) Release(ctx context.Context, id []byte, name string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM api_idempotency WHERE id = $1 AND claim = $2`, id, name); err != nil {
		return fmt.Errorf("release an idempotency key: %w", err)
	}
	return nil
}

// sweepBatch is how many rows one statement deletes.
const sweepBatch = 1000

// Sweep deletes expired rows, and returns their number.
func (s *PostgresStore) Sweep(ctx context.Context) (int64, error) {
	var all int64
	for {
		tag, err := s.pool.Exec(ctx, `DELETE FROM api_idempotency WHERE id IN (
			SELECT id FROM api_idempotency WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)`, sweepBatch)
		if err != nil {
			return all, fmt.Errorf("sweep idempotency keys: %w", err)
		}
		all += tag.RowsAffected()
		if tag.RowsAffected() < sweepBatch {
			return all, nil
		}
	}
}

// Run sweeps periodically until ctx ends.
func (s *PostgresStore) Run(ctx context.Context, every time.Duration, log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if n, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "expired idempotency keys were not deleted", "error", err)
		} else if n > 0 {
			log.DebugContext(ctx, "swept idempotency keys", "keys", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
