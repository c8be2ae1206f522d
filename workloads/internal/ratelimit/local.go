// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"hash/maphash"
	"sync"
)

const (
	shards = 64
	// candidates is how many buckets of a full shard are compared to find one to drop.
	candidates = 8
)

// local holds buckets in memory, never more than its limit.
type local struct {
	seed   maphash.Seed
	limit  int // per shard
	shards [shards]shard
}

type shard struct {
	mu     sync.Mutex
	fullAt map[string]int64 // microseconds; a full bucket has no entry
}

func newLocal(limit int) *local {
	l := &local{seed: maphash.MakeSeed(), limit: max(1, limit/shards)}
	for i := range l.shards {
		l.shards[i].fullAt = map[string]int64{}
	}
	return l
}

func (l *local) take(key string, b bucket, now int64) decision {
	s := &l.shards[maphash.String(l.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	fullAt, known := s.fullAt[key]
	d, next := b.decide(fullAt, now)
	if !known && len(s.fullAt) >= l.limit {
		s.drop(now)
	}
	s.fullAt[key] = next
	return d
}

// drop makes room: full buckets among a few candidates are dropped, or else the one that is full first, because it loses
// least. A map is walked from a random place.
func (s *shard) drop(now int64) {
	seen, dropped, first := 0, false, ""
	for key, fullAt := range s.fullAt {
		if fullAt <= now {
			delete(s.fullAt, key)
			dropped = true
		} else if first == "" || fullAt < s.fullAt[first] {
			first = key
		}
		if seen++; seen == candidates {
			break
		}
	}
	if !dropped {
		delete(s.fullAt, first)
	}
}

// size returns the number of buckets.
func (l *local) size() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].fullAt)
		l.shards[i].mu.Unlock()
	}
	return n
}
