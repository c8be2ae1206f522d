// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
)

// Policy decides what happens to a run that exceeds the limit.
type Policy string

// Policies.
const (
	PolicyQueue          Policy = "Queue"
	PolicySkip           Policy = "Skip"
	PolicyCancelPrevious Policy = "CancelPrevious"
)

// Concurrency bounds how many runs of a workflow with the same key are active at a time.
type Concurrency struct {
	Key    string
	Max    int
	Policy Policy
}

// NewRun describes a new run.
type NewRun struct {
	Workflow   string
	Generation int64
	Hash       string
	Graph      *Graph
	Inputs     json.RawMessage
	Trigger    json.RawMessage
	// IdempotencyKey makes Start return the workflow's existing run with this key. If empty, Start always creates a run.
	IdempotencyKey string
	Timeout        time.Duration
	// Concurrency is nil if there is no limit.
	Concurrency *Concurrency
	// Objects are the folders in object storage that the run's rows may refer to, besides the run's own.
	Objects []string
	// Attempt counts re-runs, from 1.
	Attempt            int
	RerunOf, RerunFrom string
	// inherited are the phases of the steps whose outcomes are copied from the original run.
	inherited []Phase
}

// start is a NewRun with its result.
type start struct {
	NewRun
	id      string
	created bool
	queued  bool
	locked  *locked
	err     error
}

