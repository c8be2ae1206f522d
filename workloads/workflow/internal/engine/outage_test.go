// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const fanOut = `{"steps":[{"name":"gate","type":"x"},{"name":"b","type":"x","needs":["gate"]},{"name":"c","type":"x","needs":["gate"]},
	{"name":"d","type":"x","needs":["b","c"]}]}`

// gated returns a script whose step "gate" waits for the test.
func gated() (*script, func()) {
	gate := make(chan struct{})
	s := (&script{}).on("gate", func(ctx context.Context, _ Call) (Result, error) {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return Result{}, ctx.Err()
	})
	return s, sync.OnceFunc(func() { close(gate) })
}

// TestQueueDown: starts are refused, running steps continue, and their tasks for other workers wait in the outbox.
func TestQueueDown(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	rabbit := servers.StartRabbitMQ(t)
	s, open := gated()
	r := newBackends(t, servers.Postgres(t), rabbit.Binding).launch(t, Options{Executor: s})
	id := r.start(fanOut, nil)
	r.g.Eventually(func() int { return len(s.callsTo("gate")) }, long).Should(Equal(1))
	rabbit.Stop()
	r.g.Eventually(r.options.Queue.Connected, long).Should(BeFalse())
	_, _, err := r.Start(t.Context(), Start{Workflow: "w", Program: parse(t, fanOut)})
	r.g.Expect(err).To(MatchError(backend.ErrUnavailable))
	open()
	r.g.Eventually(func() int { return len(s.callsTo("b")) + len(s.callsTo("c")) }, long).Should(Equal(1)) // the step that continues in the same worker
	var waiting int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&waiting); err != nil || waiting == 0 {
		t.Errorf("%d tasks in the outbox, %v", waiting, err)
	}
	rabbit.Restart(t)
	r.wait(id, store.Succeeded)
	r.g.Eventually(func() (n int, err error) {
		err = r.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&n)
		return n, err
	}, long).Should(BeZero())
}

// TestDatabaseDown: starts fail, and workers hold outcomes until it is back.
func TestDatabaseDown(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	postgres := servers.StartPostgres(t)
	s, open := gated()
	r := newBackends(t, postgres.Binding, servers.RabbitMQ(t)).launch(t, Options{Executor: s})
	id := r.start(fanOut, nil)
	r.g.Eventually(func() int { return len(s.callsTo("gate")) }, long).Should(Equal(1))
	postgres.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	_, _, err := r.Start(ctx, Start{Workflow: "w", Program: parse(t, fanOut)})
	r.g.Expect(err).To(MatchError(backend.ErrUnavailable))
	r.g.Expect(ctx.Err()).NotTo(HaveOccurred())
	open()
	postgres.Restart(t)
	r.wait(id, store.Succeeded)
	if got := r.count(id, "StepSucceeded", "gate"); got != 1 {
		t.Errorf("the outcome was recorded %d times, want once", got)
	}
}

func TestPoison(t *testing.T) {
	r := launch(t, Options{Executor: &script{}})
	good := r.start(`{"steps":[{"name":"a","type":"x"}]}`, nil)
	r.wait(good, store.Succeeded)
	run, err := r.Store().Get(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	unknown := store.Task{Run: "019a0000-0000-7000-8000-000000000000", Item: -1, Workflow: "w", Hash: run.Hash}
	noStep := store.Task{Run: good, Step: 99, Item: -1, Workflow: "w", Hash: run.Hash}
	noProgram := store.Task{Run: unknown.Run, Item: -1, Workflow: "w", Hash: "none"}
	late := store.Task{Run: good, Item: -1, Workflow: "w", Hash: run.Hash}
	bodies := [][]byte{[]byte("garbage"), []byte(`{"run":1}`), {}}
	for _, task := range []store.Task{unknown, noStep, noProgram, late} {
		bodies = append(bodies, []byte(task.Body()))
	}
	if err := r.options.Queue.Publish(t.Context(), bodies); err != nil {
		t.Fatal(err)
	}
	r.wait(r.start(`{"steps":[{"name":"a","type":"x"}]}`, nil), store.Succeeded)
	admin, err := rabbitmq.New(servers.RabbitMQ(t))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // the test is over
	r.g.Eventually(func() (int, error) {
		dead, err := admin.Queue(t.Context(), r.options.Queue.Dead())
		return dead.Messages, err
	}, long).Should(Equal(len(bodies) - 1)) // all but the late one
}

// TestTwoEngines: both engines get work: neither can finish a step before the other has started one.
func TestTwoEngines(t *testing.T) {
	p := newBackends(t, servers.Postgres(t), servers.RabbitMQ(t))
	var both sync.WaitGroup
	both.Add(2)
	meet := func() *script {
		first := sync.OnceFunc(both.Done)
		return (&script{}).on("a", func(context.Context, Call) (Result, error) {
			first()
			both.Wait()
			return Result{}, nil
		})
	}
	one, two := meet(), meet()
	r := p.launch(t, Options{Executor: one})
	p.launch(t, Options{Executor: two})
	var ids []string
	for range 150 {
		ids = append(ids, r.start(`{"history":{"successful":1000},"steps":[{"name":"a","type":"x"}]}`, nil))
	}
	for _, id := range ids {
		r.wait(id, store.Succeeded)
	}
	if len(one.callsTo("a"))+len(two.callsTo("a")) != len(ids) {
		t.Errorf("%d and %d steps were executed, want %d", len(one.callsTo("a")), len(two.callsTo("a")), len(ids))
	}
}

// TestShutdownReleases: another engine restarts the steps that run while an engine stops, at once and as the same attempt.
func TestShutdownReleases(t *testing.T) {
	p := newBackends(t, servers.Postgres(t), servers.RabbitMQ(t))
	one, two := (&script{}).on("a", hang), &script{}
	first := p.launch(t, Options{Executor: one, Drain: time.Millisecond, Store: store.Options{Lease: time.Hour}})
	id := first.start(`{"steps":[{"name":"a","type":"x"}]}`, nil)
	first.g.Eventually(func() int { return len(one.callsTo("a")) }, long).Should(Equal(1))
	first.stop()
	second := p.launch(t, Options{Executor: two})
	second.wait(id, store.Succeeded)
	if calls := two.callsTo("a"); len(calls) != 1 || calls[0].Key != fmt.Sprintf("%s/a/-1/1", id) {
		t.Errorf("calls of the other engine = %+v", calls)
	}
}
