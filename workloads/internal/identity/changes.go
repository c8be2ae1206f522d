// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/internal/auth"
)

const (
	// pollEvery is how long another replica may accept a revoked token, or use outdated grants.
	pollEvery = 2 * time.Second
	// overlap rereads what a slow transaction may have committed with an earlier time.
	overlap = time.Minute
)

// changes holds what happened since tokens in circulation were signed: revoked sessions and changed grants. It is in
// memory, so that a token is verified without the database, and remains in use while that is unavailable.
type changes struct {
	pool *pgxpool.Pool
	ttl  time.Duration // of access tokens: older changes affect none
	log  *slog.Logger

	mu      sync.RWMutex
	revoked map[string]time.Time // times by session
	grants  map[string]granted   // by user
	since   time.Time            // everything before, by the database's clock, is known
}

type granted struct {
	at     time.Time
	grants []auth.Grant
}

func newChanges(pool *pgxpool.Pool, ttl time.Duration, log *slog.Logger) *changes {
	return &changes{pool: pool, ttl: ttl, log: log, revoked: map[string]time.Time{}, grants: map[string]granted{}}
}

// refresh reads the changes since the last time.
func (c *changes) refresh(ctx context.Context) error {
	var now time.Time
	if err := c.pool.QueryRow(ctx, "SELECT now()").Scan(&now); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	oldest := now.Add(-c.ttl - leeway)
	c.mu.RLock()
	from := c.since.Add(-overlap)
	c.mu.RUnlock()
	if from.Before(oldest) {
		from = oldest
	}
	type row struct {
		ID     string
		At     time.Time
		Grants []auth.Grant
	}
	read := func(sql string) ([]row, error) {
		rows, err := c.pool.Query(ctx, sql, from)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	}
	revoked, err := read("SELECT id::text, revoked_at, '[]'::jsonb FROM sessions WHERE revoked_at > $1")
	if err != nil {
		return fmt.Errorf("read revoked sessions: %w", err)
	}
	changed, err := read("SELECT id::text, changed_at, grants FROM users WHERE changed_at > $1")
	if err != nil {
		return fmt.Errorf("read changed grants: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range revoked {
		c.revoked[r.ID] = r.At
	}
	for _, r := range changed {
		if old, ok := c.grants[r.ID]; !ok || !r.At.Before(old.at) {
			c.grants[r.ID] = granted{r.At, r.Grants}
		}
	}
	c.since = now
	c.prune(oldest)
	return nil
}

// prune removes what is older than every token.
func (c *changes) prune(oldest time.Time) {
	for id, at := range c.revoked {
		if at.Before(oldest) {
			delete(c.revoked, id)
		}
	}
	for id, g := range c.grants {
		if g.at.Before(oldest) {
			delete(c.grants, id)
		}
	}
}

// revoke takes effect at once on this replica.
func (c *changes) revoke(sessions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range sessions {
		c.revoked[id] = time.Now()
	}
}

// grant does the same with a user's grants.
func (c *changes) grant(user string, at time.Time, grants []auth.Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.grants[user]; !ok || old.at.Before(at) {
		c.grants[user] = granted{at, grants}
	}
}

// apply returns the current grants of a token's bearer; ok is false if the session was revoked.
func (c *changes) apply(token *claims) (grants []auth.Grant, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if _, revoked := c.revoked[token.Session]; revoked {
		return nil, false
	}
	// The token's time has whole seconds of another machine's clock: if in doubt the newer grants apply, which the token
	// also carries if it was signed after them.
	if newer, changed := c.grants[token.Subject]; changed {
		return newer.grants, true
	}
	return token.Grants, true
}

// run refreshes until ctx ends.
func (c *changes) run(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := c.refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			c.log.WarnContext(ctx, "revocations are not up to date", "error", err)
		}
		failing = err != nil
	}
}
