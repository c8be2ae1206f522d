// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// lookEvery is how often the newest events of all runs that are followed are asked for, by one query for all of them.
// NOTIFY would take a lock of the whole database at each commit of a step; this costs what it costs once per process, and
// nothing while nobody follows.
const lookEvery = 150 * time.Millisecond

// hub tells followers when their runs have new events.
type hub struct {
	mu        sync.Mutex
	followers map[*follower]struct{}
	looking   bool
}

type follower struct {
	run  string
	seen int64
	wake chan struct{} // holds one
}

// Follow gives the events of a run behind one, as they come, to each, in order, until the run has ended and all is told: nil.
// Otherwise it ends with the error of each, of ctx or of the database. It holds a page of events at a time, however slow each is.
func (s *Store) Follow(ctx context.Context, run string, after int64, each func(Event) error) error {
	f := &follower{run: run, seen: after, wake: make(chan struct{}, 1)}
	s.hub.add(s, f)
	defer s.hub.remove(f)
	for {
		r, err := s.Get(ctx, run) // before its events: those of an end that comes in between are told by the next round
		if err != nil {
			return err
		}
		for f.at() < r.Seq {
			events, err := s.Events(ctx, run, f.at(), 0)
			if err != nil {
				return err
			}
			if len(events) == 0 { // it was pruned
				return nil
			}
			for _, e := range events {
				if err := each(e); err != nil {
					return err
				}
				s.hub.advance(f, e.Seq)
			}
		}
		if r.Phase.Ended() {
			return nil
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// at is read by its own goroutine alone, which is the one that writes it.
func (f *follower) at() int64 { return f.seen }

func (h *hub) advance(f *follower, seq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.seen = seq
}

func (h *hub) add(s *Store, f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followers == nil {
		h.followers = map[*follower]struct{}{}
	}
	h.followers[f] = struct{}{}
	if !h.looking {
		h.looking = true
		go h.look(s)
	}
}

func (h *hub) remove(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

// look goes on as long as somebody follows.
func (h *hub) look(s *Store) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for range ticker.C {
		runs := h.runs()
		if runs == nil {
			return
		}
		newest, err := s.newest(runs)
		h.tell(newest, err != nil)
	}
}

// runs is nil when nobody follows: then the looking has ended.
func (h *hub) runs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.followers) == 0 {
		h.looking = false
		return nil
	}
	once := map[string]struct{}{}
	out := make([]string, 0, len(h.followers))
	for f := range h.followers {
		if _, ok := once[f.run]; !ok {
			once[f.run] = struct{}{}
			out = append(out, f.run)
		}
	}
	return out
}

// tell wakes those whose run has news. An error is for each of them to find.
func (h *hub) tell(newest map[string]int64, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		seq, known := newest[f.run]
		if all || !known || seq > f.seen {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (s *Store) newest(runs []string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT id::text, seq FROM runs WHERE id = ANY($1::text[]::uuid[])`, runs)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	var id string
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&id, &seq}, func() error {
		out[id] = seq
		return nil
	})
	return out, err
}
