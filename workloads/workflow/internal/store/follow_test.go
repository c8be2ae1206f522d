// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"
)

// TestFollowEndBetween: Follow reports all events of a run that ends after it was read and before its events were read.
func TestFollowEndBetween(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	b.hub.polling = true // prevents polling, so that nothing wakes a follower that has read all events
	run := b.start(g)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it was committed
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`LOCK TABLE events IN ACCESS EXCLUSIVE MODE`)
	followed := make(chan error, 1)
	go func() { followed <- b.Follow(t.Context(), run, 0, func(Event) error { return nil }) }()
	for waits := false; !waits; {
		if err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass)`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE runs SET phase = $2, finished = now(), deadline = NULL, seq = seq + 1 WHERE id = $1`, run, Succeeded)
	exec(`INSERT INTO events (run, seq, at, kind, step, item, attempt, detail) SELECT id, seq, now(), 'RunSucceeded', '', -1, 0, '' FROM runs WHERE id = $1`, run)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-followed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Errorf("run %s has ended, but Follow has not returned", run)
	}
}

// TestPace: polls are frequent after new events and followers, slow down otherwise, and take a bounded share of the time.
func TestPace(t *testing.T) {
	var p pace
	if got := p.hurry(); got != minPoll {
		t.Errorf("first poll after %s, want %s", got, minPoll)
	}
	for want := 2 * minPoll; want <= maxPoll; want *= 2 {
		if got := p.after(false, 0); got != want {
			t.Errorf("next poll without news after %s, want %s", got, want)
		}
	}
	if got := p.after(false, 0); got != maxPoll {
		t.Errorf("last poll without news after %s, want %s", got, maxPoll)
	}
	if got := p.after(true, 0); got != minPoll {
		t.Errorf("next poll after news after %s, want %s", got, minPoll)
	}
	if got := p.after(true, time.Second); got != pollShare*time.Second {
		t.Errorf("next poll after a query of a second after %s, want %s", got, pollShare*time.Second)
	}
	if got := p.hurry(); got != pollShare*time.Second {
		t.Errorf("with a new follower after %s, want %s", got, pollShare*time.Second)
	}
}

// TestNewsOnce: an event counts as news once, so that a slow follower does not cause more polls.
func TestNewsOnce(t *testing.T) {
	f := &follower{run: "a", wake: make(chan struct{}, 1)}
	h := hub{followers: map[*follower]struct{}{f: {}}}
	for _, step := range []struct {
		seq  int64
		news bool
	}{{3, true}, {3, false}, {4, true}, {4, false}} {
		if news := h.notify(map[string]int64{"a": step.seq}, false); news != step.news {
			t.Errorf("event %d: news %t, want %t", step.seq, news, step.news)
		}
		if len(f.wake) != 1 {
			t.Errorf("event %d: a follower that has not read it was not woken", step.seq)
		}
	}
	h.advance(f, 4)
	<-f.wake
	if h.notify(map[string]int64{"a": 4}, false); len(f.wake) != 0 {
		t.Error("a follower that has read all events was woken")
	}
}
