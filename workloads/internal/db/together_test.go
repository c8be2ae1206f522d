// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// blockedTogether returns a Together that sends nothing until the test runs its work.
func blockedTogether(t *testing.T) *Together {
	t.Helper()
	together := NewTogether(open(t, schema(t)))
	together.queries.busy = together.queries.atOnce
	return together
}

// queued waits until n queries wait.
func queued(t *testing.T, together *Together, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // the polling interval
		together.queries.mu.Lock()
		waiting := len(together.queries.waiting)
		together.queries.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d queries wait, want %d", waiting, n)
		}
	}
}

// TestTogether checks that each caller of a batch gets its own row, that no row is ErrNoRows, and that an error belongs
// only to its query.
func TestTogether(t *testing.T) {
	const queries, none, wrong = maxTogether, 3, 5
	together := blockedTogether(t)
	var group sync.WaitGroup
	got, failed := make([]int, queries), make([]error, queries)
	for i := range queries {
		group.Go(func() {
			failed[i] = together.QueryRow(t.Context(), `SELECT 100 / (5 - $1::int) WHERE $1 <> 3`, i).Scan(&got[i])
		})
	}
	queued(t, together, queries)
	together.queries.run()
	group.Wait()
	for i := range queries {
		switch {
		case i == none:
			if !errors.Is(failed[i], pgx.ErrNoRows) {
				t.Errorf("a query without a row: %v", failed[i])
			}
		case i == wrong:
			if failed[i] == nil || errors.Is(failed[i], pgx.ErrNoRows) {
				t.Errorf("a division by zero: %v", failed[i])
			}
		case failed[i] != nil || got[i] != 100/(5-i):
			t.Errorf("query %d: %d, %v", i, got[i], failed[i])
		}
	}
}

// TestTogetherAlone checks that a single caller does not wait for others.
func TestTogetherAlone(t *testing.T) {
	together := NewTogether(open(t, schema(t)))
	for i := range 3 {
		var got int
		if err := together.QueryRow(t.Context(), `SELECT $1::int`, i).Scan(&got); err != nil || got != i {
			t.Errorf("%d, %v", got, err)
		}
	}
}

// TestTogetherGone checks that a caller who stops waiting is not waited for, and its query is not sent.
func TestTogetherGone(t *testing.T) {
	together := blockedTogether(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- together.QueryRow(ctx, `SELECT 1`).Scan(new(int)) }()
	queued(t, together, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	queued(t, together, 0)
}
