// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// descriptors are the named lines.
var descriptors = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
	"@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// Zone returns an IANA time zone; the default is UTC.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" {
		return nil, errors.New("want an IANA time zone, such as Europe/Berlin: Local differs from machine to machine")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("there is no time zone %q; want an IANA name, such as Europe/Berlin", name)
	}
	return zone, nil
}

// schedule is a cron line in a time zone. A line whose hour starts with a star follows elapsed time across clock changes, so that
// every 5 minutes stay 5 minutes. Any other line follows the wall clock: a tick in a skipped hour fires at the end of the gap, and
// a tick in a repeated hour fires only the first time.
type schedule struct {
	line cron.Schedule
	zone *time.Location
	wall bool
}

func parseCron(line string, zone *time.Location) (*schedule, error) {
	fields := strings.Fields(line)
	if named, ok := descriptors[strings.Join(fields, " ")]; ok {
		fields = strings.Fields(named)
	}
	if slices.ContainsFunc(fields, func(f string) bool { return strings.Contains(f, "=") }) {
		return nil, errors.New("set the time zone in field timeZone")
	}
	if len(fields) != 5 {
		return nil, errors.New("want five fields: minute, hour, day of the month, month, day of the week; or one of @hourly, @daily, @weekly, @monthly, @yearly")
	}
	parsed, err := cron.ParseStandard(strings.Join(fields, " "))
	if err != nil {
		return nil, fmt.Errorf("%s", strings.Join(strings.Fields(err.Error()), " "))
	}
	s := &schedule{line: parsed, zone: zone, wall: !strings.HasPrefix(fields[1], "*")}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		spec.Location = time.UTC // wall-clock times are represented as UTC
	}
	if _, ever := s.next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)); !ever {
		return nil, errors.New("there is no such date; the trigger would never fire")
	}
	return s, nil
}

// next returns the first tick after a time.
func (s *schedule) next(after time.Time) (time.Time, bool) {
	after = after.In(s.zone)
	if !s.wall {
		return s.elapsed(after)
	}
	y, mo, d := after.Date()
	h, mi, sec := after.Clock()
	wall := time.Date(y, mo, d, h, mi, sec, 0, time.UTC)
	for {
		if wall = s.line.Next(wall); wall.IsZero() {
			return time.Time{}, false
		}
		if tick := onWall(wall, s.zone); tick.After(after) {
			return tick.UTC(), true
		}
	}
}

// elapsed returns the next time at which the clock shows a time of the line, also in a repeated hour. It searches one period
// between clock changes after another.
func (s *schedule) elapsed(after time.Time) (time.Time, bool) {
	from := after
	for {
		_, seconds := after.Zone()
		shift := time.Duration(seconds) * time.Second
		wall := s.line.Next(from.UTC().Add(shift))
		if wall.IsZero() {
			return time.Time{}, false
		}
		tick := wall.Add(-shift)
		_, end := after.ZoneBounds()
		if end.IsZero() || tick.Before(end) {
			return tick, true
		}
		after, from = end, end.Add(-time.Second) // so that a tick at the change itself counts
	}
}

// onWall returns when the clock of a zone shows a time: the first time if it is repeated, or the end of the gap if it is skipped.
func onWall(wall time.Time, zone *time.Location) time.Time {
	const day = 24 * time.Hour
	offset := func(at time.Time) time.Duration {
		_, seconds := at.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	before, after := wall.Add(-day), wall.Add(day)
	var found time.Time
	for _, shift := range []time.Duration{offset(before), offset(after)} {
		at := wall.Add(-shift)
		if offset(at) == shift && (found.IsZero() || at.Before(found)) {
			found = at
		}
	}
	if !found.IsZero() {
		return found
	}
	// The clock skips it: search for the clock change.
	first := offset(before)
	for after.Sub(before) > time.Second {
		middle := before.Add(after.Sub(before) / 2).Truncate(time.Second)
		if offset(middle) == first {
			before = middle
		} else {
			after = middle
		}
	}
	return after
}
