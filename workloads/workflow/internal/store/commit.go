// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/itechsmart/operator/workloads/internal/db"
)

// commitTimeout bounds a batched transaction.
const commitTimeout = 15 * time.Second

// maxSerializationFailures is how often a transaction is tried if it fails to serialize.
const maxSerializationFailures = 5

// request is a transition with its result.
type request struct {
	Transition
	result Result
	err    error
}

// Apply commits a transition, batched with concurrent ones. It returns ErrLost and ErrConflict as documented on the transition,
// ErrNotFound, and backend.ErrUnavailable. After the last one the transition may or may not be committed.
func (s *Store) Apply(ctx context.Context, t Transition) (Result, error) {
	if _, err := uuid.Parse(t.target().Run); err != nil {
		return Result{}, fmt.Errorf("run %q: %w", t.target().Run, ErrNotFound)
	}
	r, err := s.transitions.Do(ctx, request{Transition: t})
	if err != nil {
		return Result{}, fail("record", err)
	}
	return r.result, r.err
}

// commit isolates requests from each other's errors: if PostgreSQL rejects the batch, it retries each request alone.
func (s *Store) commit(requests []*request) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var err error
	for range maxSerializationFailures {
		for _, r := range requests {
			r.result, r.err = Result{}, nil
		}
		if err = s.transaction(ctx, requests); err == nil || !serializationFailure(err) {
			break
		}
	}
	if err == nil {
		return
	}
	if len(requests) > 1 && !db.Unavailable(err) && ctx.Err() == nil {
		for _, r := range requests {
			s.commit([]*request{r})
		}
		return
	}
	for _, r := range requests {
		r.result, r.err = Result{}, fail("record", err)
	}
}

func serializationFailure(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (server.Code == "40001" || server.Code == "40P01")
}

func (s *Store) transaction(ctx context.Context, requests []*request) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // a connection within a transaction is closed, not reused
	messages, err := s.transition(ctx, conn.Conn(), requests, true)
	if err == nil {
		s.publish(messages)
	}
	return err
}

// transition applies the requests in a transaction. If whole is true it begins and commits the transaction itself.
func (s *Store) transition(ctx context.Context, conn *pgx.Conn, requests []*request, whole bool) ([]Message, error) {
	now := s.now()
	runs, err := s.lock(ctx, conn, requests, now, whole)
	if err != nil {
		return nil, err
	}
	durable := false
	for _, r := range requests {
		l := runs[r.target().Run]
		if l == nil {
			r.err = fmt.Errorf("run %s: %w", r.target().Run, ErrNotFound)
			continue
		}
		r.do(l)
		if _, claims := r.Transition.(Claim); !claims || r.err != nil {
			durable = true
		}
	}
	w := &writes{now: now, durable: durable}
	for _, l := range sorted(runs) {
		w.add(l)
	}
	if err = w.send(ctx, conn, whole); err == nil && whole {
		s.totals.add(&w.events)
	}
	return w.messages, err
}

func (r *request) do(l *locked) {
	l.machine.graph = r.target().Graph
	if _, aborts := r.Transition.(Abort); !aborts {
		if r.err = l.check(r.target()); r.err != nil {
			return
		}
	}
	tasks := len(l.tasks)
	r.result, r.err = r.apply(l)
	if !l.run.Phase.Ended() && l.run.Phase != Queued {
		l.run.Phase = l.machine.phase()
	}
	if r.result.Run != nil {
		run := l.run
		r.result.Run = &run
	}
	r.result.Phase, r.result.Dispatched = l.run.Phase, len(l.tasks) > tasks
}

// check rejects a target that the definition does not have, as from a forged task.
func (l *locked) check(t Target) error {
	if t.Graph == nil || t.Hash != l.run.Hash || len(l.machine.state) != len(t.Graph.Nodes) || t.Step < wholeStep || t.Step >= len(t.Graph.Nodes) {
		return fmt.Errorf("run %s has no step %d: %w", t.Run, t.Step, ErrNotFound)
	}
	return nil
}

