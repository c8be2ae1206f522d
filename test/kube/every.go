// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Play runs a scenario with a manager that crashes at a write (at "": never), and then a fresh one. It returns the end
// state, the writes of the first manager, and whether it crashed.
type Play func(t *testing.T, at string, when When) (state map[string]string, writes []string, died bool)

// EveryWrite plays once without faults, and then with a crash on either side of every write, atOnce at a time. Each end
// state must equal that of the run without faults.
func EveryWrite(t *testing.T, atOnce int, play Play) {
	t.Helper()
	want, writes, _ := play(t, "", After)
	t.Logf("%d writes without faults: %v", len(writes), writes)
	if len(writes) == 0 {
		t.Fatal("the scenario makes no write")
	}
	e := &enumeration{play: play, t: t, want: want, slots: make(chan struct{}, atOnce), tried: map[string]bool{}}
	e.try(writes)
	e.cells.Wait()
	t.Logf("%d crashes", e.crashes)
}

// Await waits until check returns nil, or the manager has crashed.
func (c *Crash) Await(t testing.TB, check func() error) {
	t.Helper()
	const longest, interval = 30 * time.Second, 20 * time.Millisecond
	var err error
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); {
		if err = check(); err == nil {
			return
		}
		select {
		case <-c.Dead():
			return
		case <-time.After(interval):
		}
	}
	t.Fatal(err)
}

// enumeration records the writes at which managers have crashed.
type enumeration struct {
	play  Play
	t     *testing.T
	want  map[string]string
	slots chan struct{}
	cells sync.WaitGroup

	mu      sync.Mutex
	tried   map[string]bool
	crashes int
}

// try starts a cell for either side of each new write: a run with another timing may add some.
func (e *enumeration) try(writes []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range writes {
		if e.tried[at] {
			continue
		}
		e.tried[at] = true
		for _, when := range []When{After, Before} {
			e.cells.Go(func() {
				e.slots <- struct{}{}
				defer func() { <-e.slots }()
				e.t.Run(string(when)+" "+at, func(t *testing.T) { e.cell(t, at, when) })
			})
		}
	}
}

// cell repeats until a manager has crashed at the write. Only the number of status writes varies, with the speed of
// watches.
func (e *enumeration) cell(t *testing.T, at string, when When) {
	const attempts = 3
	for range attempts {
		got, writes, died := e.play(t, at, when)
		e.try(writes)
		for _, line := range Differences(e.want, got) {
			t.Errorf("after the writes %v: %s", writes, line)
		}
		if died {
			e.mu.Lock()
			e.crashes++
			e.mu.Unlock()
			return
		}
	}
	if !strings.Contains(at, "/status") {
		t.Errorf("%d runs did not make this write", attempts)
	}
}

// Differences lists how an end state differs from the expected one.
func Differences(want, got map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch text, ok := got[name]; {
		case !ok:
			out = append(out, name+" is missing")
		case text != want[name]:
			out = append(out, fmt.Sprintf("%s differs:\n- %s\n+ %s", name, want[name], text))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			out = append(out, name+" should not be there: "+got[name])
		}
	}
	return out
}
