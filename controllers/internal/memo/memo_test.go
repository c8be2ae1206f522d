// SPDX-License-Identifier: Apache-2.0

package memo

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// clock is a time that stands until it is moved.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newAt[K comparable](interval time.Duration) (*Lately[K], *clock) {
	c := &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	l := New[K](interval)
	l.Now = c.now
	return l, c
}

func wantDue[K comparable](t *testing.T, l *Lately[K], key K, sum string, want bool, wantLeft time.Duration) {
	t.Helper()
	due, left := l.Due(key, sum)
	if due != want || left != wantLeft {
		t.Errorf("Due(%v, %q) = %t, %s; want %t, %s", key, sum, due, left, want, wantLeft)
	}
}

func TestDueUntilDoneAndAfterTheInterval(t *testing.T) {
	l, clock := newAt[string](time.Minute)
	wantDue(t, l, "a", "1", true, 0)
	l.Done("a", "1")
	wantDue(t, l, "a", "1", false, time.Minute)
	wantDue(t, l, "b", "1", true, 0)
	clock.at = clock.at.Add(59 * time.Second)
	wantDue(t, l, "a", "1", false, time.Second)
	clock.at = clock.at.Add(time.Second)
	wantDue(t, l, "a", "1", true, 0)
	l.Done("a", "1")
	wantDue(t, l, "a", "1", false, time.Minute)
}

func TestDueWhenTheSumDiffers(t *testing.T) {
	l, _ := newAt[string](time.Minute)
	l.Done("a", "1")
	wantDue(t, l, "a", "2", true, 0)
	wantDue(t, l, "a", "1", false, time.Minute) // asking about another sum forgets nothing
	l.Done("a", "2")
	wantDue(t, l, "a", "1", true, 0)
	wantDue(t, l, "a", "2", false, time.Minute)
}

func TestNoIntervalHoldsUntilTheSumDiffers(t *testing.T) {
	l, clock := newAt[string](0)
	l.Done("a", "1")
	clock.at = clock.at.AddDate(10, 0, 0)
	wantDue(t, l, "a", "1", false, 0)
	wantDue(t, l, "a", "2", true, 0)
}

func TestDoneForHoldsAsLongAsItSays(t *testing.T) {
	l, clock := newAt[string](time.Minute)
	l.DoneFor("a", "1", time.Second)
	wantDue(t, l, "a", "1", false, time.Second)
	clock.at = clock.at.Add(time.Second)
	wantDue(t, l, "a", "1", true, 0)
	l.DoneFor("a", "1", 0)
	wantDue(t, l, "a", "1", true, 0)
}

func TestAssumeSpreadsAndYieldsToWhatIsKnown(t *testing.T) {
	const interval, keys = time.Hour, 100
	l, clock := newAt[int](time.Minute)
	soon := 0
	for key := range keys {
		l.Assume(key, "1", interval)
		due, left := l.Due(key, "1")
		if due || left <= 0 || left > interval {
			t.Fatalf("assumed key %d: due %t in %s, want within %s", key, due, left, interval)
		}
		if left <= interval/2 {
			soon++
		}
	}
	if soon == 0 || soon == keys {
		t.Errorf("%d of %d first comparisons are in the first half of the interval, want some in either", soon, keys)
	}
	wantDue(t, l, 0, "2", true, 0)
	l.DoneFor(1, "1", 0)
	l.Assume(1, "1", interval)
	wantDue(t, l, 1, "1", true, 0)
	l.Assume(-1, "1", 0)
	clock.at = clock.at.AddDate(10, 0, 0)
	wantDue(t, l, -1, "1", false, 0)
}

func TestDiffersOnlyFromWhatIsKnown(t *testing.T) {
	l, clock := newAt[string](time.Minute)
	if l.Differs("a", "1") {
		t.Error("it differs from nothing")
	}
	l.Done("a", "1")
	clock.at = clock.at.Add(time.Hour)
	if l.Differs("a", "1") || !l.Differs("a", "2") {
		t.Error("age decides, and not the sum")
	}
}

func TestDeleteForgetsOneKey(t *testing.T) {
	l, _ := newAt[string](time.Minute)
	l.Done("a", "1")
	l.Done("b", "1")
	l.Delete("a")
	wantDue(t, l, "a", "1", true, 0)
	wantDue(t, l, "b", "1", false, time.Minute)
}

func TestForgetDropsWhatMatches(t *testing.T) {
	type key struct{ resource, part string }
	l, _ := newAt[key](time.Minute)
	for _, k := range []key{{"a", "x"}, {"a", "y"}, {"b", "x"}} {
		l.Done(k, "1")
	}
	l.Forget(func(k key) bool { return k.resource == "a" })
	wantDue(t, l, key{"a", "x"}, "1", true, 0)
	wantDue(t, l, key{"a", "y"}, "1", true, 0)
	wantDue(t, l, key{"b", "x"}, "1", false, time.Minute)
}

func TestMemoryIsBounded(t *testing.T) {
	l, _ := newAt[int](time.Minute)
	l.capacity = 3
	for i := range 3 {
		l.Done(i, "1")
	}
	l.Done(2, "2") // a known key needs no room
	wantDue(t, l, 0, "1", false, time.Minute)
	l.Done(3, "1")
	if len(l.found) != 1 {
		t.Errorf("%d keys are held after one too many, want the last one alone", len(l.found))
	}
	wantDue(t, l, 3, "1", false, time.Minute)
}

func TestConcurrentUse(t *testing.T) {
	l := New[string](time.Hour)
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			for i := range 200 {
				key := fmt.Sprintf("%d/%d", worker, i%10)
				l.Done(key, strconv.Itoa(i))
				if due, _ := l.Due(key, strconv.Itoa(i)); due {
					t.Errorf("%s is due right after it was done", key)
				}
				l.Forget(func(k string) bool { return k == "nobody's" })
			}
		})
	}
	workers.Wait()
	if len(l.found) != 80 {
		t.Errorf("%d keys are held, want 80", len(l.found))
	}
}
