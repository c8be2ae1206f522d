// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/schedule"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

var noon = time.Date(2026, 3, 4, 12, 0, 30, 0, time.UTC)

// begin runs a scheduler; stop ends it and waits.
func begin(t testing.TB, store schedule.Store, start schedule.Start, c *clock, triggers ...schedule.Trigger) (s *schedule.Scheduler, stop func()) {
	t.Helper()
	s = schedule.New(schedule.Options{Store: store, Start: start, Clock: c})
	for _, trigger := range triggers {
		s.Set(trigger.Workflow, trigger)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return s, stop
}

func line(missed definition.Missed, d time.Duration) schedule.Trigger {
	return schedule.Trigger{Workflow: "flow", Name: "cron", Line: d.String(), Next: every(d), Missed: missed}
}

// settled waits until the scheduler has handled everything up to now.
func settled(t testing.TB, s *schedule.Scheduler, c *clock, trigger schedule.Trigger) {
	t.Helper()
	NewWithT(t).Eventually(func() bool {
		next, _ := s.Status(trigger.Workflow, trigger.Name)
		return next.After(c.Now())
	}, time.Minute, time.Millisecond).Should(BeTrue())
}

func only(m *memory) func() []string {
	return func() []string {
		out := []string{}
		for at := range m.ticks() {
			out = append(out, at)
		}
		return out
	}
}

func TestOnTime(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	trigger := line(definition.Skip, time.Minute)
	s, _ := begin(t, m, m.start, c, trigger)
	settled(t, s, c, trigger)
	g.Expect(m.ticks()).To(BeEmpty(), "no tick before the trigger was set")
	for i := range 5 {
		c.pass(time.Minute)
		g.Eventually(only(m), time.Minute, time.Millisecond).Should(HaveLen(i + 1))
	}
	g.Expect(only(m)()).To(ConsistOf("12:01", "12:02", "12:03", "12:04", "12:05"))
	settled(t, s, c, trigger)
	next, last := s.Status("flow", "cron")
	g.Expect(next).To(Equal(time.Date(2026, 3, 4, 12, 6, 0, 0, time.UTC)))
	g.Expect(last).To(Equal(time.Date(2026, 3, 4, 12, 5, 0, 0, time.UTC)))
	g.Expect(m.starts).To(HaveLen(5))
	g.Expect(m.starts[0]).To(Equal("flow/cron/2026-03-04T12:01:00Z"))
}

// TestMissed: which ticks start after three hours without a scheduler.
func TestMissed(t *testing.T) {
	for _, test := range []struct {
		name     string
		missed   definition.Missed
		every    time.Duration
		deadline time.Duration
		since    time.Time
		want     []string
		count    int
	}{
		{"skip", definition.Skip, time.Hour, 0, time.Time{}, nil, 0},
		{"skip, but for the last minute", definition.Skip, time.Minute, 0, time.Time{}, []string{"15:10"}, 1},
		{"once by default", "", time.Hour, 0, time.Time{}, []string{"15:00"}, 1},
		{"skip with a deadline", definition.Skip, time.Hour, time.Hour, time.Time{}, []string{"15:00"}, 1},
		{"once", definition.RunOnce, time.Hour, 0, time.Time{}, []string{"15:00"}, 1},
		{"once within a deadline", definition.RunOnce, time.Hour, 10 * time.Second, time.Time{}, nil, 0},
		{"all", definition.RunAll, time.Hour, 0, time.Time{}, []string{"13:00", "14:00", "15:00"}, 3},
		{"all within a deadline", definition.RunAll, time.Hour, 90 * time.Minute, time.Time{}, []string{"14:00", "15:00"}, 2},
		{"all since a change", definition.RunAll, time.Hour, 0, noon.Add(90 * time.Minute), []string{"14:00", "15:00"}, 2},
		{"all, but no more than a hundred", definition.RunAll, time.Minute, 0, time.Time{}, nil, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, m, c := NewWithT(t), newMemory(), newClock(noon.Add(3*time.Hour+9*time.Minute+30*time.Second)) // 15:10
			m.claims[[2]string{"flow", "cron"}] = noon.Truncate(time.Hour)
			trigger := line(test.missed, test.every)
			trigger.StartingDeadline, trigger.Since = test.deadline, test.since
			s, _ := begin(t, m, m.start, c, trigger)
			settled(t, s, c, trigger)
			g.Expect(m.ticks()).To(HaveLen(test.count))
			for _, at := range test.want {
				g.Expect(m.ticks()).To(HaveKey(at))
			}
			before, _ := m.counts()
			c.pass(50 * time.Minute) // from here on ticks are on time
			settled(t, s, c, trigger)
			after, _ := m.counts()
			g.Expect(after).To(BeNumerically(">", before))
		})
	}
}

