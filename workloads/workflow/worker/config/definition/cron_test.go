// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func scheduled(line, zone string) (*definition.Program, error) {
	return definition.Compile(&definition.Workflow{
		Steps:    []definition.StepSpec{{Name: "a", Type: "transform", With: []byte(`{"value": 1}`)}},
		Triggers: []definition.Trigger{{Name: "t", Type: definition.Scheduled, Scheduled: &definition.ScheduledSpec{Cron: line, TimeZone: zone}}},
	})
}

// TestNextAcrossClockChanges: in Berlin the clock changes from 02:00 (+01:00) to 03:00 (+02:00) on 2026-03-29, and back from 03:00
// (+02:00) to 02:00 (+01:00) on 2026-10-25.
func TestNextAcrossClockChanges(t *testing.T) {
	for _, c := range []struct{ name, line, zone, after, want string }{
		{"plain", "30 2 * * *", "UTC", "2026-03-01T02:30:00Z", "2026-03-02T02:30:00Z"},
		{"hourly", "@hourly", "", "2026-03-01T02:30:01Z", "2026-03-01T03:00:00Z"},
		{"in the gap: at its end", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"after the gap: the next day", "30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		{"repeated hour: the first time", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"not the second time", "30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"nor from within the second hour", "30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"},
		{"every hour: 02:30 twice", "30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		{"every hour over the gap", "30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		{"midnight that does not exist", "0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"},
		{"29 February", "0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := scheduled(c.line, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			after, err := time.Parse(time.RFC3339, c.after)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.Next("t", after)
			if !ok || got.Format(time.RFC3339) != c.want {
				t.Errorf("got %s, want %s", got.Format(time.RFC3339), c.want)
			}
		})
	}
	p, err := scheduled("@daily", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Next("other", time.Unix(0, 0)); ok {
		t.Error("a trigger that does not exist has no tick")
	}
}

// FuzzNext: the next tick is after the time, and not earlier for a later time.
func FuzzNext(f *testing.F) {
	for _, line := range []string{"30 2 * * *", "*/7 * * * *", "0 */3 * * *", "@weekly", "0 0 29 2 *", "59 1-3 25-31 3,10 *", "TZ=UTC 0 0 * * *"} {
		for _, zone := range []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"} {
			for _, at := range []int64{1774742400, 1792886400, 1775314800, 0} {
				f.Add(line, zone, at, int64(1800))
			}
		}
	}
	f.Fuzz(func(t *testing.T, line, zone string, at, more int64) {
		p, err := scheduled(line, zone)
		if err != nil {
			if strings.Contains(err.Error(), "panic") {
				t.Error(err)
			}
			return
		}
		after := time.Unix(at&(1<<32-1), 0)
		first, ok := p.Next("t", after)
		if !ok {
			return
		}
		if !first.After(after) {
			t.Fatalf("%q in %s: %s is not after %s", line, zone, first, after)
		}
		later, ok := p.Next("t", after.Add(time.Duration(more&(1<<18-1))*time.Second))
		if ok && later.Before(first) {
			t.Fatalf("%q in %s after %s: %s, and %s for a later time", line, zone, after, first, later)
		}
	})
}
