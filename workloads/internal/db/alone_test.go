// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
)

// TestAlone checks that one of several processes runs, and another one takes over when it ends or loses its connection.
func TestAlone(t *testing.T) {
	g := NewWithT(t)
	c := schema(t)
	var now, most atomic.Int32
	var turns [3]atomic.Int32
	var stops [3]context.CancelFunc
	var group [3]chan struct{}
	for i := range stops {
		pool := open(t, c)
		var ctx context.Context
		ctx, stops[i] = context.WithCancel(context.Background())
		group[i] = make(chan struct{})
		go func() {
			defer close(group[i])
			Alone(ctx, pool, "test", discard(), func(ctx context.Context) {
				most.Store(max(most.Load(), now.Add(1)))
				turns[i].Add(1)
				<-ctx.Done()
				now.Add(-1)
			})
		}()
		t.Cleanup(func() { stops[i](); <-group[i] })
	}
	whose := func() int {
		for i := range turns {
			if turns[i].Load() > 0 {
				return i
			}
		}
		return -1
	}
	g.Eventually(whose, "30s").ShouldNot(Equal(-1))
	first := whose()
	stops[first]()
	<-group[first]
	turns[first].Store(0)
	g.Eventually(whose, "30s").ShouldNot(Equal(-1))
	second := whose()
	g.Expect(most.Load()).To(BeEquivalentTo(1))
	// As if the server had lost it.
	before := turns[0].Load() + turns[1].Load() + turns[2].Load()
	_, err := open(t, c).Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()`)
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() int32 { return turns[0].Load() + turns[1].Load() + turns[2].Load() }, "30s").Should(BeNumerically(">", before), "after %d", second)
	g.Eventually(now.Load, "30s").Should(BeEquivalentTo(1), "the process that lost it has noticed")
}
