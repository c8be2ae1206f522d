// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The newest events of all runs that are followed are asked for by one query for all of them: soon after somebody came or there
// was news, so that who waits for a short run has its end at once, and then ever more seldom. NOTIFY would take a lock of the
// whole database at each commit of a step; this costs what it costs once per process, and nothing while nobody follows.
const (
	lookSoon, lookSeldom = 4 * time.Millisecond, 128 * time.Millisecond
	// lookShare is the share of time, as 1/lookShare, that the query may take.
	lookShare = 10
)

// pace is the delay before the hub polls.
type pace struct {
	pause time.Duration
	took  time.Duration // by the query before
}

// after gives the wait after a look.
func (p *pace) after(news bool, took time.Duration) time.Duration {
	p.pause, p.took = min(2*p.pause, lookSeldom), took
	if news {
		p.pause = lookSoon
	}
	return p.wait()
}

// hurry gives the wait, since the look before, that holds when somebody comes meanwhile.
func (p *pace) hurry() time.Duration {
	p.pause = lookSoon
	return p.wait()
}

func (p *pace) wait() time.Duration { return max(p.pause, lookShare*p.took) }

// hub tells followers when their runs have new events.
type hub struct {
	mu        sync.Mutex
	followers map[*follower]struct{}
	looking   bool
	came      chan struct{} // holds one
}

type follower struct {
	run  string
	seen int64
	told int64         // the newest that it was woken for: one that is slow to take it is no news again
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
		if f.at() > r.Seq { // it went on meanwhile, maybe to its end, and nobody wakes who has seen all
			continue
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
		h.followers, h.came = map[*follower]struct{}{}, make(chan struct{}, 1)
	}
	h.followers[f] = struct{}{}
	if !h.looking {
		h.looking = true
		go h.look(s)
	}
	select {
	case h.came <- struct{}{}:
	default:
	}
}

func (h *hub) remove(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

// look goes on as long as somebody follows.
func (h *hub) look(s *Store) {
	var p pace
	looked := time.Now()
	timer := time.NewTimer(p.hurry())
	defer timer.Stop()
	for {
		select {
		case <-h.came:
			timer.Reset(time.Until(looked.Add(p.hurry())))
			continue
		case <-timer.C:
		}
		runs := h.runs()
		if runs == nil {
			return
		}
		looked = time.Now()
		newest, err := s.newest(runs)
		news := h.tell(newest, err != nil)
		timer.Reset(p.after(news, time.Since(looked)))
	}
}

// runs returns nil when nobody follows: then the looking has ended.
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

// tell wakes those whose run has news, if there are any. An error is for each of them to find.
func (h *hub) tell(newest map[string]int64, all bool) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		seq, known := newest[f.run]
		if all || !known || seq > f.seen {
			news = news || seq > f.told
			f.told = max(f.told, seq)
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	}
	return news
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
