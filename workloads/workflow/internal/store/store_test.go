// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

func wantPhases(t testing.TB, got, want map[string]Phase) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("steps = %v, want %v", got, want)
	}
}

func TestChainTakesTheFastPath(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"}, []string{"b", "a"}, []string{"c", "b"})
	run := b.start(g)
	tasks := b.take()
	if len(tasks) != 1 || tasks[0] != (Task{Run: run, Step: 0, Item: -1, Workflow: "w", Hash: "h"}) {
		t.Fatalf("dispatched %+v, want the first step", tasks)
	}
	c := b.claim(g, tasks[0], "o1")
	for i, next := range []string{"o2", "o3", ""} {
		r := b.finish(g, run, c, Succeeded, next)
		if (r.Claimed == nil) != (i == 2) || r.Dispatched {
			t.Fatalf("after step %d: %+v", i, r)
		}
		c = r.Claimed
	}
	if tasks := b.take(); len(tasks) != 0 {
		t.Errorf("dispatched %+v, want nothing", tasks)
	}
	r := b.wantPhase(run, Succeeded)
	events, err := b.Events(t.Context(), run, 0, 0)
	if err != nil || int64(len(events)) != r.Seq || events[len(events)-1].Kind != "RunSucceeded" {
		t.Errorf("events %+v, %v; want %d that end with RunSucceeded", events, err, r.Seq)
	}
	steps, more, err := b.Steps(t.Context(), run, Cursor{-1, -1}, 2)
	if err != nil || !more || len(steps) != 2 || string(steps[1].Output) != `"b -1"` {
		t.Errorf("steps %+v, more %t, %v", steps, more, err)
	}
}

func TestFanOutFanIn(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"}, []string{"b", "a"}, []string{"c", "a"}, []string{"d", "a"}, []string{"e", "b", "c", "d"})
	run := b.start(g)
	b.take()
	first := b.finish(g, run, b.claim(g, Task{Run: run, Item: -1}, "o"), Succeeded, "x").Claimed
	tasks := b.take()
	if first == nil || first.Step != 1 || len(tasks) != 2 {
		t.Fatalf("claimed %+v, dispatched %+v; want b, and c and d", first, tasks)
	}
	c, d := b.claim(g, tasks[0], "y"), b.claim(g, tasks[1], "z")
	for _, x := range []*Claimed{first, d} {
		if r := b.finish(g, run, x, Succeeded, "n"); r.Claimed != nil {
			t.Fatalf("e was claimed before c ended: %+v", r)
		}
	}
	r := b.finish(g, run, c, Skipped, "n")
	if r.Claimed == nil || r.Claimed.Step != 4 {
		t.Fatalf("the last one claimed %+v, want e", r)
	}
	b.finish(g, run, r.Claimed, Succeeded, "")
	b.wantPhase(run, Succeeded)
}

func TestFailureStartsNoOtherSteps(t *testing.T) {
	b := open(t, Options{})
	g := graph([]string{"a"}, []string{"b"}, []string{"c"}, []string{"d", "a"}, []string{"+good"}, []string{"-bad"}, []string{"*end"})
	run := b.start(g)
	tasks := b.take()
	a, running := b.claim(g, tasks[0], "a"), b.claim(g, tasks[1], "b")
	if r := b.finish(g, run, a, Failed, "n"); r.Claimed != nil || r.Phase != Running {
		t.Fatalf("after the failure: %+v", r)
	}
	_, err := b.Apply(t.Context(), Claim{Target: Target{Run: run, Step: 2, Item: -1, Graph: g, Hash: "h"}, Owner: "c"})
	wantErr(t, "claim a step that was ready", err, ErrLost)
	r := b.finish(g, run, running, Succeeded, "n")
	if r.Claimed == nil || g.Nodes[r.Claimed.Step].Name != "bad" {
		t.Fatalf("after the last: %+v, want the handler", r)
	}
	b.finish(g, run, r.Claimed, Succeeded, "")
	b.finish(g, run, b.claim(g, b.take()[0], "e"), Succeeded, "")
	wantPhases(t, b.phases(run, g), map[string]Phase{"a": Failed, "b": Succeeded, "c": Cancelled, "d": Cancelled, "good": Skipped, "bad": Succeeded, "end": Succeeded})
	if got := b.wantPhase(run, Failed); got.Error != "step a: error of a" || got.Finished == nil || got.Deadline != nil {
		t.Errorf("run = %+v", got)
	}
}

