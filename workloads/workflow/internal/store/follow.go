// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// One query polls the newest events of all followed runs. It polls soon after a follower joined or an event arrived, so that the
// end of a short run is reported at once, and then at growing intervals. NOTIFY would take a database-wide lock at each commit of a
// step; polling costs the same for any number of followers in the process, and nothing without followers.
const (
	minPoll, maxPoll = 4 * time.Millisecond, 128 * time.Millisecond
	// pollShare limits the query to 1/pollShare of the time.
	pollShare = 10
)

// pace is the delay before the hub polls.
type pace struct {
	pause time.Duration
	took  time.Duration // by the previous query
}

// after returns the delay after a poll.
func (p *pace) after(news bool, took time.Duration) time.Duration {
	p.pause, p.took = min(2*p.pause, maxPoll), took
	if news {
		p.pause = minPoll
	}
	return p.wait()
}

// hurry returns the delay, since the previous poll, when a follower joins.
func (p *pace) hurry() time.Duration {
	p.pause = minPoll
	return p.wait()
}

func (p *pace) wait() time.Duration { return max(p.pause, pollShare*p.took) }

// hub wakes followers when their runs have new events.
type hub struct {
	mu        sync.Mutex
	followers map[*follower]struct{}
	polling   bool
	joined    chan struct{} // buffered signal
}

type follower struct {
	run   string
	seen  int64
	woken int64         // the newest event that it was woken for: an event that a slow follower has not read yet is not new
	wake  chan struct{} // buffered signal
}

// Follow calls each with the events of a run after the given one, in order and as they are recorded. It returns nil after the last
// event of a run that has ended, or the error of each, of ctx or of the database. It holds one page of events at a time, however
// slow each is.
func (s *Store) Follow(ctx context.Context, run string, after int64, each func(Event) error) error {
	f := &follower{run: run, seen: after, wake: make(chan struct{}, 1)}
	s.hub.add(s, f)
	defer s.hub.remove(f)
	for {
		r, err := s.Get(ctx, run) // read before its events: if the run ends in between, the next round reads the rest
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
		if f.at() > r.Seq { // the run has continued, and the hub does not wake a follower that has read all events
			continue
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// at needs no lock: only the follower's own goroutine writes seen.
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
		h.followers, h.joined = map[*follower]struct{}{}, make(chan struct{}, 1)
	}
	h.followers[f] = struct{}{}
	if !h.polling {
		h.polling = true
		go h.poll(s)
	}
	select {
	case h.joined <- struct{}{}:
	default:
	}
}

func (h *hub) remove(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

// poll polls while there are followers.
func (h *hub) poll(s *Store) {
	var p pace
	polled := time.Now()
	timer := time.NewTimer(p.hurry())
	defer timer.Stop()
	for {
		select {
		case <-h.joined:
			timer.Reset(time.Until(polled.Add(p.hurry())))
			continue
		case <-timer.C:
		}
		runs := h.runs()
		if runs == nil {
			return
		}
		polled = time.Now()
		newest, err := s.newest(runs)
		news := h.notify(newest, err != nil)
		timer.Reset(p.after(news, time.Since(polled)))
	}
}

// runs returns the followed runs. It returns nil, and ends polling, if there are none.
func (h *hub) runs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.followers) == 0 {
		h.polling = false
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

// notify wakes the followers of runs with new events, and reports whether there are any. If all is true, the query failed: each
// follower will find the error itself.
func (h *hub) notify(newest map[string]int64, all bool) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		seq, known := newest[f.run]
		if all || !known || seq > f.seen {
			news = news || seq > f.woken
			f.woken = max(f.woken, seq)
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
