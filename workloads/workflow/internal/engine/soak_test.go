// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// soakFor is the environment variable with the duration of the test; `make soak` sets a longer one.
const soakFor = "SOAK"

const tickSpec = `{"history":{"successful":10000},"steps":[{"name":"a","type":"x"}]}`

// tick starts a run each second until ctx is done, concurrently with the schedulers of other processes.
func tick(ctx context.Context, e *Engine, pool *pgxpool.Pool) {
	program, err := compile(json.RawMessage(tickSpec))
	if err != nil {
		panic(err)
	}
	s := schedule.New(schedule.Options{
		Store: schedule.Postgres{DB: pool},
		Start: func(ctx context.Context, workflow, trigger string, at time.Time, key string) error {
			_, _, err := e.Start(ctx, Start{
				Workflow: workflow, Program: program, IdempotencyKey: key, Trigger: definition.TriggerInfo{Type: "Scheduled", Name: trigger, ScheduledAt: at},
			})
			return err
		},
	})
	s.Set("tick", schedule.Trigger{
		Workflow: "tick", Name: "second", Line: "each second", Missed: definition.RunAll,
		Next: func(after time.Time) time.Time { return after.Truncate(time.Second).Add(time.Second) },
	})
	s.Run(ctx)
}

// TestEverythingDies kills workers with their schedulers, the broker and the database at random while runs are started. Each
// accepted run succeeds, each of its steps has its effect once, and each second has its run.
func TestEverythingDies(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	length := 20 * time.Second
	if text := os.Getenv(soakFor); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakFor, err)
		}
	}
	rabbit, postgres := servers.StartRabbitMQ(t), servers.StartPostgres(t)
	p := newBackends(t, postgres.Binding, rabbit.Binding)
	p.Ticks = true
	r := p.launch(t, Options{Store: store.Options{Lease: crashLease, MaxClaims: 1000}}) // it starts runs but executes no steps
	if _, err := r.pool.Exec(t.Context(), effectsTable); err != nil {
		t.Fatal(err)
	}
	workers := []*worker{p.spawn(t), p.spawn(t)}
	load := r.load(length)
	deaths := map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(rand.N(2 * time.Second)) // crash at a random point
		switch what := rand.IntN(12); what {
		case 0:
			deaths["broker"]++
			rabbit.Kill()
			rabbit.Restart(t)
		case 1:
			deaths["database"]++
			postgres.Kill()
			postgres.Restart(t)
		default:
			deaths["worker"]++
			workers[what%2].kill()
			workers[what%2] = p.spawn(t)
		}
	}
	runs := <-load
	for id, want := range runs {
		r.wait(id, store.Succeeded)
		r.checkEffects(id, want)
	}
	ticks := r.checkTicks()
	t.Logf("%d runs and %d ticks in %s, killed: %v", len(runs), ticks, length, deaths)
}

// starters is the number of concurrent runs. It is low, so that work does not pile up and a stuck run is noticed.
const starters = 16

// load starts runs for the given time and waits for each. It sends their ids with the expected number of effects.
func (r *harness) load(length time.Duration) <-chan map[string]int {
	done := make(chan map[string]int, 1)
	programs := make([]*definition.Program, len(crashSpecs))
	for i, spec := range crashSpecs {
		programs[i] = parse(r.t, spec.spec)
	}
	go func() {
		runs, end := map[string]int{}, time.Now().Add(length)
		var mu sync.Mutex
		var group sync.WaitGroup
		for starter := range starters {
			group.Go(func() {
				for n := 0; time.Now().Before(end) && r.t.Context().Err() == nil; n++ {
					i := n % len(crashSpecs)
					// Several workflows, so that no run is pruned.
					id := r.accepted(Start{
						Workflow: fmt.Sprintf("w%d-%d", starter, n/500), Program: programs[i], Inputs: crashSpecs[i].inputs, IdempotencyKey: fmt.Sprint(n),
					})
					mu.Lock()
					runs[id] = crashSpecs[i].effects
					mu.Unlock()
					r.followed(id)
				}
			})
		}
		group.Wait()
		done <- runs
	}()
	return done
}

// accepted starts a run, and retries while it is refused.
func (r *harness) accepted(s Start) string {
	for {
		id, _, err := r.Start(r.t.Context(), s)
		if err == nil || r.t.Context().Err() != nil {
			return id
		}
	}
}

// followed waits for the end of a run despite all crashes.
func (r *harness) followed(id string) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*long)
	defer cancel()
	for {
		err := r.store.Follow(ctx, id, 0, func(store.Event) error { return nil })
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			r.t.Errorf("run %s has not ended: %v\n%s", id, err, r.log(id))
			return
		}
	}
}

// checkTicks checks that each second, from the first to the last, has one run.
func (r *harness) checkTicks() int {
	r.t.Helper()
	var runs, seconds, span int
	err := r.pool.QueryRow(r.t.Context(), `SELECT count(*), count(DISTINCT at), coalesce(extract(epoch FROM max(at) - min(at))::int + 1, 0)
		FROM (SELECT (trigger->>'scheduledAt')::timestamptz AS at FROM runs WHERE workflow = 'tick') AS ticks`).Scan(&runs, &seconds, &span)
	if err != nil {
		r.t.Fatal(err)
	}
	if runs != seconds || runs != span || runs == 0 {
		r.t.Errorf("%d runs for %d ticks of %d seconds", runs, seconds, span)
	}
	return runs
}