func TestContinueStartsDependents(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a?"}, []string{"b", "a"}, []string{"+good"})
	run := b.start(g)
	r := b.finish(g, run, b.claim(g, b.take()[0], "a"), Failed, "b")
	r = b.finish(g, run, r.Claimed, Succeeded, "c")
	b.finish(g, run, r.Claimed, Failed, "")
	if got := b.wantPhase(run, Failed); got.Error != "step good: error of good" {
		t.Errorf("error %q, want that of the handler", got.Error)
	}
}

// TestItemWithNUL: PostgreSQL's operators reject a list that contains U+0000, whichever item is requested.
func TestItemWithNUL(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	run := b.start(g)
	parent := b.claim(g, b.take()[0], "p")
	items := []string{`"x"`, `{"text": "\u0000 y"}`}
	expand := Expand{Target: Target{Run: run, Item: -1, Graph: g, Hash: "h"}, By: *parent, Items: json.RawMessage("[" + items[0] + "," + items[1] + "]"), Count: 2}
	if _, err := b.Apply(t.Context(), expand); err != nil {
		t.Fatal(err)
	}
	for i, want := range items {
		if item, err := b.Item(t.Context(), run, 0, i); err != nil || string(item) != want {
			t.Errorf("item %d is %s, %v; want %s", i, item, err, want)
		}
	}
	if _, err := b.Item(t.Context(), run, 0, 2); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("item 2: %v, want none", err)
	}
}

func TestForEach(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"}, []string{"b", "a"})
	run := b.start(g)
	parent := b.claim(g, b.take()[0], "p")
	target := Target{Run: run, Item: -1, Graph: g, Hash: "h"}
	r, err := b.Apply(t.Context(), Expand{Target: target, By: *parent, Items: json.RawMessage(`["x","y","z"]`), Count: 3, Parallelism: 2, Next: "i0"})
	if err != nil || r.Claimed == nil || r.Claimed.Item != 0 {
		t.Fatalf("expand: %+v, %v", r, err)
	}
	tasks := b.take()
	if len(tasks) != 1 || tasks[0].Item != 1 {
		t.Fatalf("dispatched %+v, want only item 1", tasks)
	}
	item, err := b.Item(t.Context(), run, 0, 2)
	if err != nil || string(item) != `"z"` {
		t.Errorf("item 2 is %s, %v", item, err)
	}
	one := b.claim(g, tasks[0], "i1")
	r = b.finish(g, run, r.Claimed, Succeeded, "i2")
	if r.Claimed == nil || r.Claimed.Item != 2 {
		t.Fatalf("after item 0: %+v, want item 2", r)
	}
	if r = b.finish(g, run, r.Claimed, Succeeded, "n"); r.Claimed != nil {
		t.Fatalf("after item 2: %+v, want nothing", r)
	}
	r = b.finish(g, run, one, Succeeded, "b")
	if r.Claimed == nil || r.Claimed.Step != 1 {
		t.Fatalf("after all items: %+v, want b", r)
	}
	list, err := b.Results(t.Context(), run, []int{0})
	if err != nil || len(list) != 1 || string(list[0].Output) != `["a 0", "a 1", "a 2"]` || list[0].Phase != Succeeded {
		t.Errorf("output of the step = %s, %v", list[0].Output, err)
	}
}

func TestForEachFails(t *testing.T) {
	for name, test := range map[string]struct {
		graph *Graph
		run   Phase
		begun int
	}{
		"Fail":     {graph([]string{"a"}), Failed, 1},
		"Continue": {graph([]string{"a?"}), Succeeded, 3},
	} {
		t.Run(name, func(t *testing.T) {
			b, g := open(t, Options{}), test.graph
			run := b.start(g)
			parent := b.claim(g, b.take()[0], "p")
			r, err := b.Apply(t.Context(), Expand{Target: Target{Run: run, Item: -1, Graph: g, Hash: "h"}, By: *parent, Items: json.RawMessage(`[1,2,3]`), Count: 3, Next: "i0"})
			if err != nil {
				t.Fatal(err)
			}
			begun := 1
			b.finish(g, run, r.Claimed, Failed, "")
			for _, task := range b.take() {
				r, err := b.Apply(t.Context(), Claim{Target: Target{Run: run, Step: 0, Item: task.Item, Graph: g, Hash: "h"}, Owner: "i"})
				if err == nil {
					begun++
					b.finish(g, run, r.Claimed, Succeeded, "")
				}
			}
			if begun != test.begun {
				t.Errorf("%d items were started, want %d", begun, test.begun)
			}
			b.wantPhase(run, test.run)
			if got := b.phases(run, g)["a"]; got != Failed {
				t.Errorf("phase of the step = %s, want Failed", got)
			}
		})
	}
}

