// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
)

// Rerun starts a new run from a step of an ended one, with the recorded inputs, definition and outcomes. The step and its
// dependents, steps without an outcome, and handlers run again. It returns ErrConflict if the run has not ended. n has the values
// of the new run that do not come from the origin.
func (s *Store) Rerun(ctx context.Context, origin Run, from int, n NewRun) (string, bool, error) {
	if !origin.Phase.Ended() {
		return "", false, fmt.Errorf("run %s has not ended: %w", origin.ID, ErrConflict)
	}
	if from < 0 || from >= len(n.Graph.Nodes) || n.Graph.Nodes[from].Role != Main {
		return "", false, fmt.Errorf("from: must be a step of the workflow that is not a handler: %w", backend.ErrInvalid)
	}
	n.Workflow, n.Generation, n.Hash, n.Inputs, n.Trigger = origin.Workflow, origin.Generation, origin.Hash, origin.Inputs, origin.Trigger
	n.Timeout, n.Attempt, n.RerunOf, n.RerunFrom = origin.Timeout, origin.Attempt+1, origin.ID, n.Graph.Nodes[from].Name
	n.Objects = append([]string{origin.ID}, origin.Objects...)
	var state []byte
	if err := s.pool.QueryRow(ctx, `SELECT state FROM runs WHERE id = $1`, origin.ID).Scan(&state); err != nil {
		return "", false, fail("read run", err)
	}
	var err error
	if n.inherited, err = inheritedPhases(n.Graph, decode(state), from); err != nil {
		return "", false, err
	}
	return s.Start(ctx, n)
}

// inheritedPhases returns the phases that a re-run starts with.
func inheritedPhases(graph *Graph, state []Phase, from int) ([]Phase, error) {
	rerun := make([]bool, len(graph.Nodes))
	rerun[from] = true
	old := machine{graph: graph, state: state}
	out := make([]Phase, len(state))
	for i, node := range graph.Nodes { // needs have lower indexes
		for _, need := range node.Needs {
			rerun[i] = rerun[i] || rerun[need]
		}
		rerun[i] = rerun[i] || node.Role != Main || !old.passed(i)
		out[i] = state[i]
		if rerun[i] {
			out[i] = Pending
		}
	}
	for _, need := range graph.Nodes[from].Needs {
		if rerun[need] {
			return nil, fmt.Errorf("cannot start at step %s: step %s, which it needs, has no outcome; start there: %w",
				graph.Nodes[from].Name, graph.Nodes[need].Name, ErrConflict)
		}
	}
	return out, nil
}

// lockOrigins keeps the original runs, with the values that re-runs copy and refer to, from being pruned before the re-runs are
// committed. It returns pgx.ErrNoRows if one was pruned.
func lockOrigins(ctx context.Context, tx pgx.Tx, starts []*start) error {
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

// copySteps copies the rows of inherited steps to a re-run.
const copySteps = `
	INSERT INTO steps (run, step, item, name, phase, attempt, claims, owner, input, output, outputs, error, started, finished)
	SELECT $1, step, item, name, phase, attempt, claims, owner, input, output, outputs, error, started, finished
	FROM steps WHERE run = $2 AND step = ANY($3)`

func queueCopy(batch *pgx.Batch, r *start) {
	var steps []int
	for i, p := range r.inherited {
		if p != Pending {
			steps = append(steps, i)
		}
	}
	if len(steps) > 0 {
		batch.Queue(copySteps, r.id, r.RerunOf, steps)
	}
}
