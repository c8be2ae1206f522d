// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
)

func TestMain(m *testing.M) { servers.Main(m) }

// openPool returns a pool with the test's own migrated schema.
func openPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	binding, schema := servers.Schema(t)
	c := config.Database{Binding: binding.Data(), Schema: schema, MinConnections: 1, MaxConnections: 10}
	pool, err := db.Open(context.Background(), c, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := db.Migrate(t.Context(), pool, Migrations, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return pool
}

// clock is a clock that the test advances.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a store whose messages the test receives.
type bench struct {
	*Store
	*clock
	t testing.TB

	mu    sync.Mutex
	tasks []Task
}

func open(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{clock: newClock(), t: t}
	o.Now = b.Now
	o.Publish = func(messages []Message) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, m := range messages {
			task, err := ParseTask([]byte(m.Body))
			if err != nil {
				t.Error(err)
			}
			b.tasks = append(b.tasks, task)
		}
	}
	b.Store = New(openPool(t), o)
	return b
}

// take returns the tasks dispatched since the last call.
func (b *bench) take() []Task {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.tasks
	b.tasks = nil
	return out
}

// graph builds a graph of nodes {name, need...}. A name may end with ? (onError Continue), and start with + (onSuccess), -
// (onFailure) or * (always).
func graph(nodes ...[]string) *Graph {
	g := &Graph{}
	index := map[string]int{}
	for i, n := range nodes {
		name, node := n[0], Node{}
		switch name[0] {
		case '+':
			node.Role, name = OnSuccess, name[1:]
		case '-':
			node.Role, name = OnFailure, name[1:]
		case '*':
			node.Role, name = Always, name[1:]
		}
		if name[len(name)-1] == '?' {
			node.Continue, name = true, name[:len(name)-1]
		}
		node.Name = name
		index[name] = i
		for _, need := range n[1:] {
			node.Needs = append(node.Needs, index[need])
			g.Nodes[index[need]].Dependents = append(g.Nodes[index[need]].Dependents, i)
		}
		g.Nodes = append(g.Nodes, node)
	}
	return g
}

func (b *bench) start(g *Graph) string {
	b.t.Helper()
	id, created, err := b.Start(b.t.Context(), NewRun{
		Workflow: "w", Generation: 1, Hash: "h", Graph: g, Inputs: json.RawMessage(`{"a":1}`), Trigger: json.RawMessage(`{}`), Timeout: time.Hour,
	})
	if err != nil || !created {
		b.t.Fatalf("start: created %t, %v", created, err)
	}
	return id
}

func (b *bench) claim(g *Graph, task Task, owner string) *Claimed {
	b.t.Helper()
	r, err := b.Apply(b.t.Context(), Claim{Target: Target{Run: task.Run, Step: task.Step, Item: task.Item, Graph: g, Hash: "h"}, Owner: owner})
	if err != nil {
		b.t.Fatalf("claim %+v: %v", task, err)
	}
	return r.Claimed
}

func (b *bench) finish(g *Graph, run string, c *Claimed, phase Phase, next string) Result {
	b.t.Helper()
	r, err := b.Apply(b.t.Context(), Finish{
		Target: Target{Run: run, Step: c.Step, Item: c.Item, Graph: g, Hash: "h"}, By: *c, Phase: phase, Next: next,
		Output: json.RawMessage(fmt.Sprintf(`"%s %d"`, g.Nodes[c.Step].Name, c.Item)), Error: "error of " + g.Nodes[c.Step].Name,
	})
	if err != nil {
		b.t.Fatalf("finish %+v: %v", c, err)
	}
	return r
}

func (b *bench) wantPhase(run string, want Phase) Run {
	b.t.Helper()
	r, err := b.Get(b.t.Context(), run)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Phase != want {
		b.t.Errorf("phase of the run = %s (%s), want %s", r.Phase, r.Error, want)
	}
	return r
}

// phases returns the phase of each step by name.
func (b *bench) phases(run string, g *Graph) map[string]Phase {
	b.t.Helper()
	var state []byte
	if err := b.pool.QueryRow(b.t.Context(), `SELECT state FROM runs WHERE id = $1`, run).Scan(&state); err != nil {
		b.t.Fatal(err)
	}
	out := map[string]Phase{}
	for i, p := range decode(state) {
		out[g.Nodes[i].Name] = p
	}
	return out
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
