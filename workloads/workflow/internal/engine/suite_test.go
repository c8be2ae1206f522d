// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(asWorker); settings != "" {
		os.Exit(serve(settings))
	}
	servers.Main(m)
}

// long is the timeout of tests.
const long = time.Minute

// backends is the database and the queue of one test.
type backends struct {
	Database config.Database
	Rabbit   map[string]string
	Queue    string
	// Bucket is the binding of the workers' object storage, if any.
	Bucket map[string]string
	// Ticks makes each worker also start a run each second, like a scheduler.
	Ticks bool
}

func newBackends(t testing.TB, postgres, rabbit backend.Binding) backends {
	t.Helper()
	p := backends{
		Database: config.Database{Binding: postgres.Data(), Schema: servers.SchemaOn(t, postgres), MinConnections: 2, MaxConnections: 10},
		Rabbit:   rabbit.Data(), Queue: backendtest.Name("tasks"),
	}
	pool := p.pool(t)
	defer pool.Close()
	if err := db.Migrate(t.Context(), pool, store.Migrations, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p backends) pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(context.Background(), p.Database, "test")
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func compile(spec json.RawMessage) (*definition.Program, error) {
	var w definition.Workflow
	if err := json.Unmarshal(spec, &w); err != nil {
		return nil, err
	}
	for _, group := range [][]definition.StepSpec{w.Steps, w.OnSuccess, w.OnFailure, w.Always} {
		for i := range group {
			plain(&group[i])
		}
	}
	return definition.Compile(&w)
}

// plain lets tests write the type "x" for a step whose configuration does not matter: it becomes a transform step.
func plain(s *definition.StepSpec) {
	if s.Type != "x" {
		return
	}
	s.Type = "transform"
	if s.With == nil {
		s.With = json.RawMessage(`{"value":0}`)
	}
}

// harness is one running engine.
type harness struct {
	*Engine
	t    testing.TB
	g    *WithT
	pool *pgxpool.Pool
	stop func()
}

// launch runs an engine until the test ends or stop is called.
func (p backends) launch(t testing.TB, o Options) *harness {
	t.Helper()
	q, err := queue.New(queue.Options{Binding: backend.ParseBinding(p.Rabbit), Name: p.Queue, PublishTimeout: time.Second, Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	r := &harness{t: t, g: NewWithT(t), pool: p.pool(t)}
	o.Pool, o.Queue, o.Compile = r.pool, q, compile
	if o.Sweep == 0 {
		o.Sweep = 20 * time.Millisecond
	}
	r.Engine = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { r.Run(ctx) })
	r.stop = func() {
		cancel()
		group.Wait()
		r.pool.Close()
	}
	t.Cleanup(r.stop)
	r.g.Eventually(func() error { return q.Ready(t.Context()) }, long).Should(Succeed())
	return r
}

// launch starts a harness on the shared servers.
func launch(t testing.TB, o Options) *harness {
	t.Helper()
	return newBackends(t, servers.Postgres(t), servers.RabbitMQ(t)).launch(t, o)
}

func parse(t testing.TB, spec string) *definition.Program {
	t.Helper()
	p, err := compile(json.RawMessage(spec))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *harness) start(spec string, inputs map[string]any) string {
	r.t.Helper()
	id, created, err := r.Start(r.t.Context(), Start{Workflow: "w", Generation: 1, Program: parse(r.t, spec), Inputs: inputs, Trigger: definition.TriggerInfo{Type: "Manual"}})
	if err != nil || !created {
		r.t.Fatalf("start: created %t, %v", created, err)
	}
	return id
}

// wait returns the run once it is in a phase.
func (r *harness) wait(id string, phase store.Phase) store.Run {
	r.t.Helper()
	var run store.Run
	r.g.Eventually(func() (store.Phase, error) {
		var err error
		run, err = r.Store().Get(r.t.Context(), id)
		return run.Phase, err
	}, long, 5*time.Millisecond).Should(Equal(phase), func() string { return r.log(id) })
	return run
}

// log returns the events of a run as text.
func (r *harness) log(id string) string {
	events, err := r.Store().Events(context.Background(), id, 0, 1000)
	var out strings.Builder
	for _, e := range events {
		fmt.Fprintf(&out, "%d %s %s/%d attempt %d %s\n", e.Seq, e.Kind, e.Step, e.Item, e.Attempt, e.Detail)
	}
	return fmt.Sprint(out.String(), err)
}

// steps returns the run's steps by name, without items.
func (r *harness) steps(id string) map[string]store.Step {
	r.t.Helper()
	list, _, err := r.Store().Steps(r.t.Context(), id, store.Cursor{Step: -1, Item: -1}, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]store.Step{}
	for _, s := range list {
		if s.Item == -1 {
			out[s.Name] = s
		}
	}
	return out
}

func (r *harness) count(id, kind, step string) int {
	r.t.Helper()
	events, err := r.Store().Events(r.t.Context(), id, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, e := range events {
		if e.Kind == kind && e.Step == step {
			n++
		}
	}
	return n
}

// script is an Executor with a function per step name. Without one, the output is the step's configured value.
type script struct {
	mu    sync.Mutex
	steps map[string]func(context.Context, Call) (Result, error)
	calls []Call
	now   map[string]int
	most  map[string]int
}

func (s *script) on(step string, f func(context.Context, Call) (Result, error)) *script {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.steps == nil {
		s.steps = map[string]func(context.Context, Call) (Result, error){}
	}
	s.steps[step] = f
	return s
}

func (s *script) Execute(ctx context.Context, call Call) (Result, error) {
	s.mu.Lock()
	if s.now == nil {
		s.now, s.most = map[string]int{}, map[string]int{}
	}
	s.calls = append(s.calls, call)
	s.now[call.Step]++
	s.most[call.Step] = max(s.most[call.Step], s.now[call.Step])
	f := s.steps[call.Step]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now[call.Step]--
	}()
	if f != nil {
		return f(ctx, call)
	}
	return Result{Output: call.Config["value"]}, nil
}

func (s *script) callsTo(step string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Call
	for _, c := range s.calls {
		if c.Step == step {
			out = append(out, c)
		}
	}
	return out
}

var errStep = errors.New("it does not work")

// hang returns when ctx is done.
func hang(ctx context.Context, _ Call) (Result, error) {
	<-ctx.Done()
	return Result{}, ctx.Err()
}

func failing(context.Context, Call) (Result, error) { return Result{}, errStep }

// failTimes fails the first n attempts.
func failTimes(n int) func(context.Context, Call) (Result, error) {
	return func(_ context.Context, c Call) (Result, error) {
		if c.Attempt <= n {
			return Result{}, errStep
		}
		return Result{Output: c.Attempt}, nil
	}
}