// sorted returns the runs in the order in which all transactions lock them.
func sorted(runs map[string]*locked) []*locked {
	out := make([]*locked, 0, len(runs))
	for _, l := range runs {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *locked) int { return cmp.Compare(a.run.ID, b.run.ID) })
	return out
}

const lockRuns = `
	SELECT id::text, workflow, generation, hash, phase, stage, outcome, state, loops, seq, error, timeout_ms, attempt, created, started, deadline, objects::text[],
		CASE WHEN id = ANY($2::text[]::uuid[]) THEN inputs END, CASE WHEN id = ANY($2::text[]::uuid[]) THEN trigger END
	FROM runs WHERE id = ANY($1::text[]::uuid[]) ORDER BY id FOR NO KEY UPDATE`

const readSteps = `
	SELECT s.run::text, s.step, s.item, s.name, s.phase, s.attempt, s.claims, s.owner, s.due, s.resumable, s.output, s.outputs, s.detail, s.resume,
		s.error, s.started, s.finished
	FROM unnest($1::text[]::uuid[], $2::int[], $3::int[]) AS t(run, step, item) JOIN steps s USING (run, step, item)`

// lock locks the runs until the end of the transaction. If begin is true it begins the transaction.
func (s *Store) lock(ctx context.Context, conn *pgx.Conn, requests []*request, now time.Time, begin bool) (map[string]*locked, error) {
	var ids, whole, of []string
	var steps, items []int
	for _, r := range requests {
		t := r.target()
		ids = append(ids, t.Run)
		if _, claims := r.Transition.(Claim); claims {
			whole = append(whole, t.Run)
		}
		if t.Step == wholeStep {
			continue
		}
		of, steps, items = append(of, t.Run), append(steps, t.Step), append(items, wholeStep)
		if t.Item != wholeStep {
			of, steps, items = append(of, t.Run), append(steps, t.Step), append(items, t.Item)
		}
	}
	batch := &pgx.Batch{}
	if begin {
		batch.Queue("BEGIN")
	}
	batch.Queue(lockRuns, ids, whole)
	batch.Queue(readSteps, of, steps, items)
	results := conn.SendBatch(ctx, batch)
	defer results.Close() //nolint:errcheck // each result has its own error
	if begin {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	runs := map[string]*locked{}
	for rows.Next() {
		l := &locked{options: &s.options, now: now, rows: map[[2]int]*row{}}
		if err := l.scan(rows); err != nil {
			rows.Close()
			return nil, err
		}
		runs[l.run.ID] = l
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return runs, scanSteps(results, runs)
}

func (l *locked) scan(rows pgx.Rows) error {
	var state []byte
	var loops json.RawMessage
	var milliseconds int64
	r, m := &l.run, &l.machine
	err := rows.Scan(&r.ID, &r.Workflow, &r.Generation, &r.Hash, &r.Phase, &m.stage, &m.outcome, &state, &loops, &r.Seq, &m.failure, &milliseconds,
		&r.Attempt, &r.Created, &r.Started, &r.Deadline, &r.Objects, &r.Inputs, &r.Trigger)
	if err != nil {
		return err
	}
	r.Timeout = time.Duration(milliseconds) * time.Millisecond
	m.over = r.Phase.Ended()
	m.state = decode(state)
	if loops != nil {
		return json.Unmarshal(loops, &m.loops)
	}
	return nil
}

func decode(state []byte) []Phase {
	out := make([]Phase, len(state))
	for i, b := range state {
		out[i] = codes[min(int(b), len(codes)-1)]
	}
	return out
}

func scanSteps(results pgx.BatchResults, runs map[string]*locked) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		err := rows.Scan(&r.run, &r.step, &r.item, &r.name, &r.phase, &r.attempt, &r.claims, &r.owner, &r.due, &r.resumable, &r.output, &r.outputs,
			&r.detail, &r.resume, &r.failure, &r.started, &r.finished)
		if err != nil {
			return err
		}
		l := runs[r.run]
		if l != nil && l.row(r.step, r.item) == nil {
			l.rows[[2]int{r.step, r.item}] = &r
		}
	}
	return rows.Err()
}