func TestOutcomeIsRecordedOnce(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"}, []string{"b", "a"})
	run := b.start(g)
	task := b.take()[0]
	target := Target{Run: run, Item: -1, Graph: g, Hash: "h"}
	first := b.claim(g, task, "first")
	_, err := b.Apply(t.Context(), Claim{Target: target, Owner: "second"})
	wantErr(t, "claim a claimed step", err, ErrLost)
	b.step(b.options.Lease)
	second := b.claim(g, task, "second") // the lease has expired
	if second.Attempt != first.Attempt || !second.Started.Equal(first.Started) {
		t.Errorf("restarted attempt = %+v, want that of %+v", second, first)
	}
	_, err = b.Apply(t.Context(), Finish{Target: target, By: *first, Phase: Succeeded})
	wantErr(t, "finish with a lost claim", err, ErrLost)
	b.finish(g, run, second, Succeeded, "")
	_, err = b.Apply(t.Context(), Finish{Target: target, By: *second, Phase: Succeeded})
	wantErr(t, "finish again", err, ErrLost)
}

func TestLeaseIsRenewedAndSwept(t *testing.T) {
	b, g := open(t, Options{MaxClaims: 2}), graph([]string{"a"})
	run := b.start(g)
	b.claim(g, b.take()[0], "one")
	b.step(b.options.Lease / 2)
	held := []Held{{Run: run, Item: -1, Owner: "one"}, {Run: run, Item: -1, Owner: "other"}}
	lost, err := b.Renew(t.Context(), held)
	if err != nil || len(lost) != 1 || lost[0] != "other" {
		t.Fatalf("lost %v, %v; want only the other one", lost, err)
	}
	b.step(b.options.Lease / 2)
	wake := Wake{Target{Run: run, Item: -1, Graph: g, Hash: "h"}}
	_, err = b.Apply(t.Context(), wake)
	wantErr(t, "wake within the lease", err, ErrLost)
	b.step(b.options.Lease / 2)
	due, err := b.DueSteps(t.Context(), 10)
	if err != nil || len(due) != 1 || due[0].ID != run {
		t.Fatalf("due %+v, %v", due, err)
	}
	if _, err := b.Apply(t.Context(), wake); err != nil {
		t.Fatal(err)
	}
	b.claim(g, b.take()[0], "two")
	b.step(b.options.Lease)
	_, err = b.Apply(t.Context(), Claim{Target: wake.Target, Owner: "three"})
	wantErr(t, "claim after too many crashes", err, ErrLost)
	b.wantPhase(run, Failed)
}

