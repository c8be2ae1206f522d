// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// due returns the ticks to start now, oldest first. Last is the newest claimed tick.
func (e *entry) due(now, last time.Time) []time.Time {
	since := e.Since
	if since.IsZero() && last.IsZero() {
		since = e.added
	}
	from := last
	if !since.IsZero() {
		from = later(last, since.Add(-time.Nanosecond)) // a tick at exactly Since counts
	}
	if e.StartingDeadline > 0 {
		from = later(from, now.Add(-e.StartingDeadline-time.Nanosecond))
	}
	seen := !e.checked.IsZero()
	if e.Missed == definition.Skip {
		// A tick between two checks of this process is on time, however far the clock was set ahead.
		if seen {
			from = later(from, e.checked)
		} else if e.StartingDeadline == 0 {
			from = later(from, now.Add(-grace))
		}
	}
	most := 1
	if e.Missed == definition.RunAll {
		most = MaxMissed
	}
	return newest(e.Next, from, now, most)
}

// newest returns at most the given number of the last ticks in (from, now]. It searches spans before now of doubling length, so
// that a missed year costs little.
func newest(next func(time.Time) time.Time, from, now time.Time, most int) []time.Time {
	for span := time.Minute; ; span *= 2 {
		start := now.Add(-span)
		whole := !start.After(from)
		if whole {
			start = from
		}
		var ticks []time.Time
		for at := next(start); !at.IsZero() && !at.After(now); at = next(at) {
			ticks = append(ticks, at)
		}
		if len(ticks) >= most {
			return ticks[len(ticks)-most:]
		}
		if whole {
			return ticks
		}
	}
}

// queue is a heap of entries by next.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1], e.place = nil, -1
	*q = old[:len(old)-1]
	return e
}
