// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// crashLarge has four large values: the body, a, and two items of c. b and d run only if they read the stored values.
var crashLarge = strings.ReplaceAll(`{"history":{"successful":1000},"steps":[{"name":"a","type":"x","with":{"value":"large"}},
	{"name":"b","type":"x","needs":["a"],"when":"size(steps.a.output) == N && size(trigger.body) == N"},
	{"name":"c","type":"x","needs":["a"],"with":{"value":"large"},"forEach":{"items":[1,2]}},
	{"name":"d","type":"x","needs":["b","c"],"when":"steps.c.output.all(x, size(x) == N)"}]}`, "N", fmt.Sprint(crashBytes))

// TestCrashesWithLargeValues kills workers at random, also between a write to a real object store and its commit. All runs end, all
// referenced objects exist, and no others stay.
func TestCrashesWithLargeValues(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	p := newBackends(t, servers.Postgres(t), servers.RabbitMQ(t))
	b := servers.Bucket(t, servers.MinIO(t))
	p.Bucket = b.Data()
	bucket, err := s3.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bucket.Close() })
	r := p.launch(t, Options{Bucket: bucket, Store: store.Options{Lease: crashLease, MaxClaims: 1000, MaxOutput: 8 << 20}}) // it executes nothing
	if _, err := r.pool.Exec(t.Context(), effectsTable); err != nil {
		t.Fatal(err)
	}
	begin := Start{Workflow: "w", Program: parse(t, crashLarge), Trigger: definition.TriggerInfo{Body: strings.Repeat("x", crashBytes)}}
	workers := []*worker{p.spawn(t), p.spawn(t)}
	var runs []string
	const deaths, atOnce = 10, 3
	for range deaths {
		for range atOnce {
			id, _, err := r.Start(t.Context(), begin)
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, id)
		}
		time.Sleep(rand.N(150 * time.Millisecond)) // crash at a random point
		i := rand.IntN(len(workers))
		workers[i].kill()
		workers[i] = p.spawn(t)
	}
	for _, id := range runs {
		r.wait(id, store.Succeeded)
		r.checkEffects(id, 5)
	}
	folders := func() int {
		names, more, err := bucket.Folders(t.Context(), "", 1000)
		if err != nil || more {
			t.Fatal(err)
		}
		return len(names)
	}
	if n := r.sweepAll(); n != 0 || folders() != 2*len(runs) {
		t.Errorf("deleted %d folders of existing runs; %d are left, want %d", n, folders(), 2*len(runs))
	}
	for _, id := range runs {
		data, err := r.Output(t.Context(), id, "c", -1, false)
		if err != nil || len(data) != 2*(crashBytes+2)+3 {
			t.Errorf("outputs of all items: %d bytes, %v", len(data), err)
		}
	}
	for _, w := range workers {
		w.kill()
	}
	r.prune(0)
	r.sweepAll()
	r.g.Expect(folders()).To(BeZero())
}
