// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// world is a database with claims and runs.
type world struct {
	schedule.Postgres
	pool *pgxpool.Pool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := backendtest.Context(t)
	config, err := pg.Config(servers.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(backendtest.Name("schedule"), "-", "_")
	config.ConnConfig.RuntimeParams["search_path"] = name
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(ctx, "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(ctx, pool, store.Migrations, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE started (key text PRIMARY KEY, workflow text NOT NULL, at timestamptz NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	return &world{Postgres: schedule.Postgres{DB: pool}, pool: pool}
}

// start inserts a run unless its key exists, like the service's store.
func (w *world) start(ctx context.Context, workflow, _ string, at time.Time, key string) error {
	_, err := w.pool.Exec(ctx, "INSERT INTO started (key, workflow, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", key, workflow, at)
	return err
}

func (w *world) count(t testing.TB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := w.pool.QueryRow(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPostgres(t *testing.T) {
	g, w, ctx := NewWithT(t), newWorld(t), backendtest.Context(t)
	at := noon.Truncate(time.Minute)
	last, err := w.Last(ctx, "flow", "cron")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last.IsZero()).To(BeTrue())
	for i, want := range []bool{true, false} {
		got, err := w.Claim(ctx, "flow", "cron", at)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got).To(Equal(want), "claim %d", i)
	}
	_, err = w.Claim(ctx, "flow", "cron", at.Add(25*time.Hour))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = w.Claim(ctx, "flow", "other", at)
	g.Expect(err).NotTo(HaveOccurred())
	last, err = w.Last(ctx, "flow", "cron")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last.Equal(at.Add(25 * time.Hour))).To(BeTrue())
	g.Expect(w.count(t, "SELECT count(*) FROM ticks WHERE trigger = 'cron'")).To(Equal(1), "old claims are deleted")
	g.Expect(w.Forget(ctx, "flow")).To(Succeed())
	g.Expect(w.count(t, "SELECT count(*) FROM ticks")).To(Equal(0))
}

// TestSchedulers: two and three schedulers on one database start each tick once, while clocks jump and schedulers are restarted.
func TestSchedulers(t *testing.T) {
	for _, number := range []int{2, 3} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			g, w := NewWithT(t), newWorld(t)
			const triggers, minutes = 20, 30
			var lines []schedule.Trigger
			for i := range triggers {
				lines = append(lines, schedule.Trigger{Workflow: fmt.Sprintf("flow-%d", i), Name: "cron", Line: "1m", Next: every(time.Minute), Missed: definition.RunAll, Since: noon})
			}
			calls := &atomic.Int64{}
			start := func(ctx context.Context, workflow, trigger string, at time.Time, key string) error {
				calls.Add(1)
				return w.start(ctx, workflow, trigger, at, key)
			}
			clocks, stops := make([]*clock, number), make([]func(), number)
			at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
			run := func(i, minute int) {
				clocks[i] = newClock(at(minute))
				_, stops[i] = begin(t, w, start, clocks[i], lines...)
			}
			for i := range number {
				run(i, 0)
			}
			for minute := 1; minute <= minutes; minute++ {
				victim := minute % number
				switch {
				case minute%7 == 0: // killed while it works, and restarted
					go stops[victim]()
					run(victim, minute)
				case minute%5 == 0: // its clock goes back, and catches up
					clocks[victim].jump(-3 * time.Minute)
					clocks[victim].jump(3 * time.Minute)
				}
				for _, c := range clocks {
					c.move(at(minute).Sub(c.Now()), time.Minute)
				}
				g.Eventually(func() int { return w.count(t, "SELECT count(*) FROM started WHERE at <= $1", at(minute)) }, time.Minute, 5*time.Millisecond).Should(Equal(triggers * minute))
			}
			g.Eventually(func() int { return w.count(t, "SELECT count(*) FROM ticks") }, time.Minute, 5*time.Millisecond).Should(Equal(triggers * minutes))
			g.Expect(w.count(t, "SELECT count(*) FROM started")).To(Equal(triggers * minutes))
			t.Logf("%d ticks, %d starts", triggers*minutes, calls.Load())
		})
	}
}

// dying is a world that simulates a crash of the scheduler at one of its calls, before or after the call's effect.
type dying struct {
	*world
	left  atomic.Int64
	after bool
	dead  chan struct{}
}

func (d *dying) call(ctx context.Context, do func() error) error {
	switch left := d.left.Add(-1); {
	case left > 0:
		return do()
	case left == 0 && d.after:
		_ = do() // the crashed scheduler never sees the result
	}
	select {
	case <-d.dead:
	default:
		close(d.dead)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (d *dying) Last(ctx context.Context, workflow, trigger string) (last time.Time, err error) {
	err = d.call(ctx, func() error { last, err = d.world.Last(ctx, workflow, trigger); return err })
	return last, err
}

func (d *dying) Claim(ctx context.Context, workflow, trigger string, at time.Time) (first bool, err error) {
	err = d.call(ctx, func() error { first, err = d.world.Claim(ctx, workflow, trigger, at); return err })
	return first, err
}

func (d *dying) start(ctx context.Context, workflow, trigger string, at time.Time, key string) error {
	return d.call(ctx, func() error { return d.world.start(ctx, workflow, trigger, at, key) })
}

// TestKilled: wherever a scheduler crashes, the next one continues: no tick is lost, and none is started twice.
func TestKilled(t *testing.T) {
	trigger := line(definition.RunAll, time.Minute)
	trigger.Since = noon.Add(-3 * time.Minute) // three ticks are due at once
	for calls := 1; calls <= 7; calls++ {      // Last, and Start and Claim of each
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d, after %t", calls, after), func(t *testing.T) {
				g, w, c := NewWithT(t), newWorld(t), newClock(noon)
				d := &dying{world: w, after: after, dead: make(chan struct{})}
				d.left.Store(int64(calls))
				_, stop := begin(t, d, d.start, c, trigger)
				<-d.dead
				if n := w.count(t, "SELECT count(*) FROM started"); n > 3 {
					t.Fatalf("%d runs", n)
				}
				stop()
				second, _ := begin(t, w, w.start, c, trigger)
				settled(t, second, c, trigger)
				g.Expect(w.count(t, "SELECT count(*) FROM started")).To(Equal(3))
				g.Expect(w.count(t, "SELECT count(*) FROM ticks")).To(Equal(3))
				c.pass(time.Minute)
				settled(t, second, c, trigger)
				g.Expect(w.count(t, "SELECT count(*) FROM started")).To(Equal(4))
			})
		}
	}
}
