// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// putLine stores since when a line is valid. The time is reset when the Workflow was recreated, the line has changed, or the
// Workflow is no longer suspended. A view that is older than the stored one changes nothing, and returns no row.
const putLine = `
	INSERT INTO trigger_lines AS t (workflow, trigger, uid, created, generation, line, suspended, since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
	ON CONFLICT (workflow, trigger) DO UPDATE SET uid = excluded.uid, created = excluded.created, generation = excluded.generation, line = excluded.line,
		suspended = excluded.suspended,
		since = CASE WHEN t.uid = excluded.uid AND t.line = excluded.line AND (excluded.suspended OR NOT t.suspended) THEN t.since ELSE excluded.since END
	WHERE (excluded.created, excluded.generation) >= (t.created, t.generation)
	RETURNING since`

// dropLines deletes the lines of triggers that a Workflow no longer has.
const dropLines = `DELETE FROM trigger_lines WHERE workflow = $1 AND trigger <> ALL($2) AND (created, generation) <= ($3, $4)`

// lines passes a workflow's cron lines to the scheduler.
func (t *Triggers) lines(ctx context.Context, e *catalog.Entry) error {
	w := e.Workflow
	names := []string{}
	var wanted []schedule.Trigger
	for _, spec := range e.Program.Workflow().Triggers {
		if spec.Scheduled == nil {
			continue
		}
		names = append(names, spec.Name)
		trigger := schedule.Trigger{
			Workflow: w.Name, Name: spec.Name, Line: spec.Scheduled.Cron + " " + spec.Scheduled.TimeZone, Missed: spec.Scheduled.Missed,
			StartingDeadline: time.Duration(spec.Scheduled.StartingDeadline), Suspend: w.Spec.Suspend,
			Next: func(after time.Time) time.Time {
				next, _ := e.Program.Next(spec.Name, after)
				return next
			},
		}
		var err error
		if trigger.Since, err = t.since(ctx, e, trigger); err != nil {
			t.setState(id{w.Name, spec.Name}, false, "the database is unavailable")
			return err
		}
		wanted = append(wanted, trigger)
		t.setState(id{w.Name, spec.Name}, true, "")
	}
	if t.lined[w.Name] {
		if _, err := t.options.Pool.Exec(ctx, dropLines, w.Name, names, w.CreationTimestamp.Time, w.Generation); err != nil {
			return fmt.Errorf("save the cron lines of workflow %s: %w", w.Name, err)
		}
	}
	t.lined[w.Name] = len(names) > 0
	t.scheduler.Set(w.Name, wanted...)
	return nil
}

// since returns since when the line is valid.
func (t *Triggers) since(ctx context.Context, e *catalog.Entry, trigger schedule.Trigger) (time.Time, error) {
	w := e.Workflow
	since := w.CreationTimestamp.Time // ticks since the creation count as missed
	if w.Generation > 1 {
		since = t.now()
	}
	err := t.options.Pool.QueryRow(ctx, putLine, w.Name, trigger.Name, string(w.UID), w.CreationTimestamp.Time, w.Generation, trigger.Line, trigger.Suspend, since).Scan(&since)
	if errors.Is(err, pgx.ErrNoRows) {
		err = t.options.Pool.QueryRow(ctx, `SELECT since FROM trigger_lines WHERE workflow = $1 AND trigger = $2`, w.Name, trigger.Name).Scan(&since)
	}
	if err != nil {
		return since, fmt.Errorf("save the cron line of trigger %s of workflow %s: %w", trigger.Name, w.Name, err)
	}
	return since, nil
}

func (t *Triggers) now() time.Time {
	if t.options.Clock != nil {
		return t.options.Clock.Now()
	}
	return time.Now()
}

func collect(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// tick implements schedule.Start. A run that exceeds the concurrency limit counts as done.
func (t *Triggers) tick(ctx context.Context, workflow, trigger string, at time.Time, key string) error {
	_, err := t.options.Launcher.Start(ctx, launch.Request{
		Workflow: workflow, Trigger: trigger, Key: key, Info: definition.TriggerInfo{Type: string(definition.Scheduled), Name: trigger, ScheduledAt: at},
	})
	var input *definition.InputError
	switch {
	case err == nil, errors.Is(err, store.ErrBusy):
		return nil
	case errors.As(err, &input), errors.Is(err, launch.ErrNoWorkflow), errors.Is(err, launch.ErrNoTrigger), errors.Is(err, launch.ErrSuspended):
		return fmt.Errorf("%w: %w", backend.ErrInvalid, err)
	}
	return err
}
