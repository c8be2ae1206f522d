// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
)

// Rerun starts a run again from a step: with the recorded inputs and definition, and with the recorded outcomes of all steps
// that do not come after the step. Those that have none, and handlers, run again. The run must have ended, whatever its
// outcome: ErrConflict. n holds what a new run has that its origin does not tell.
func (s *Store) Rerun(ctx context.Context, origin Run, from int, n NewRun) (string, bool, error) {
	if !origin.Phase.Ended() {
		return "", false, fmt.Errorf("run %s has not ended: %w", origin.ID, ErrConflict)
	}
	if from < 0 || from >= len(n.Graph.Nodes) || n.Graph.Nodes[from].Role != Main {
		return "", false, fmt.Errorf("from: it names a step of the workflow that is no handler: %w", backend.ErrInvalid)
	}
	n.Workflow, n.Generation, n.Hash, n.Inputs, n.Trigger = origin.Workflow, origin.Generation, origin.Hash, origin.Inputs, origin.Trigger
	n.Timeout, n.Attempt, n.RerunOf, n.RerunFrom = origin.Timeout, origin.Attempt+1, origin.ID, n.Graph.Nodes[from].Name
	n.Objects = append([]string{origin.ID}, origin.Objects...)
	var state []byte
	if err := s.pool.QueryRow(ctx, `SELECT state FROM runs WHERE id = $1`, origin.ID).Scan(&state); err != nil {
		return "", false, fail("read run", err)
	}
	var err error
	if n.taken, err = take(n.Graph, decode(state), from); err != nil {
		return "", false, err
	}
	return s.Start(ctx, n)
}

// take returns the phases that a re-run begins with.
func take(graph *Graph, state []Phase, from int) ([]Phase, error) {
	again := make([]bool, len(graph.Nodes))
	again[from] = true
	old := machine{graph: graph, state: state}
	out := make([]Phase, len(state))
	for i, node := range graph.Nodes { // needs come before
		for _, need := range node.Needs {
			again[i] = again[i] || again[need]
		}
		again[i] = again[i] || node.Role != Main || !old.fine(i)
		out[i] = state[i]
		if again[i] {
			out[i] = Pending
		}
	}
	for _, need := range graph.Nodes[from].Needs {
		if again[need] {
			return nil, fmt.Errorf("step %s cannot be begun: step %s, which it needs, has no outcome. Begin there: %w",
				graph.Nodes[from].Name, graph.Nodes[need].Name, ErrConflict)
		}
	}
	return out, nil
}

// holdOrigins keeps the runs that others are re-runs of from being pruned before these are committed, with what they copy and
// refer to. pgx.ErrNoRows: one was.
func holdOrigins(ctx context.Context, tx pgx.Tx, starts []*start) error {
	var ids []string
	for _, r := range starts {
		if r.RerunOf != "" && !slices.Contains(ids, r.RerunOf) {
			ids = append(ids, r.RerunOf)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	held, err := tx.Exec(ctx, `SELECT FROM runs WHERE id = ANY($1::text[]::uuid[]) ORDER BY id FOR KEY SHARE`, ids)
	if err == nil && int(held.RowsAffected()) < len(ids) {
		err = pgx.ErrNoRows
	}
	return err
}

// copySteps gives a re-run the rows of the steps that it takes over.
const copySteps = `
	INSERT INTO steps (run, step, item, name, phase, attempt, claims, owner, input, output, outputs, error, started, finished)
	SELECT $1, step, item, name, phase, attempt, claims, owner, input, output, outputs, error, started, finished
	FROM steps WHERE run = $2 AND step = ANY($3)`

func queueCopy(batch *pgx.Batch, r *start) {
	var steps []int
	for i, p := range r.taken {
		if p != Pending {
			steps = append(steps, i)
		}
	}
	if len(steps) > 0 {
		batch.Queue(copySteps, r.id, r.RerunOf, steps)
	}
}
