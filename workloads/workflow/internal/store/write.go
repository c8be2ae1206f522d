// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// writes collects the changes of a transaction: one statement per table for any number of runs.
type writes struct {
	now     time.Time
	durable bool

	runs   runColumns
	steps  stepColumns
	events eventColumns
	tasks  []string
	// messages are the tasks with their ids in the outbox, after they are written.
	messages []Message

	dropRuns, dropItemRuns []string
	dropRunning            []bool
	dropItemSteps          []int
	collectRuns            []string
	collectSteps           []int
}

type runColumns struct {
	ids, phases, stages, outcomes, failures []string
	states                                  [][]byte
	loops                                   []*string
	seqs                                    []int64
	started, finished, deadlines            []*time.Time
}

type stepColumns struct {
	runs, names, phases, owners, failures           []string
	steps, items, attempts, claims                  []int
	dues, started, finished                         []*time.Time
	resumables                                      []bool
	inputs, outputs, namedOutputs, details, resumes []*string
}

type eventColumns struct {
	runs, kinds, steps, details []string
	seqs                        []int64
	items, attempts             []int
}

func (w *writes) add(l *locked) {
	if !l.changed && len(l.events) == 0 && len(l.tasks) == 0 {
		return
	}
	w.addRun(l)
	for _, r := range l.rows {
		if r.changed || r.isNew {
			w.addStep(r)
		}
		if r.collect {
			w.collectRuns, w.collectSteps = append(w.collectRuns, r.run), append(w.collectSteps, r.step)
		}
	}
	e := &w.events
	for _, x := range l.events {
		e.runs, e.seqs, e.kinds = append(e.runs, l.run.ID), append(e.seqs, x.seq), append(e.kinds, x.kind)
		e.steps, e.items = append(e.steps, x.step), append(e.items, x.item)
		e.attempts, e.details = append(e.attempts, x.attempt), append(e.details, x.detail)
	}
	w.tasks = append(w.tasks, l.tasks...)
	if l.drop != dropNothing {
		w.dropRuns, w.dropRunning = append(w.dropRuns, l.run.ID), append(w.dropRunning, l.drop == dropActive)
	}
	for _, step := range l.dropItems {
		w.dropItemRuns, w.dropItemSteps = append(w.dropItemRuns, l.run.ID), append(w.dropItemSteps, step)
	}
}

func (w *writes) addRun(l *locked) {
	c, m := &w.runs, &l.machine
	state := make([]byte, len(m.state))
	for i, p := range m.state {
		state[i] = code(p)
	}
	var loops *string
	if len(m.loops) > 0 {
		data, _ := json.Marshal(m.loops) // numbers and strings cannot fail
		text := string(data)
		loops = &text
	}
	c.ids, c.phases, c.stages = append(c.ids, l.run.ID), append(c.phases, string(l.run.Phase)), append(c.stages, string(m.stage))
	c.outcomes, c.failures = append(c.outcomes, string(m.outcome)), append(c.failures, m.failure)
	c.states, c.loops, c.seqs = append(c.states, state), append(c.loops, loops), append(c.seqs, l.run.Seq)
	c.started, c.finished = append(c.started, l.run.Started), append(c.finished, l.run.Finished)
	c.deadlines = append(c.deadlines, l.run.Deadline)
}

func (w *writes) addStep(r *row) {
	c := &w.steps
	c.runs, c.steps, c.items, c.names = append(c.runs, r.run), append(c.steps, r.step), append(c.items, r.item), append(c.names, r.name)
	c.phases, c.attempts, c.claims = append(c.phases, string(r.phase)), append(c.attempts, r.attempt), append(c.claims, r.claims)
	c.owners, c.dues, c.resumables = append(c.owners, r.owner), append(c.dues, r.due), append(c.resumables, r.resumable)
	c.inputs, c.outputs = append(c.inputs, nullable(r.input)), append(c.outputs, nullable(r.output))
	c.namedOutputs, c.details = append(c.namedOutputs, nullable(r.outputs)), append(c.details, nullable(r.detail))
	c.resumes, c.failures = append(c.resumes, nullable(r.resume)), append(c.failures, r.failure)
	c.started, c.finished = append(c.started, r.started), append(c.finished, r.finished)
}

