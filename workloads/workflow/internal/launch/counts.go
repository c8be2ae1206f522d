// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// writeEvery is how often counts are written: a crash loses those since the last write.
const writeEvery = time.Second

// Database is the subset of a pool that the counts need.
type Database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Count is the counts of one trigger.
type Count struct {
	// Fired is when the trigger last started a run, or zero.
	Fired    time.Time
	Rejected int64
}

type key struct{ workflow, trigger string }

// counts batches, so that a flood of rejects is one write per second.
type counts struct {
	db Database

	mu        sync.Mutex
	unwritten map[key]Count
}

func (c *counts) add(k key, n Count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.merge(k, n)
}

func (c *counts) merge(k key, n Count) {
	sum := c.unwritten[k]
	sum.Rejected += n.Rejected
	if n.Fired.After(sum.Fired) {
		sum.Fired = n.Fired
	}
	c.unwritten[k] = sum
}

// Run writes the counts until ctx is done, and then the remaining ones.
func (l *Launcher) Run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		if err := l.Flush(context.WithoutCancel(ctx)); err != nil {
			log.Warn("cannot write the counts of triggers; will retry", "error", err)
		}
	}
}

// Flush writes the counts. After an error they are left to the next Flush.
func (l *Launcher) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := &l.counts
	c.mu.Lock()
	batch := c.unwritten
	c.unwritten = map[key]Count{}
	c.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	var workflows, triggers []string
	var fired []*time.Time
	var rejected []int64
	for k, n := range batch {
		workflows, triggers, rejected = append(workflows, k.workflow), append(triggers, k.trigger), append(rejected, n.Rejected)
		var at *time.Time
		if !n.Fired.IsZero() {
			at = &n.Fired
		}
		fired = append(fired, at)
	}
	_, err := c.db.Exec(ctx, `INSERT INTO triggers AS t (workflow, trigger, fired, rejected)
		SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
		ON CONFLICT (workflow, trigger) DO UPDATE SET fired = greatest(t.fired, excluded.fired), rejected = t.rejected + excluded.rejected`,
		workflows, triggers, fired, rejected)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range batch {
		c.merge(k, n)
	}
	return fmt.Errorf("write the counts of triggers: %w", err)
}

// Counts returns the written counts by workflow and trigger.
func (l *Launcher) Counts(ctx context.Context) (map[string]map[string]Count, error) {
	rows, err := l.counts.db.Query(ctx, `SELECT workflow, trigger, fired, rejected FROM triggers`)
	if err != nil {
		return nil, fmt.Errorf("read the counts of triggers: %w", err)
	}
	out := map[string]map[string]Count{}
	var k key
	var fired *time.Time
	var rejected int64
	_, err = pgx.ForEachRow(rows, []any{&k.workflow, &k.trigger, &fired, &rejected}, func() error {
		n := Count{Rejected: rejected}
		if fired != nil {
			n.Fired = *fired
		}
		if out[k.workflow] == nil {
			out[k.workflow] = map[string]Count{}
		}
		out[k.workflow][k.trigger] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the counts of triggers: %w", err)
	}
	return out, nil
}

// Forget deletes the counts of a deleted workflow.
func (l *Launcher) Forget(ctx context.Context, workflow string) error {
	if _, err := l.counts.db.Exec(ctx, `DELETE FROM triggers WHERE workflow = $1`, workflow); err != nil {
		return fmt.Errorf("delete the counts of workflow %s: %w", workflow, err)
	}
	return nil
}
