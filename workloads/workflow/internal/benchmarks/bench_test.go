// SPDX-License-Identifier: Apache-2.0

// Package benchmarks measures Workflow's engine without its REST service, on a real PostgreSQL that syncs each commit and a
// real RabbitMQ with quorum queues. Steps do nothing: it measures the overhead of a step.
package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	slots     = 64
	pollEvery = 2 * time.Millisecond
	starters  = 32
	waiting   = 1000
)

// nothing is a step that does nothing, except that "wait" waits to be resumed.
type nothing struct{ executed *atomic.Int64 }

func (n nothing) Execute(_ context.Context, call engine.Call) (engine.Result, error) {
	n.executed.Add(1)
	if call.Step == "wait" && call.Resume == nil {
		return engine.Result{Wait: &engine.Wait{Event: true}}, nil
	}
	return engine.Result{Output: call.Attempt}, nil
}

type bench struct {
	*engine.Engine
	b        testing.TB
	pool     *pgxpool.Pool
	executed atomic.Int64
	stop     func()
}

// launch runs one engine that both starts and executes runs.
func launch(b testing.TB, executes bool) *bench {
	b.Helper()
	binding, schema := servers.Schema(b)
	c := config.Database{Binding: binding.Data(), Schema: schema}
	x := &bench{b: b}
	var err error
	if x.pool, err = db.Open(context.Background(), c, "bench"); err != nil {
		b.Fatal(err)
	}
	if err := db.Migrate(b.Context(), x.pool, store.Migrations, slog.New(slog.DiscardHandler)); err != nil {
		b.Fatal(err)
	}
	q, err := queue.New(queue.Options{Binding: servers.RabbitMQ(b), Name: backendtest.Name("bench"), Prefetch: slots})
	if err != nil {
		b.Fatal(err)
	}
	o := engine.Options{Pool: x.pool, Queue: q, Compile: compile}
	if executes {
		o.Executor = nothing{&x.executed}
	}
	x.Engine = engine.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { x.Run(ctx) })
	x.stop = func() {
		cancel()
		group.Wait()
		x.pool.Close()
	}
	b.Cleanup(x.stop)
	for q.Ready(b.Context()) != nil {
		b.Log("waiting for the queue")
	}
	return x
}

func compile(spec json.RawMessage) (*definition.Program, error) {
	var w definition.Workflow
	if err := json.Unmarshal(spec, &w); err != nil {
		return nil, err
	}
	return definition.Compile(&w)
}

func parse(b testing.TB, steps ...string) *definition.Program {
	b.Helper()
	return parseWith(b, "", steps...)
}