// TestLongMissed: years of missed minutes cost only a few calls of Next.
func TestLongMissed(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	m.claims[[2]string{"flow", "cron"}] = noon.AddDate(-20, 0, 0)
	calls := 0
	trigger := line(definition.RunOnce, time.Minute)
	next := trigger.Next
	trigger.Next = func(after time.Time) time.Time { calls++; return next(after) }
	s, stop := begin(t, m, m.start, c, trigger)
	settled(t, s, c, trigger)
	stop()
	g.Expect(m.ticks()).To(HaveLen(1))
	g.Expect(calls).To(BeNumerically("<", 10_000)) // including those of settled
}

// TestClockSteps: setting the clock by an hour neither repeats nor loses a tick.
func TestClockSteps(t *testing.T) {
	for _, missed := range []definition.Missed{definition.Skip, definition.RunOnce, definition.RunAll} {
		t.Run(string(missed), func(t *testing.T) {
			g, m, c := NewWithT(t), newMemory(), newClock(noon)
			trigger := line(missed, time.Hour)
			s, stop := begin(t, m, m.start, c, trigger)
			settled(t, s, c, trigger)
			c.pass(30 * time.Minute)
			c.jump(time.Hour) // 13:30: no scheduler saw 13:00
			g.Eventually(only(m), time.Minute, time.Millisecond).Should(ConsistOf("13:00"))
			settled(t, s, c, trigger)
			c.jump(-time.Hour) // 12:30
			for range 3 {
				c.pass(10 * time.Minute)
			}
			c.pass(25 * time.Minute) // 13:25, for the second time
			// Another scheduler starts in the repeated hour.
			second, _ := begin(t, m, m.start, c, trigger)
			settled(t, second, c, trigger)
			stop()
			g.Expect(m.starts).To(HaveLen(1))
			c.pass(time.Hour) // 14:25
			g.Eventually(only(m), time.Minute, time.Millisecond).Should(ConsistOf("13:00", "14:00"))
			settled(t, second, c, trigger)
			c.jump(-10 * time.Minute)
			c.pass(10 * time.Minute)
			c.pass(time.Hour)
			g.Eventually(only(m), time.Minute, time.Millisecond).Should(ConsistOf("13:00", "14:00", "15:00"))
			g.Expect(m.starts).To(HaveLen(3))
		})
	}
}

// TestWrongYear: a clock that was far ahead once does not block ticks until then.
func TestWrongYear(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	m.claims[[2]string{"flow", "cron"}] = noon.AddDate(1, 0, 0)
	begin(t, m, m.start, c, line(definition.RunAll, time.Minute))
	c.pass(time.Minute)
	g.Eventually(only(m), time.Minute, time.Millisecond).Should(ContainElement("12:01"))
	g.Expect(len(m.ticks())).To(BeNumerically("<=", 2))
}

// TestRetry: a tick that cannot be started is retried under the same key; a refused one is not.
func TestRetry(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	trigger := line(definition.Skip, time.Hour)
	s, _ := begin(t, m, m.start, c, trigger)
	settled(t, s, c, trigger)
	m.fail(backend.ErrUnavailable)
	c.pass(time.Hour)
	for i := range 5 {
		g.Eventually(func() int { n, _ := m.counts(); return n }, time.Minute, time.Millisecond).Should(BeNumerically(">", i))
		c.pass(time.Minute)
	}
	m.fail(nil)
	g.Eventually(func() []string { c.pass(time.Second); return only(m)() }, time.Minute, time.Millisecond).Should(ConsistOf("13:00"))
	m.fail(fmt.Errorf("inputs.x: is missing: %w", backend.ErrInvalid))
	before, _ := m.counts()
	c.pass(time.Hour)
	settled(t, s, c, trigger)
	for range 5 {
		c.pass(time.Minute)
		settled(t, s, c, trigger)
	}
	after, _ := m.counts()
	g.Expect(after-before).To(Equal(1), "a refused tick should not be retried")
	_, last := s.Status("flow", "cron")
	g.Expect(last.Format("15:04")).To(Equal("14:00"))
}

