// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// recordOverhead is a record's memory besides its bytes: the struct and its slices' headers.
const recordOverhead = 192

// cost returns the bytes of a batch that count against the budget.
func cost(batch *record.Batch) int64 {
	sum := int64(len(batch.Records)+len(batch.Failed)) * recordOverhead
	for i := range batch.Records {
		sum += int64(batch.Records[i].Len())
	}
	for i := range batch.Failed {
		sum += int64(batch.Failed[i].Record.Len())
	}
	return sum
}

// budget limits the bytes in flight. A reader waits until there is any room, and is charged afterwards, since
// it cannot know how much it will read.
type budget struct {
	limit int64
	mu    sync.Mutex
	used  int64
	room  chan struct{} // closed when used falls below limit
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// wait blocks until less than the limit is in flight.
func (b *budget) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		if b.used < b.limit {
			b.mu.Unlock()
			return ctx.Err()
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) charge(bytes int64) {
	b.mu.Lock()
	b.used += bytes
	b.mu.Unlock()
}

func (b *budget) release(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	if b.used < b.limit && b.room != nil {
		close(b.room)
		b.room = nil
	}
}

func (b *budget) inFlight() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