// parseWith sets the longest history that a definition may have: deleting runs is not measured.
func parseWith(b testing.TB, inputs string, steps ...string) *definition.Program {
	b.Helper()
	p, err := compile(json.RawMessage(`{"history":{"successful":1000,"failed":1000},"inputs":[` + inputs + `],"steps":[` + strings.Join(steps, ",") + `]}`))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// chain returns n steps, one after the other.
func chain(b testing.TB, n int) *definition.Program {
	steps := make([]string, n)
	for i := range steps {
		needs := ""
		if i > 0 {
			needs = fmt.Sprintf(`,"needs":["s%d"]`, i-1)
		}
		steps[i] = fmt.Sprintf(`{"name":"s%d","type":"transform","with":{"value":0}%s}`, i, needs)
	}
	return parse(b, steps...)
}

func (x *bench) start(p *definition.Program) string {
	x.b.Helper()
	id, _, err := x.Start(x.b.Context(), engine.Start{Workflow: "bench", Generation: 1, Program: p})
	if err != nil {
		x.b.Error(err)
	}
	return id
}

// all starts n runs from atOnce goroutines.
func (x *bench) all(p *definition.Program, n, atOnce int) {
	x.b.Helper()
	var group sync.WaitGroup
	var next atomic.Int64
	for range atOnce {
		group.Go(func() {
			for next.Add(1) <= int64(n) {
				x.start(p)
			}
		})
	}
	group.Wait()
}

// await returns when n runs have ended.
func (x *bench) await(n int, phase store.Phase) {
	x.b.Helper()
	for got := -1; got < n; time.Sleep(10 * time.Millisecond) {
		if err := x.pool.QueryRow(x.b.Context(), `SELECT count(*) FROM runs WHERE phase = $1`, phase).Scan(&got); err != nil {
			x.b.Fatal(err)
		}
	}
}

// BenchmarkStarts measures durable starts by 32 clients: the run, its first step, its events and its task are committed.
func BenchmarkStarts(b *testing.B) {
	x, p := launch(b, false), chain(b, 3)
	x.start(p)
	b.ResetTimer()
	x.all(p, b.N, starters)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkTransitions runs chains of 20 steps, as many runs at a time as the name says. Each step is two transitions, begin and
// end; it counts finished steps.
func BenchmarkTransitions(b *testing.B) {
	const length = 20
	for _, runs := range []int{16, 64} {
		b.Run(fmt.Sprintf("runs=%d", runs), func(b *testing.B) {
			x, p := launch(b, true), chain(b, length)
			x.start(p)
			x.await(1, store.Succeeded)
			b.ResetTimer()
			n := max(runs, b.N/length)
			for range n / runs {
				x.all(p, runs, runs)
			}
			x.await(1+n/runs*runs, store.Succeeded)
			b.ReportMetric(float64(n/runs*runs*length)/b.Elapsed().Seconds(), "transitions/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkThreeSteps measures a run of three steps on an idle engine, from its start to its recorded end.
func BenchmarkThreeSteps(b *testing.B) {
	x, p := launch(b, true), chain(b, 3)
	x.await(0, store.Succeeded)
	id := x.start(p)
	x.follow(id)
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for b.Loop() {
		id := x.start(p)
		x.follow(id)
		r, err := x.Store().Get(b.Context(), id)
		if err != nil || r.Phase != store.Succeeded {
			b.Fatal(r.Phase, err)
		}
		times = append(times, r.Finished.Sub(r.Created))
	}
	slices.Sort(times)
	b.ReportMetric(ms(times[len(times)/2]), "median-ms")
	b.ReportMetric(ms(times[len(times)*99/100]), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// follow waits for the end of a run without much polling.
func (x *bench) follow(id string) {
	x.b.Helper()
	for {
		r, err := x.Store().Get(x.b.Context(), id)
		if err != nil {
			x.b.Fatal(err)
		}
		if r.Phase.Ended() {
			return
		}
		time.Sleep(pollEvery)
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkFanOut measures a run of ten parallel steps with ten items each.
func BenchmarkFanOut(b *testing.B) {
	x := launch(b, true)
	steps := make([]string, 10)
	for i := range steps {
		steps[i] = fmt.Sprintf(`{"name":"s%d","type":"transform","with":{"value":0},"forEach":{"items":"${{ inputs.list }}"}}`, i)
	}
	p := parseWith(b, `{"name":"list","type":"array"}`, steps...)
	list := make([]any, 10)
	for i := range list {
		list[i] = int64(i)
	}
	b.ResetTimer()
	var took []time.Duration
	for b.Loop() {
		id, _, err := x.Start(b.Context(), engine.Start{Workflow: "bench", Program: p, Inputs: map[string]any{"list": list}})
		if err != nil {
			b.Fatal(err)
		}
		x.follow(id)
		r, err := x.Store().Get(b.Context(), id)
		if err != nil || r.Phase != store.Succeeded {
			b.Fatal(r.Phase, r.Error, err)
		}
		took = append(took, r.Finished.Sub(r.Created))
	}
	slices.Sort(took)
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWaiting measures what 1,000 waiting runs cost the process.
func BenchmarkWaiting(b *testing.B) {
	x, p := launch(b, true), parse(b, `{"name":"wait","type":"transform","with":{"value":0}}`)
	x.start(p)
	x.await(1, store.Waiting)
	for b.Loop() {
		before := heap()
		goroutines := runtime.NumGoroutine()
		var have int
		if err := x.pool.QueryRow(b.Context(), `SELECT count(*) FROM runs`).Scan(&have); err != nil {
			b.Fatal(err)
		}
		x.all(p, waiting, starters)
		x.await(have+waiting, store.Waiting)
		b.ReportMetric(float64(int64(heap())-int64(before))/1024, "heap-growth-KiB")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
	}
	b.ReportMetric(0, "ns/op")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
