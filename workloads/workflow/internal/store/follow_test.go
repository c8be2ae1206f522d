// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"
)

// TestFollowEndBetween: a run that ends after it was read, and before its events are, is followed to its end.
func TestFollowEndBetween(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	b.hub.looking = true // as it seems, so that nobody looks: who has seen all is not woken
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
		t.Errorf("run %s has ended, and is followed still", run)
	}
}

// TestPace: looks come soon after news and newcomers, ever more seldom without, and take a bounded share of the time.
func TestPace(t *testing.T) {
	var p pace
	if got := p.hurry(); got != lookSoon {
		t.Errorf("the first look comes after %s, want %s", got, lookSoon)
	}
	for want := 2 * lookSoon; want <= lookSeldom; want *= 2 {
		if got := p.after(false, 0); got != want {
			t.Errorf("without news the next look comes after %s, want %s", got, want)
		}
	}
	if got := p.after(false, 0); got != lookSeldom {
		t.Errorf("then after %s, want %s", got, lookSeldom)
	}
	if got := p.after(true, 0); got != lookSoon {
		t.Errorf("after news the next look comes after %s, want %s", got, lookSoon)
	}
	if got := p.after(true, time.Second); got != lookShare*time.Second {
		t.Errorf("after a query of a second the next comes after %s, want %s", got, lookShare*time.Second)
	}
	if got := p.hurry(); got != lookShare*time.Second {
		t.Errorf("who comes meanwhile shortens it to %s, want %s", got, lookShare*time.Second)
	}
}

// TestTellOnce: news is what nobody was told of yet, so that a follower who is slow costs no looks.
func TestTellOnce(t *testing.T) {
	f := &follower{run: "a", wake: make(chan struct{}, 1)}
	h := hub{followers: map[*follower]struct{}{f: {}}}
	for _, step := range []struct {
		seq  int64
		news bool
	}{{3, true}, {3, false}, {4, true}, {4, false}} {
		if news := h.tell(map[string]int64{"a": step.seq}, false); news != step.news {
			t.Errorf("event %d: news %t, want %t", step.seq, news, step.news)
		}
		if len(f.wake) != 1 {
			t.Errorf("event %d: the follower has not seen it and is not woken", step.seq)
		}
	}
	h.advance(f, 4)
	<-f.wake
	if h.tell(map[string]int64{"a": 4}, false); len(f.wake) != 0 {
		t.Error("a follower that has seen all is woken")
	}
}