// PutDefinition stores a definition for runs, unless it is stored already.
func (s *Store) PutDefinition(ctx context.Context, workflow string, generation int64, hash string, spec json.RawMessage) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO definitions (workflow, hash, generation, spec, created) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (workflow, hash) DO UPDATE SET generation = excluded.generation WHERE definitions.generation < excluded.generation`,
		workflow, hash, generation, string(spec), s.now())
	return fail("save the definition", err)
}

// Definition returns a stored definition.
func (s *Store) Definition(ctx context.Context, workflow, hash string) (json.RawMessage, error) {
	var spec json.RawMessage
	err := s.pool.QueryRow(ctx, `SELECT spec FROM definitions WHERE workflow = $1 AND hash = $2`, workflow, hash).Scan(&spec)
	return spec, fail("definition of workflow "+workflow, err)
}

// Start stores a run, and reports whether it is new. It returns ErrBusy as the policy says. After backend.ErrUnavailable the run
// may or may not be stored; retry with an idempotency key.
func (s *Store) Start(ctx context.Context, n NewRun) (id string, created bool, err error) {
	n.Attempt = max(1, n.Attempt)
	if n.Concurrency != nil {
		return s.startBounded(ctx, n)
	}
	r, err := s.starts.Do(ctx, start{NewRun: n})
	if err != nil {
		return "", false, fail("start", err)
	}
	return r.id, r.created, r.err
}

// insert starts a batch of runs.
func (s *Store) insert(starts []*start) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	err := s.begin(ctx, func(tx pgx.Tx) ([]Message, error) { return s.insertIn(ctx, tx, starts) })
	if err == nil {
		s.started(starts)
		return
	}
	if len(starts) > 1 && !db.Unavailable(err) && ctx.Err() == nil {
		for _, r := range starts {
			s.insert([]*start{r})
		}
		return
	}
	for _, r := range starts {
		r.id, r.created, r.err = "", false, fail("start", err)
	}
}

// started counts the committed runs that are new.
func (s *Store) started(starts []*start) {
	n := int64(0)
	for _, r := range starts {
		if r.created {
			n++
		}
	}
	s.totals.created(n)
}

// begin runs a transaction, with retries of serialization failures, and publishes its messages.
func (s *Store) begin(ctx context.Context, do func(pgx.Tx) ([]Message, error)) error {
	var messages []Message
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		messages, err = do(tx)
		return err
	})
	if err == nil {
		s.publish(messages)
	}
	return err
}

const insertRuns = `
	INSERT INTO runs (id, workflow, generation, hash, phase, stage, outcome, error, state, seq, started, finished, deadline, inputs, trigger, idempotency_key,
		concurrency_key, concurrency_max, timeout_ms, attempt, rerun_of, rerun_from, objects, created)
	SELECT u.id, u.workflow, u.generation, u.hash, u.phase, u.stage, u.outcome, u.error, u.state, u.seq, u.started, u.finished, u.deadline, u.inputs::json,
		u.trigger::json, u.key, u.concurrency_key, u.concurrency_max, u.timeout_ms, u.attempt, u.rerun_of, u.rerun_from, u.objects::uuid[], $1
	FROM unnest($2::text[]::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[], $11::bigint[],
		$12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::text[], $16::text[], $17::text[], $18::text[], $19::int[], $20::bigint[],
		$21::int[], $22::text[]::uuid[], $23::text[], $24::text[])
		AS u(id, workflow, generation, hash, phase, stage, outcome, error, state, seq, started, finished, deadline, inputs, trigger, key, concurrency_key,
		concurrency_max, timeout_ms, attempt, rerun_of, rerun_from, objects)
	ON CONFLICT (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id::text`

// newColumns are the immutable columns of runs.
type newColumns struct {
	workflows, hashes, inputs, triggers []string
	generations, timeouts               []int64
	keys, bounds, origins, froms        []*string
	objects                             []*string
	most                                []*int
	attempts                            []int
}

// insertIn inserts the runs whose idempotency key is new, and looks up the others.
func (s *Store) insertIn(ctx context.Context, tx pgx.Tx, starts []*start) ([]Message, error) {
	now := s.now()
	// Sorted, so that two transactions with the same keys cannot deadlock.
	slices.SortStableFunc(starts, func(a, b *start) int {
		return cmp.Or(cmp.Compare(a.Workflow, b.Workflow), cmp.Compare(a.IdempotencyKey, b.IdempotencyKey))
	})
	if err := lockOrigins(ctx, tx, starts); err != nil {
		return nil, err
	}
	w, c := &writes{now: now}, &newColumns{}
	for _, r := range starts {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		r.id, r.created, r.err = id.String(), false, nil
		r.locked = s.newLocked(r, now)
		w.addRun(r.locked)
		c.add(&r.NewRun)
	}
	u := &w.runs
	rows, err := tx.Query(ctx, insertRuns, now, u.ids, c.workflows, c.generations, c.hashes, u.phases, u.stages, u.outcomes, u.failures, u.states, u.seqs,
		u.started, u.finished, u.deadlines, c.inputs, c.triggers, c.keys, c.bounds, c.most, c.timeouts, c.attempts, c.origins, c.froms, c.objects)
	if err != nil {
		return nil, err
	}
	inserted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	w.runs = runColumns{}
	batch := &pgx.Batch{}
	for _, r := range starts {
		if slices.Contains(inserted, r.id) {
			r.created = true
			r.locked.changed = true
			w.add(r.locked)
			queueCopy(batch, r)
			continue
		}
		err := tx.QueryRow(ctx, `SELECT id::text FROM runs WHERE workflow = $1 AND idempotency_key = $2`, r.Workflow, r.IdempotencyKey).Scan(&r.id)
		if err != nil {
			return nil, fmt.Errorf("find the run with the idempotency key: %w", err)
		}
	}
	w.queueSteps(batch)
	if batch.Len() == 0 {
		return nil, nil
	}
	err = tx.SendBatch(ctx, batch).Close()
	return w.messages, err
}

// newLocked returns a new run in its initial state.
func (s *Store) newLocked(r *start, now time.Time) *locked {
	l := &locked{options: &s.options, now: now, rows: map[[2]int]*row{}}
	l.run = Run{ID: r.id, Workflow: r.Workflow, Hash: r.Hash, Phase: Queued, Timeout: r.Timeout}
	l.machine = machine{graph: r.Graph, stage: stageMain, state: make([]Phase, len(r.Graph.Nodes))}
	for i := range l.machine.state {
		l.machine.state[i] = Pending
	}
	copy(l.machine.state, r.inherited)
	l.runEvent(EventRunCreated, r.RerunOf)
	if !r.queued {
		l.begin()
	}
	if l.run.Phase == Running {
		l.run.Phase = l.machine.phase()
	}
	return l
}

func (c *newColumns) add(n *NewRun) {
	c.workflows, c.generations, c.hashes = append(c.workflows, n.Workflow), append(c.generations, n.Generation), append(c.hashes, n.Hash)
	c.inputs, c.triggers = append(c.inputs, string(n.Inputs)), append(c.triggers, string(n.Trigger))
	c.keys, c.timeouts = append(c.keys, optional(n.IdempotencyKey)), append(c.timeouts, n.Timeout.Milliseconds())
	c.attempts, c.origins, c.froms = append(c.attempts, n.Attempt), append(c.origins, optional(n.RerunOf)), append(c.froms, optional(n.RerunFrom))
	c.objects = append(c.objects, uuids(n.Objects))
	var key *string
	var most *int
	if b := n.Concurrency; b != nil {
		key, most = &b.Key, &b.Max
	}
	c.bounds, c.most = append(c.bounds, key), append(c.most, most)
}

// uuids returns an array in PostgreSQL's text format, or nil if it is empty.
func uuids(ids []string) *string {
	if len(ids) == 0 {
		return nil
	}
	text := "{" + strings.Join(ids, ",") + "}"
	return &text
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
