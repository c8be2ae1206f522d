// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// asWorker makes this test binary run as a worker, so that tests can kill a real process. Its value is the JSON of backends.
const asWorker = "WORKFLOW_TEST_AS_WORKER"

// crashLease is short, so that tests with many crashes end soon.
const crashLease = time.Second

// crashBytes is the size of the output of a step whose value is "large".
const crashBytes = 300 << 10

// effects is an Executor whose effect is a row with the idempotency key as its primary key.
type effects struct{ pool *pgxpool.Pool }

const effectsTable = `CREATE TABLE effects (key text PRIMARY KEY, run text NOT NULL, step text NOT NULL, item int NOT NULL, times int NOT NULL)`

func (e effects) Execute(ctx context.Context, call Call) (Result, error) {
	if call.Config["value"] == "fail" && call.Attempt == 1 {
		return Result{}, errStep
	}
	for { // the engine does not retry a step's own calls: it waits for its database itself
		_, err := e.pool.Exec(ctx, `INSERT INTO effects VALUES ($1, $2, $3, $4, 1) ON CONFLICT (key) DO UPDATE SET times = effects.times + 1`,
			call.Key, call.Run, call.Step, call.Item)
		if err == nil {
			break
		}
		if !db.Unavailable(err) || !pause(ctx, 3) {
			return Result{}, err
		}
	}
	select { // time to crash in
	case <-time.After(rand.N(20 * time.Millisecond)):
	case <-ctx.Done():
	}
	if call.Config["value"] == "large" {
		return Result{Output: strings.Repeat("x", crashBytes)}, ctx.Err()
	}
	return Result{Output: call.Key}, ctx.Err()
}

// serve runs a worker, and returns its exit code.
func serve(settings string) int {
	var p backends
	if err := json.Unmarshal([]byte(settings), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	q, err := queue.New(queue.Options{Binding: backend.ParseBinding(p.Rabbit), Name: p.Queue, Prefetch: 16})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pool, err := db.Open(ctx, p.Database, "worker")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := Options{
		Pool: pool, Queue: q, Compile: compile, Executor: effects{pool}, Sweep: 100 * time.Millisecond, Drain: 5 * time.Second,
		Store: store.Options{Lease: crashLease, MaxClaims: 1000},
	}
	if p.Bucket != nil {
		if o.Bucket, err = s3.Open(backend.ParseBinding(p.Bucket)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		o.Store.MaxOutput = 8 << 20
	}
	e := New(o)
	if p.Ticks {
		go tick(ctx, e, pool)
	}
	e.Run(ctx)
	return 0
}

// worker is an engine in its own process.
type worker struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

func (p backends) spawn(t testing.TB) *worker {
	t.Helper()
	settings, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{cmd: exec.Command(os.Args[0]), exited: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), asWorker+"="+string(settings))
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = w.cmd.Wait()
		close(w.exited)
	}()
	t.Cleanup(w.kill)
	return w
}

// kill kills the process, like a crash.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	<-w.exited
}

// terminate shuts the process down gracefully.
func (w *worker) terminate() {
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	<-w.exited
}

// crashSpecs are the workflows of the crash tests, each with the number of effects of a finished run.
var crashSpecs = []struct {
	spec    string
	inputs  map[string]any
	effects int
}{
	{`{"history":{"successful":1000},"steps":[{"name":"a","type":"x"},{"name":"b","type":"x","needs":["a"]},{"name":"c","type":"x","needs":["b"]},{"name":"d","type":"x","needs":["c"]}],"always":[{"name":"e","type":"x"}]}`, nil, 5},
	{`{"history":{"successful":1000},"steps":[{"name":"a","type":"x"},{"name":"b","type":"x","needs":["a"]},{"name":"c","type":"x","needs":["a"]},{"name":"d","type":"x","needs":["a"]},{"name":"e","type":"x","needs":["b","c","d"]}]}`, nil, 5},
	{`{"history":{"successful":1000},"steps":[{"name":"a","type":"x","with":{"value":"fail"},"retry":{"attempts":3,"delay":"5ms"}},{"name":"b","type":"x","needs":["a"],"with":{"value":"fail"},"retry":{"attempts":3,"delay":"5ms"}}]}`, nil, 2},
	{`{"history":{"successful":1000},"inputs":[{"name":"list","type":"array"}],"steps":[{"name":"a","type":"x","forEach":{"items":"${{ inputs.list }}","parallelism":3}},{"name":"b","type":"x","needs":["a"]}]}`, map[string]any{"list": []any{1, 2, 3, 4, 5, 6}}, 7},
}

// TestWorkerCrashes kills workers at random and restarts the broker while runs are started. Each accepted run succeeds, each of its
// steps has its effect once, and no outcome is recorded twice.
func TestWorkerCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	rabbit := servers.StartRabbitMQ(t)
	p := newBackends(t, servers.Postgres(t), rabbit.Binding)
	r := p.launch(t, Options{Store: store.Options{Lease: crashLease, MaxClaims: 1000}}) // it starts runs but executes no steps
	if _, err := r.pool.Exec(t.Context(), effectsTable); err != nil {
		t.Fatal(err)
	}
	workers := []*worker{p.spawn(t), p.spawn(t)}
	var runs []string
	want := map[string]int{}
	begin := func() {
		spec := crashSpecs[len(runs)%len(crashSpecs)]
		start := Start{Workflow: "w", Program: parse(t, spec.spec), Inputs: spec.inputs, IdempotencyKey: fmt.Sprint(len(runs))}
		r.g.Eventually(func() error { // retry refused starts
			id, _, err := r.Start(t.Context(), start)
			if err == nil {
				runs = append(runs, id)
				want[id] = spec.effects
			}
			return err
		}, 2*long).Should(Succeed())
	}
	const deaths = 20
	for death := range deaths {
		for range 8 {
			begin()
		}
		time.Sleep(rand.N(150 * time.Millisecond)) // crash at a random point
		i := rand.IntN(len(workers))
		workers[i].kill()
		workers[i] = p.spawn(t)
		if death == deaths/2 {
			rabbit.Stop()
			rabbit.Restart(t)
		}
	}
	for _, id := range runs {
		r.wait(id, store.Succeeded)
	}
	workers[0].terminate()
	for _, id := range runs {
		r.checkEffects(id, want[id])
	}
	var lost int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE kind = $1`, store.EventStepLost).Scan(&lost); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d runs, %d workers killed, %d steps restarted", len(runs), deaths, lost)
}

// checkEffects checks that each succeeded step has the effect of one attempt, and one outcome.
func (r *harness) checkEffects(id string, want int) {
	r.t.Helper()
	var effects, distinct, outcomes, steps int
	err := r.pool.QueryRow(r.t.Context(), `SELECT
		(SELECT count(*) FROM effects WHERE run = $1),
		(SELECT count(DISTINCT (step, item)) FROM effects WHERE run = $1),
		(SELECT count(*) FROM events WHERE run = $1::uuid AND kind = 'StepSucceeded'),
		(SELECT count(*) FROM steps WHERE run = $1::uuid AND phase = 'Succeeded')`, id).Scan(&effects, &distinct, &outcomes, &steps)
	if err != nil {
		r.t.Fatal(err)
	}
	if effects != want || distinct != want || outcomes != steps {
		r.t.Errorf("run %s: %d effects of %d steps, want %d; %d outcomes of %d steps\n%s", id, effects, distinct, want, outcomes, steps, r.log(id))
	}
}