const (
	writeRuns = `
	UPDATE runs r SET phase = u.phase, stage = u.stage, outcome = u.outcome, error = u.error, state = u.state, loops = u.loops::json, seq = u.seq,
		started = u.started, finished = u.finished, deadline = u.deadline
	FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::timestamptz[],
		$10::timestamptz[], $11::timestamptz[]) AS u(id, phase, stage, outcome, error, state, loops, seq, started, finished, deadline)
	WHERE r.id = u.id`

	writeSteps = `
	INSERT INTO steps (run, step, item, name, phase, attempt, claims, owner, due, resumable, input, output, outputs, detail, resume, error, started, finished)
	SELECT u.run, u.step, u.item, u.name, u.phase, u.attempt, u.claims, u.owner, u.due, u.resumable, u.input::json, u.output::json, u.outputs::json,
		u.detail::json, u.resume::json, u.error, u.started, u.finished
	FROM unnest($1::text[]::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $6::int[], $7::int[], $8::text[], $9::timestamptz[], $10::bool[],
		$11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[])
		AS u(run, step, item, name, phase, attempt, claims, owner, due, resumable, input, output, outputs, detail, resume, error, started, finished)
	ON CONFLICT (run, step, item) DO UPDATE SET phase = excluded.phase, attempt = excluded.attempt, claims = excluded.claims, owner = excluded.owner,
		due = excluded.due, resumable = excluded.resumable, input = coalesce(excluded.input, steps.input), output = excluded.output,
		outputs = excluded.outputs, detail = excluded.detail, resume = excluded.resume, error = excluded.error, started = excluded.started,
		finished = excluded.finished`

	writeEvents = `
	INSERT INTO events (run, seq, at, kind, step, item, attempt, detail)
	SELECT u.run, u.seq, $1, u.kind, u.step, u.item, u.attempt, u.detail
	FROM unnest($2::text[]::uuid[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::int[], $8::text[]) AS u(run, seq, kind, step, item, attempt, detail)`

	writeTasks = `INSERT INTO outbox (body, created) SELECT u.body, $1 FROM unnest($2::text[]) AS u(body) RETURNING id, body`

	// A forEach without a running item is Running, without an owner.
	dropSteps = `
	UPDATE steps s SET phase = 'Cancelled', due = NULL, resumable = false, finished = $1
	FROM unnest($2::text[]::uuid[], $3::bool[]) AS u(run, running)
	WHERE s.run = u.run AND (s.phase IN ('Ready', 'Waiting') OR s.phase = 'Running' AND (u.running OR s.owner = '' AND s.item = -1 AND NOT EXISTS
		(SELECT FROM steps i WHERE i.run = s.run AND i.step = s.step AND i.item >= 0 AND i.phase = 'Running')))`

	dropItems = `
	UPDATE steps s SET phase = 'Cancelled', due = NULL, resumable = false, finished = $1
	FROM unnest($2::text[]::uuid[], $3::int[]) AS u(run, step)
	WHERE s.run = u.run AND s.step = u.step AND s.item >= 0 AND s.phase IN ('Ready', 'Waiting')`

	collectItems = `
	UPDATE steps s SET output = (SELECT coalesce(json_agg(coalesce(i.output, 'null'::json) ORDER BY i.item), '[]'::json) FROM steps i
		WHERE i.run = s.run AND i.step = s.step AND i.item >= 0)
	FROM unnest($1::text[]::uuid[], $2::int[]) AS u(run, step) WHERE s.run = u.run AND s.step = u.step AND s.item = -1`
)

// send writes everything and commits, in one round trip. A transaction that only claims steps does not wait for the disk: if a
// crash of the database undoes a claim, the step is still ready.
func (w *writes) send(ctx context.Context, conn *pgx.Conn, commit bool) error {
	batch := &pgx.Batch{}
	if !w.durable {
		batch.Queue("SET LOCAL synchronous_commit = off")
	}
	if len(w.dropRuns) > 0 {
		batch.Queue(dropSteps, w.now, w.dropRuns, w.dropRunning)
	}
	if len(w.dropItemRuns) > 0 {
		batch.Queue(dropItems, w.now, w.dropItemRuns, w.dropItemSteps)
	}
	if c := &w.runs; len(c.ids) > 0 {
		batch.Queue(writeRuns, c.ids, c.phases, c.stages, c.outcomes, c.failures, c.states, c.loops, c.seqs, c.started, c.finished, c.deadlines)
	}
	w.queueSteps(batch)
	if len(w.collectRuns) > 0 {
		batch.Queue(collectItems, w.collectRuns, w.collectSteps)
	}
	if commit {
		batch.Queue("COMMIT")
	}
	if batch.Len() == 0 {
		return nil
	}
	return conn.SendBatch(ctx, batch).Close()
}

// queueSteps adds the statements for steps, events and tasks.
func (w *writes) queueSteps(batch *pgx.Batch) {
	if c := &w.steps; len(c.runs) > 0 {
		batch.Queue(writeSteps, c.runs, c.steps, c.items, c.names, c.phases, c.attempts, c.claims, c.owners, c.dues, c.resumables, c.inputs, c.outputs,
			c.namedOutputs, c.details, c.resumes, c.failures, c.started, c.finished)
	}
	if e := &w.events; len(e.runs) > 0 {
		batch.Queue(writeEvents, w.now, e.runs, e.seqs, e.kinds, e.steps, e.items, e.attempts, e.details)
	}
	if len(w.tasks) > 0 {
		batch.Queue(writeTasks, w.now, w.tasks).Query(func(rows pgx.Rows) (err error) {
			w.messages, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Message])
			return err
		})
	}
}
