// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// accepted holds the runs that the service has accepted.
type accepted struct {
	mu   sync.Mutex
	runs []string
}

func (a *accepted) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.runs)
}

// start starts one run after another until ctx ends, each until it is accepted: the idempotency key makes it count once.
func (a *accepted) start(ctx context.Context, f *flows, starter int) {
	for n := 0; ctx.Err() == nil; {
		id := f.accepts(ctx, fmt.Sprintf("%d-%d-%d", f.began.UnixNano(), starter, n))
		if id != "" {
			n++
			a.mu.Lock()
			a.runs = append(a.runs, id)
			a.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// accepts requests a run once; it returns an empty id if it was not accepted.
func (f *flows) accepts(ctx context.Context, key string) string {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodPost, f.address+"/workflows/e2e-kills/runs", strings.NewReader(`{"trigger":"rest"}`))
	if err != nil {
		return ""
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+f.token)
	request.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var answer struct{ Data run }
	if json.NewDecoder(response.Body).Decode(&answer) != nil || response.StatusCode > 299 {
		return ""
	}
	return answer.Data.ID
}

// TestWorkflowKills sends SIGKILL to each part of Workflow in turn while runs are started. Every accepted run must
// succeed, with its effects exactly once.
func TestWorkflowKills(t *testing.T) {
	f := connect(t).workflows()
	f.sql("DROP TABLE IF EXISTS e2e_kills", "CREATE TABLE e2e_kills (run text, step int, PRIMARY KEY (run, step))")
	f.after(func(c *cluster) { c.sql("DROP TABLE e2e_kills") })
	steps := ""
	for i, needs := range []string{"", "needs: [s0], ", "needs: [s1], "} {
		steps += fmt.Sprintf(`- {name: s%d, %stype: sql, retry: {attempts: 20, delay: 500ms, maxDelay: 2s}, with: {connection: db, mode: exec, `+
			`query: "INSERT INTO e2e_kills VALUES ($1, %d) ON CONFLICT DO NOTHING", args: ["${{ run.id }}"]}}`+"\n", i, needs, i)
	}
	f.define("e2e-kills", "connections: [{name: db, ref: {kind: Platform, name: main}, backend: postgresql}]\ntriggers: [{name: rest, type: API}]\n"+
		"history: {successful: 10000}\nsteps:\n"+steps)
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	runs := &accepted{}
	var starters sync.WaitGroup
	for n := range 4 {
		starters.Go(func() { runs.start(ctx, f, n) })
	}
	more := func() {
		t.Helper()
		before := runs.count()
		f.Eventually(runs.count, patience, often).Should(BeNumerically(">", before+20))
	}
	more()
	for _, victim := range []string{"workflow-worker", "workflow", "rabbitmq", "postgresql"} {
		start := time.Now()
		f.crash(namespace, map[string]string{"app.kubernetes.io/name": victim, "app.kubernetes.io/instance": "main"})
		more()
		t.Logf("kill -9 of %s: runs are accepted again after %.1f s", victim, time.Since(start).Seconds())
	}
	stop()
	starters.Wait()
	for _, id := range runs.runs {
		f.ended(id, "Succeeded")
	}
	connection := f.postgres()
	defer connection.Close(context.Background()) //nolint:errcheck // the test's own
	var effects int
	f.Expect(connection.QueryRow(f.ctx, "SELECT count(*) FROM e2e_kills WHERE run = ANY($1)", runs.runs).Scan(&effects)).To(Succeed())
	f.Expect(effects).To(Equal(3 * len(runs.runs)))
	t.Logf("%d runs were accepted, and all of them ended with their effects", len(runs.runs))
	f.platformReady()
}