func TestRetryWaitResume(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	run := b.start(g)
	target := Target{Run: run, Item: -1, Graph: g, Hash: "h"}
	c := b.claim(g, b.take()[0], "1")
	if _, err := b.Apply(t.Context(), Retry{Target: target, By: *c, Error: "no\x00t yet", At: b.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	b.wantPhase(run, Waiting)
	_, err := b.Apply(t.Context(), Resume{Target: target})
	wantErr(t, "resume a step that waits for its next attempt", err, ErrConflict)
	b.step(time.Minute)
	if _, err := b.Apply(t.Context(), Wake{target}); err != nil {
		t.Fatal(err)
	}
	c = b.claim(g, b.take()[0], "2")
	if c.Attempt != 2 || c.Resume != nil {
		t.Fatalf("claimed %+v, want attempt 2", c)
	}
	if _, err := b.Apply(t.Context(), Suspend{Target: target, By: *c, Resumable: true, Detail: json.RawMessage(`{"who":"ada"}`)}); err != nil {
		t.Fatal(err)
	}
	b.step(time.Minute)
	if due, err := b.DueSteps(t.Context(), 10); err != nil || len(due) != 0 {
		t.Errorf("due %+v, %v; want nothing", due, err)
	}
	if _, err := b.Apply(t.Context(), Resume{Target: target, Data: json.RawMessage(`"\u0000 yes"`)}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Apply(t.Context(), Resume{Target: target})
	wantErr(t, "resume again", err, ErrConflict)
	c = b.claim(g, b.take()[0], "3")
	if c.Attempt != 2 || c.Resume == nil || !c.Resume.Event || string(c.Resume.Data) != `"\u0000 yes"` || string(c.Resume.Detail) != `{"who":"ada"}` {
		t.Fatalf("claimed %+v with %+v", c, c.Resume)
	}
	b.finish(g, run, c, Succeeded, "")
	b.wantPhase(run, Succeeded)
}

func TestStop(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"}, []string{"b"}, []string{"-bad"}, []string{"*end"})
	run := b.start(g)
	whole := Target{Run: run, Step: -1, Item: -1, Graph: g, Hash: "h"}
	c := b.claim(g, b.take()[0], "a")
	_, err := b.Apply(t.Context(), Stop{Target: whole, Phase: TimedOut, Due: true})
	wantErr(t, "stop before the deadline", err, ErrLost)
	b.step(time.Hour)
	if runs, err := b.DueRuns(t.Context(), 10); err != nil || len(runs) != 1 {
		t.Fatalf("due %+v, %v", runs, err)
	}
	if _, err := b.Apply(t.Context(), Stop{Target: whole, Phase: TimedOut, Due: true}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Apply(t.Context(), Finish{Target: Target{Run: run, Item: -1, Graph: g, Hash: "h"}, By: *c, Phase: Succeeded})
	wantErr(t, "finish after the end of the run", err, ErrLost)
	tasks := b.take()
	if len(tasks) != 2 {
		t.Fatalf("dispatched %+v, want both handlers", tasks)
	}
	for _, task := range tasks {
		b.finish(g, run, b.claim(g, task, "h"), Succeeded, "")
	}
	if r := b.wantPhase(run, TimedOut); r.Error != "it timed out after 1h0m0s" {
		t.Errorf("error %q", r.Error)
	}
	_, err = b.Apply(t.Context(), Stop{Target: whole, Phase: Cancelled})
	wantErr(t, "stop again", err, ErrConflict)
}

func TestIdempotencyKey(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	n := NewRun{Workflow: "w", Hash: "h", Graph: g, Inputs: json.RawMessage(`{}`), Trigger: json.RawMessage(`{}`), IdempotencyKey: "k", Timeout: time.Hour}
	ids := make(chan string, 20)
	for range cap(ids) {
		go func() {
			id, _, err := b.Start(t.Context(), n)
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	one := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != one {
			t.Errorf("run = %s, want %s", id, one)
		}
	}
	if tasks := b.take(); len(tasks) != 1 {
		t.Errorf("dispatched %d tasks, want 1", len(tasks))
	}
}

func TestInvalidStartDoesNotFailOthers(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	done := make(chan error, 20)
	for i := range cap(done) {
		go func() {
			n := NewRun{Workflow: "w", Hash: "h", Graph: g, Inputs: json.RawMessage(`{}`), Trigger: json.RawMessage(`{}`), Timeout: time.Hour}
			if i == 0 {
				n.Inputs = json.RawMessage(`{`)
			}
			_, _, err := b.Start(t.Context(), n)
			done <- err
		}()
	}
	failed := 0
	for range cap(done) {
		if <-done != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d of 20 starts failed, want only the one with invalid JSON", failed)
	}
}

func TestUnknownRun(t *testing.T) {
	b, g := open(t, Options{}), graph([]string{"a"})
	run := b.start(g)
	for name, target := range map[string]Target{
		"run":   {Run: "019a0000-0000-7000-8000-000000000000", Item: -1, Graph: g, Hash: "h"},
		"no id": {Run: "x", Item: -1, Graph: g, Hash: "h"},
		"step":  {Run: run, Step: 7, Item: -1, Graph: g, Hash: "h"},
	} {
		_, err := b.Apply(t.Context(), Claim{Target: target, Owner: "o"})
		wantErr(t, name, err, backend.ErrNotFound)
	}
}
