// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRandomRuns executes random graphs with workers that fail, retry, wait, lose their leases and are late, and checks the
// invariants of each run.
func TestRandomRuns(t *testing.T) {
	b := open(t, Options{MaxClaims: 1000})
	for seed := range uint64(40) {
		w := &wanderer{bench: b, random: rand.New(rand.NewPCG(seed, 1)), outcomes: map[[2]int]int{}}
		w.graph = w.randomGraph()
		w.run = b.start(w.graph)
		w.walk()
		w.check(seed)
		if t.Failed() {
			return
		}
	}
}

// wanderer executes one run.
type wanderer struct {
	*bench
	random   *rand.Rand
	graph    *Graph
	run      string
	held     []*Claimed // some of them are lost
	outcomes map[[2]int]int
	stopped  bool
	number   int
}

// randomGraph returns a graph of up to ten steps, with handlers.
func (w *wanderer) randomGraph() *Graph {
	var nodes [][]string
	for i := range 1 + w.random.IntN(10) {
		node := []string{fmt.Sprintf("s%d", i)}
		if w.random.IntN(4) == 0 {
			node[0] += "?"
		}
		for need := range i {
			if w.random.IntN(3) == 0 {
				node = append(node, fmt.Sprintf("s%d", need))
			}
		}
		nodes = append(nodes, node)
	}
	return graph(append(nodes, []string{"+good"}, []string{"-bad"}, []string{"*end"})...)
}

func (w *wanderer) target(step, item int) Target {
	return Target{Run: w.run, Step: step, Item: item, Graph: w.graph, Hash: "h"}
}

func (w *wanderer) owner() string {
	w.number++
	return fmt.Sprint("o", w.number)
}

func (w *wanderer) walk() {
	for range 2000 {
		for _, task := range w.take() {
			for range 1 + w.random.IntN(2) { // a task may be delivered twice
				r, err := w.Apply(w.t.Context(), Claim{Target: w.target(task.Step, task.Item), Owner: w.owner()})
				w.add(r.Claimed, err)
			}
		}
		if r, err := w.Get(w.t.Context(), w.run); err != nil || r.Phase.Ended() {
			if err != nil {
				w.t.Fatal(err)
			}
			return
		}
		if len(w.held) == 0 || w.random.IntN(8) == 0 {
			w.sweep()
			continue
		}
		w.act(w.held[w.random.IntN(len(w.held))])
	}
	w.t.Fatalf("the run has not ended: %v", w.phases(w.run, w.graph))
}

func (w *wanderer) add(c *Claimed, err error) {
	if err != nil && !errors.Is(err, ErrLost) {
		w.t.Fatal(err)
	}
	if c != nil {
		w.held = append(w.held, c)
	}
}

// sweep advances the clock, often by more than a lease.
func (w *wanderer) sweep() {
	w.step(time.Duration(w.random.IntN(20)) * time.Second)
	due, err := w.DueSteps(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range due {
		if d.ID == w.run {
			_, err := w.Apply(w.t.Context(), Wake{w.target(d.Step, d.Item)})
			w.add(nil, err)
		}
	}
	if !w.stopped && w.random.IntN(60) == 0 {
		w.stopped = true
		_, err := w.Apply(w.t.Context(), Stop{Target: w.target(-1, -1), Phase: Cancelled})
		if err != nil && !errors.Is(err, ErrConflict) {
			w.t.Fatal(err)
		}
	}
}

// act uses a claim, which may be lost. Claims are never removed, so that late workers act again.
func (w *wanderer) act(c *Claimed) {
	target, ctx := w.target(c.Step, c.Item), w.t.Context()
	var r Result
	var err error
	switch w.random.IntN(10) {
	case 0:
		_, err = w.Apply(ctx, Retry{Target: target, By: *c, Error: "again", At: w.Now().Add(time.Second)})
	case 1:
		_, err = w.Apply(ctx, Suspend{Target: target, By: *c, Until: w.Now().Add(time.Second), Resumable: true})
	case 2:
		release := Release{Target: target, By: *c}
		if w.random.IntN(2) == 0 {
			release.At = w.Now().Add(time.Second)
		}
		_, err = w.Apply(ctx, release)
	case 3, 4:
		if c.Item == -1 && w.graph.Nodes[c.Step].Role == Main {
			n := w.random.IntN(5)
			r, err = w.Apply(ctx, Expand{Target: target, By: *c, Items: json.RawMessage(`[1,2,3,4]`), Count: n, Parallelism: w.random.IntN(3), Next: w.owner()})
			if err == nil && n == 0 {
				w.outcomes[[2]int{c.Step, c.Item}]++
			}
		}
	default:
		phase := []Phase{Succeeded, Succeeded, Succeeded, Succeeded, Skipped, Failed}[w.random.IntN(6)]
		r, err = w.Apply(ctx, Finish{Target: target, By: *c, Phase: phase, Output: json.RawMessage(`1`), Next: w.owner()})
		if err == nil {
			w.outcomes[[2]int{c.Step, c.Item}]++
		}
	}
	w.add(r.Claimed, err)
}

func (w *wanderer) check(seed uint64) {
	w.t.Helper()
	complain := func(format string, args ...any) {
		w.t.Helper()
		w.t.Errorf("seed %d: %s; %v", seed, fmt.Sprintf(format, args...), w.phases(w.run, w.graph))
	}
	for at, n := range w.outcomes {
		if n > 1 {
			complain("step %d, item %d has %d outcomes", at[0], at[1], n)
		}
	}
	run, err := w.Get(w.t.Context(), w.run)
	if err != nil {
		w.t.Fatal(err)
	}
	var active, due int
	var newest int64
	err = w.pool.QueryRow(w.t.Context(), `SELECT count(*) FILTER (WHERE phase IN ('Ready', 'Running', 'Waiting')), count(due),
		(SELECT count(*) FROM events WHERE run = $1) FROM steps WHERE run = $1`, w.run).Scan(&active, &due, &newest)
	if err != nil || active != 0 || due != 0 || newest != run.Seq {
		complain("%d rows are active and %d due after the end, %d events of %d, %v", active, due, newest, run.Seq, err)
	}
	steps, _, err := w.Steps(w.t.Context(), w.run, Cursor{-1, -1}, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	phases := w.phases(w.run, w.graph)
	failed := false
	for _, s := range steps {
		if s.Item == -1 && s.Phase != phases[s.Name] {
			complain("step %s is %s in its row and %s in the run", s.Name, s.Phase, phases[s.Name])
		}
	}
	for i, node := range w.graph.Nodes {
		p := phases[node.Name]
		if !p.Ended() {
			complain("step %s has not ended", node.Name)
		}
		failed = failed || p == Failed && !node.Continue
		for _, need := range node.Needs {
			m := machine{graph: w.graph, state: w.states()}
			if (p == Succeeded || p == Failed || p == Skipped) && !m.passed(need) {
				complain("step %d was started although step %d did not pass", i, need)
			}
		}
	}
	if failed != (run.Phase == Failed) && run.Phase != Cancelled {
		complain("a step failed: %t, but the run is %s", failed, run.Phase)
	}
}

func (w *wanderer) states() []Phase {
	phases := w.phases(w.run, w.graph)
	out := make([]Phase, len(w.graph.Nodes))
	for i, n := range w.graph.Nodes {
		out[i] = phases[n.Name]
	}
	return out
}
