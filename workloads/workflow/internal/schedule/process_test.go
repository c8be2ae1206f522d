// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// childVariable makes this test binary run a scheduler, which reads its configuration from standard input.
const childVariable = "SCHEDULE_TEST_CHILD"

// tick is short, so that many kills hit a scheduler at work.
const tick = 100 * time.Millisecond

type child struct {
	Database, Schema string
	Since            time.Time
}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(schedules())
	}
	servers.Main(m)
}

// schedules runs a scheduler until it is killed.
func schedules() int {
	var c child
	if json.NewDecoder(os.Stdin).Decode(&c) != nil {
		return 1
	}
	config, err := pgxpool.ParseConfig(c.Database)
	if err != nil {
		return 1
	}
	config.ConnConfig.RuntimeParams["search_path"] = c.Schema
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return 1
	}
	w := &world{Postgres: schedule.Postgres{DB: pool}, pool: pool}
	s := schedule.New(schedule.Options{Store: w, Start: w.start})
	trigger := line(definition.RunAll, tick)
	trigger.Since = c.Since
	s.Set("flow", trigger)
	s.Run(context.Background())
	return 0
}

// run starts a scheduler in its own process, and returns a function that kills it.
func (c child) run(t *testing.T) (kill func()) {
	t.Helper()
	in, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childVariable+"=1")
	pipe, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	t.Cleanup(kill)
	if _, err := pipe.Write(in); err != nil {
		t.Fatal(err)
	}
	return kill
}

// TestProcesses kills two schedulers in turn with SIGKILL; every tick is started exactly once.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	g, w := NewWithT(t), newWorld(t)
	b := servers.Postgres(t)
	c := child{
		Database: "host=" + b.Host + " port=" + b.Port + " user=" + b.Username + " password=" + b.Password + " dbname=" + b.Database + " sslmode=disable",
		Schema:   w.pool.Config().ConnConfig.RuntimeParams["search_path"], Since: time.Now().Truncate(tick),
	}
	started := func() int { return w.count(t, "SELECT count(*) FROM started") }
	kills := []func(){c.run(t), c.run(t)}
	const rounds = 15
	for round := range rounds {
		before := started()
		g.Eventually(started, time.Minute, time.Millisecond).Should(BeNumerically(">", before+round%4))
		kills[round%2]()
		kills[round%2] = c.run(t)
	}
	end := time.Now()
	g.Eventually(func() int { return w.count(t, "SELECT count(*) FROM ticks WHERE at > $1", end) }, time.Minute, 10*time.Millisecond).Should(BeNumerically(">", 0))
	want := int(end.Sub(c.Since)/tick) + 1
	g.Expect(w.count(t, "SELECT count(*) FROM started WHERE at <= $1", end)).To(Equal(want))
	g.Expect(w.count(t, "SELECT count(DISTINCT at) FROM started WHERE at <= $1", end)).To(Equal(want))
	g.Expect(w.count(t, "SELECT count(*) FROM ticks WHERE at <= $1", end)).To(Equal(want))
	t.Logf("%d ticks over %d kills", want, rounds)
}
