// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const cursorTimeout = 5 * time.Second

// readCursors reads the cursors of the kind's triggers, and deletes those of others: a trigger that is added again starts at the
// present.
func (k *kindWatch) readCursors(ctx context.Context) error {
	if err := k.dropCursors(ctx); err != nil {
		return err
	}
	rows, err := k.options.Pool.Query(ctx, `SELECT workflow, trigger, uid, version, seen FROM trigger_cursors WHERE kind = $1`, k.kind)
	if err != nil {
		return fmt.Errorf("read the cursors of triggers: %w", err)
	}
	k.cursors, k.seen = map[id]int64{}, time.Time{}
	var of id
	var uid string
	var at int64
	var seen time.Time
	_, err = pgx.ForEachRow(rows, []any{&of.workflow, &of.trigger, &uid, &at, &seen}, func() error {
		if s, wanted := k.triggers[of]; wanted && s.uid == uid {
			k.cursors[of] = at
			if k.seen.IsZero() || seen.Before(k.seen) {
				k.seen = seen
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the cursors of triggers: %w", err)
	}
	return nil
}

// dropCursors deletes the cursors of triggers that no longer exist.
func (k *kindWatch) dropCursors(ctx context.Context) error {
	workflows, triggers := k.names()
	_, err := k.options.Pool.Exec(ctx, `DELETE FROM trigger_cursors c WHERE kind = $1
		AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS u(workflow, trigger) WHERE u.workflow = c.workflow AND u.trigger = c.trigger)`,
		k.kind, workflows, triggers)
	if err != nil {
		return fmt.Errorf("delete the cursors of triggers: %w", err)
	}
	return nil
}

func (k *kindWatch) names() (workflows, triggers []string) {
	workflows, triggers = []string{}, []string{}
	for of := range k.triggers {
		workflows, triggers = append(workflows, of.workflow), append(triggers, of.trigger)
	}
	return workflows, triggers
}

func (k *kindWatch) putCursor(ctx context.Context, s source, at int64) error {
	_, err := k.options.Pool.Exec(ctx, `INSERT INTO trigger_cursors (workflow, trigger, uid, kind, version, seen) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workflow, trigger) DO UPDATE SET uid = excluded.uid, kind = excluded.kind, version = excluded.version, seen = excluded.seen`,
		s.workflow, s.trigger, s.uid, k.kind, at, time.Now())
	if err != nil {
		return fmt.Errorf("save the cursor of trigger %s of workflow %s: %w", s.trigger, s.workflow, err)
	}
	return nil
}

// save stores the position if it has changed.
func (k *kindWatch) save(ctx context.Context) error {
	if k.position <= k.saved {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cursorTimeout)
	defer cancel()
	workflows, triggers := k.names()
	now := time.Now()
	_, err := k.options.Pool.Exec(ctx, `UPDATE trigger_cursors c SET version = $2, seen = $3 FROM unnest($4::text[], $5::text[]) AS u(workflow, trigger)
		WHERE u.workflow = c.workflow AND u.trigger = c.trigger AND c.kind = $1 AND c.version < $2`, k.kind, k.position, now, workflows, triggers)
	if err != nil {
		return fmt.Errorf("save the cursors: %w", err)
	}
	k.saved, k.seen = k.position, now
	return nil
}