// TestSet: triggers are suspended, changed and removed.
func TestSet(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	trigger := line(definition.RunAll, time.Hour)
	s, _ := begin(t, m, m.start, c, trigger)
	settled(t, s, c, trigger)
	_, lookups := m.counts()
	for range 100 {
		s.Set("flow", trigger) // as a resync does
	}
	c.pass(time.Minute)
	settled(t, s, c, trigger)
	if _, again := m.counts(); again != lookups {
		t.Errorf("%d checks of an unchanged trigger", again-lookups)
	}
	suspended := trigger
	suspended.Suspend = true
	s.Set("flow", suspended)
	c.pass(5 * time.Hour)
	next, last := s.Status("flow", "cron")
	g.Expect(next.IsZero() && last.IsZero()).To(BeTrue())
	g.Expect(m.ticks()).To(BeEmpty())
	resumed := trigger
	resumed.Since = c.Now() // 17:01:30
	s.Set("flow", resumed)
	settled(t, s, c, trigger)
	g.Expect(m.ticks()).To(BeEmpty(), "no tick from while it was suspended")
	changed := resumed
	changed.Line, changed.Next = "30m", every(30*time.Minute)
	s.Set("flow", changed)
	c.pass(30 * time.Minute)
	g.Eventually(only(m), time.Minute, time.Millisecond).Should(ConsistOf("17:30"))
	s.Set("flow")
	c.pass(5 * time.Hour)
	_, _ = begin(t, newMemory(), m.start, c) // one without triggers checks nothing
	g.Consistently(only(m), 50*time.Millisecond, time.Millisecond).Should(HaveLen(1))
	never := schedule.Trigger{Workflow: "flow", Name: "never", Next: func(time.Time) time.Time { return time.Time{} }}
	s.Set("flow", never)
	g.Consistently(func() error {
		if next, _ := s.Status("flow", "never"); !next.IsZero() {
			return errors.New("a line without ticks has a next tick")
		}
		return nil
	}, 50*time.Millisecond).Should(Succeed())
}

// TestMany: ten thousand triggers need no goroutine each, and no checks while none is due.
func TestMany(t *testing.T) {
	g, m, c := NewWithT(t), newMemory(), newClock(noon)
	const many = 10_000
	var triggers []schedule.Trigger
	for i := range many {
		triggers = append(triggers, schedule.Trigger{Workflow: fmt.Sprintf("flow-%d", i), Name: "cron", Line: "1h", Next: every(time.Hour), Missed: definition.Skip})
	}
	before := runtime.NumGoroutine()
	begin(t, m, m.start, c, triggers...)
	looked := func() int { _, n := m.counts(); return n }
	started := func() int { n, _ := m.counts(); return n }
	g.Eventually(looked, time.Minute, time.Millisecond).Should(Equal(many))
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("%d goroutines", n)
	}
	for range 50 {
		c.pass(time.Minute) // 12:50:30
	}
	g.Expect(looked()).To(Equal(many), "no checks while none is due")
	c.pass(10 * time.Minute)
	g.Eventually(started, time.Minute, time.Millisecond).Should(Equal(many))
	g.Eventually(looked, time.Minute, time.Millisecond).Should(Equal(2 * many))
}

// BenchmarkDue measures a tick of one of 10,000 triggers, without a database.
func BenchmarkDue(b *testing.B) {
	m, c := newMemory(), newClock(noon)
	var triggers []schedule.Trigger
	for i := range 10_000 {
		triggers = append(triggers, schedule.Trigger{Workflow: fmt.Sprintf("flow-%d", i), Name: "cron", Line: "1m", Next: every(time.Minute)})
	}
	begin(b, m, m.start, c, triggers...)
	for n := 0; b.Loop(); n++ {
		want := (n/10_000 + 1) * 10_000
		if n%10_000 == 0 {
			c.pass(time.Minute)
			for got := 0; got < want; got, _ = m.counts() {
				runtime.Gosched()
			}
		}
	}
}

// TestZones: a line with a time zone fires once on the day that skips its time, and once on the day that repeats it, while the
// scheduler checks every quarter of an hour and is restarted within these hours.
func TestZones(t *testing.T) {
	program, err := definition.Compile(&definition.Workflow{
		Steps:    []definition.StepSpec{{Name: "a", Type: "transform", With: []byte(`{"value": 1}`)}},
		Triggers: []definition.Trigger{{Name: "cron", Type: definition.Scheduled, Scheduled: &definition.ScheduledSpec{Cron: "30 2 * * *", TimeZone: "Europe/Berlin"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	trigger := schedule.Trigger{Workflow: "flow", Name: "cron", Line: "30 2 * * * Europe/Berlin", Next: func(after time.Time) time.Time {
		at, _ := program.Next("cron", after)
		return at
	}}
	for _, days := range []struct {
		from time.Time
		want []string
	}{
		{time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC), []string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
	} {
		g, m, c := NewWithT(t), newMemory(), newClock(days.from)
		s, stop := begin(t, m, m.start, c, trigger)
		for quarter := range 3 * 24 * 4 {
			settled(t, s, c, trigger)
			c.pass(15 * time.Minute)
			if quarter%4 == 3 {
				stop()
				s, stop = begin(t, m, m.start, c, trigger)
			}
		}
		settled(t, s, c, trigger)
		stop()
		var want []string
		for _, at := range days.want {
			want = append(want, "flow/cron/"+at)
		}
		g.Expect(m.starts).To(Equal(want))
	}
}
