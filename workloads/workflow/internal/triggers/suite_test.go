// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/bindings"
	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

var _ Bindings = &bindings.Bindings{}

// bound is the bindings that the operator would render.
type bound struct {
	mu   sync.Mutex
	of   map[string]backend.Binding
	hmac map[string][]byte
	told []func()
}

func (b *bound) Connection(workflow, connection string) (backend.Binding, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.of[workflow+"/"+connection]
	if !ok {
		return found, fmt.Errorf("connection %s of workflow %s: %w", connection, workflow, backend.ErrNotFound)
	}
	return found, nil
}

func (b *bound) HMAC(workflow, trigger string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hmac[workflow+"/"+trigger]
}

func (b *bound) Subscribe(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, do)
}

func (b *bound) set(name string, to backend.Binding) {
	b.mu.Lock()
	if b.of == nil {
		b.of = map[string]backend.Binding{}
	}
	b.of[name] = to
	told := b.told
	b.mu.Unlock()
	for _, do := range told {
		do()
	}
}

// replica is the triggers of one replica of the service.
type replica struct {
	*Triggers
	stop func()
}

func follow(r *enginetest.Harness, b *bound, clock schedule.Clock) *replica {
	r.T.Helper()
	t, err := New(Options{
		Catalog: r.Catalog, Launcher: r.Launcher, Bindings: b, Pool: r.Pool, Kubernetes: r.Kubernetes, Namespace: r.Namespace, Clock: clock, Log: r.Log,
	})
	if err != nil {
		r.T.Fatal(err)
	}
	run, alone := r.Go(t.Run), r.Go(func(ctx context.Context) { db.Alone(ctx, r.Pool, "alone", r.Log, t.RunAlone) })
	return &replica{t, func() { run(); alone() }}
}

func (p *replica) ready(r *enginetest.Harness, workflow, trigger string) {
	r.T.Helper()
	r.G.Eventually(func() string {
		ready, message := p.State(workflow, trigger)
		return fmt.Sprint(ready, " ", message)
	}, enginetest.Long, 10*time.Millisecond).Should(Equal("true "))
}

func (p *replica) notReady(r *enginetest.Harness, workflow, trigger, message string) {
	r.T.Helper()
	r.G.Eventually(func() string {
		ready, got := p.State(workflow, trigger)
		return fmt.Sprint(ready, " ", got)
	}, enginetest.Long, 10*time.Millisecond).Should(And(HavePrefix("false "), ContainSubstring(message)))
}

// bodies returns the inputs of a workflow's runs.
func bodies(r *enginetest.Harness, workflow string) []string {
	r.T.Helper()
	var out []string
	for _, run := range r.Runs(workflow) {
		out = append(out, string(run.Inputs))
	}
	return out
}

func rejected(r *enginetest.Harness, workflow, trigger string) func() int64 {
	return func() int64 {
		counts, err := r.Launcher.Counts(context.Background())
		r.G.Expect(err).NotTo(HaveOccurred())
		return counts[workflow][trigger].Rejected
	}
}
