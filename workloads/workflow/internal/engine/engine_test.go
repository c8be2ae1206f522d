// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

func wantOutput(t *testing.T, s store.Step, want string) {
	t.Helper()
	if string(s.Output) != want {
		t.Errorf("output of step %s = %s, want %s", s.Name, s.Output, want)
	}
}

func TestChain(t *testing.T) {
	s := &script{}
	r := launch(t, Options{Executor: s})
	id := r.start(`{"inputs":[{"name":"n","type":"integer"}],"outputs":{"sum":"${{ steps.c.output + 1 }}"},"steps":[{"name":"a","type":"x","with":{"value":"${{ inputs.n }}"}},
		{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output }}"}},
		{"name":"c","type":"x","needs":["b"],"with":{"value":"${{ steps.a.output }}"}}]}`, map[string]any{"n": int64(9007199254740993)})
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["c"], "9007199254740993")
	if out, err := r.Outputs(t.Context(), id); err != nil || out["sum"] != int64(9007199254740994) {
		t.Errorf("outputs of the run = %v, %v", out, err)
	}
	for _, step := range []string{"a", "b", "c"} {
		calls := s.callsTo(step)
		if len(calls) != 1 || calls[0].Key != id+"/"+step+"/-1/1" || calls[0].Type != "transform" {
			t.Errorf("calls of step %s = %+v", step, calls)
		}
	}
}

func TestFanOutFanIn(t *testing.T) {
	s := &script{}
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"a","type":"x","with":{"value":false}},{"name":"b","type":"x","needs":["a"],"with":{"value":"b"}},
		{"name":"c","type":"x","needs":["a"],"when":"steps.a.output == true"},{"name":"d","type":"x","needs":["b","c"],"with":{"value":"${{ steps.b.output }}"}}]}`, nil)
	r.wait(id, store.Succeeded)
	steps := r.steps(id)
	wantOutput(t, steps["d"], `"b"`)
	if steps["c"].Phase != store.Skipped {
		t.Errorf("phase of step c = %s, want Skipped", steps["c"].Phase)
	}
}

func TestForEach(t *testing.T) {
	s := &script{}
	gate := make(chan struct{})
	s.on("a", func(_ context.Context, c Call) (Result, error) {
		<-gate
		return Result{Output: map[string]any{"of": c.Scope.Item, "n": c.Scope.ItemIndex}}, nil
	})
	r := launch(t, Options{Executor: s})
	id := r.start(`{"inputs":[{"name":"list","type":"array"}],"steps":[{"name":"a","type":"x","forEach":{"items":"${{ inputs.list }}","parallelism":2}},
		{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output }}"}}]}`, map[string]any{"list": []any{"x", "y", "z", "x", "y"}})
	NewWithT(t).Eventually(func() int { return len(s.callsTo("a")) }, long).Should(Equal(2))
	close(gate)
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["b"], `[{"n":0,"of":"x"},{"n":1,"of":"y"},{"n":2,"of":"z"},{"n":3,"of":"x"},{"n":4,"of":"y"}]`)
	if s.most["a"] > 2 {
		t.Errorf("%d items ran concurrently, want at most 2", s.most["a"])
	}
	id = r.start(`{"inputs":[{"name":"list","type":"array"}],"steps":[{"name":"a","type":"x","forEach":{"items":"${{ inputs.list }}"}}]}`, map[string]any{"list": []any{}})
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["a"], `[]`)
}

func TestRetryAndHandlers(t *testing.T) {
	s := (&script{}).on("a", failTimes(2)).on("p", func(context.Context, Call) (Result, error) { return Result{}, &Permanent{errStep} })
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"a","type":"x","retry":{"attempts":3,"delay":"1ms"}}],"onSuccess":[{"name":"good","type":"x"}],
		"onFailure":[{"name":"bad","type":"x"}],"always":[{"name":"end","type":"x"}]}`, nil)
	r.wait(id, store.Succeeded)
	calls := s.callsTo("a")
	if len(calls) != 3 || calls[0].Key == calls[1].Key || calls[2].Attempt != 3 {
		t.Errorf("calls = %+v, want three attempts", calls)
	}
	if len(s.callsTo("good")) != 1 || len(s.callsTo("bad")) != 0 || len(s.callsTo("end")) != 1 {
		t.Errorf("handlers were called %d, %d and %d times", len(s.callsTo("good")), len(s.callsTo("bad")), len(s.callsTo("end")))
	}
	id = r.start(`{"steps":[{"name":"p","type":"x","retry":{"attempts":3,"delay":"1ms"}},{"name":"never","type":"x","needs":["p"]}],
		"onFailure":[{"name":"bad","type":"x","with":{"value":"${{ steps.never.status }}"}}],"always":[{"name":"last","type":"x"}]}`, nil)
	run := r.wait(id, store.Failed)
	if len(s.callsTo("p")) != 1 || len(s.callsTo("never")) != 0 || run.Error != "step p: it does not work" {
		t.Errorf("called %d times; error of the run: %q", len(s.callsTo("p")), run.Error)
	}
	wantOutput(t, r.steps(id)["bad"], `"Cancelled"`)
	if len(s.callsTo("last")) != 1 {
		t.Error("the handler that always runs did not")
	}
}

// busy is a server's error with a Retry-After.
type busy struct{ after time.Duration }

func (b *busy) Error() string             { return "busy" }
func (b *busy) RetryAfter() time.Duration { return b.after }

func TestRetryAfter(t *testing.T) {
	p := parse(t, `{"steps":[{"name":"a","type":"x","retry":{"attempts":2,"delay":"1s","jitterPercent":0}}]}`)
	x := &execution{step: p.Step(0), claimed: &store.Claimed{Attempt: 1}}
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{errStep, time.Second}, {&busy{30 * time.Second}, 30 * time.Second}, {fmt.Errorf("call: %w", &busy{time.Minute}), time.Minute},
		{&busy{time.Millisecond}, time.Second}, {&busy{-time.Hour}, time.Second}, {&busy{24 * time.Hour}, maxRetryAfter},
	} {
		if delay, again := (&Engine{}).retry(x, c.err); delay != c.want || !again {
			t.Errorf("after %v: delay %s, retry %v; want %s", c.err, delay, again, c.want)
		}
	}
}

func TestOnErrorContinue(t *testing.T) {
	s := (&script{}).on("a", failing)
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"a","type":"x","onError":"Continue"},{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.status }}"}}]}`, nil)
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["b"], `"Failed"`)
}

func TestTimeouts(t *testing.T) {
	s := (&script{}).on("slow", hang)
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"slow","type":"x","timeout":"50ms","retry":{"attempts":2,"delay":"1ms"}}]}`, nil)
	if run := r.wait(id, store.Failed); run.Error != "step slow: timed out after 50ms" {
		t.Errorf("error of the run = %q", run.Error)
	}
	if len(s.callsTo("slow")) != 2 {
		t.Errorf("called %d times, want both attempts", len(s.callsTo("slow")))
	}
	id = r.start(`{"timeout":"100ms","steps":[{"name":"slow","type":"x"}],"onFailure":[{"name":"h","type":"x"}]}`, nil)
	if run := r.wait(id, store.TimedOut); run.Error != "it timed out after 100ms" {
		t.Errorf("error of the run = %q", run.Error)
	}
	if len(s.callsTo("h")) != 1 {
		t.Error("the handler did not run")
	}
}

func TestCancel(t *testing.T) {
	ended := make(chan struct{})
	s := (&script{}).on("slow", func(ctx context.Context, c Call) (Result, error) {
		defer close(ended)
		return hang(ctx, c)
	})
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"slow","type":"x"},{"name":"b","type":"x","needs":["slow"]}],"onFailure":[{"name":"bad","type":"x"}],"always":[{"name":"end","type":"x"}]}`, nil)
	r.g.Eventually(func() int { return len(s.callsTo("slow")) }, long).Should(Equal(1))
	if err := r.Cancel(t.Context(), id, "ada does not want it"); err != nil {
		t.Fatal(err)
	}
	<-ended
	run := r.wait(id, store.Cancelled)
	if run.Error != "ada does not want it" || len(s.callsTo("b")) != 0 || len(s.callsTo("bad")) != 0 || len(s.callsTo("end")) != 1 {
		t.Errorf("error of the run = %q; called b %d, bad %d, end %d times", run.Error, len(s.callsTo("b")), len(s.callsTo("bad")), len(s.callsTo("end")))
	}
	if err := r.Cancel(t.Context(), id, "again"); err == nil {
		t.Error("an ended run was canceled")
	}
}

// TestCancelReachesOtherEngines: the executing engine learns of the cancellation at its next renewal.
func TestCancelReachesOtherEngines(t *testing.T) {
	ended := make(chan struct{})
	s := (&script{}).on("slow", func(ctx context.Context, c Call) (Result, error) {
		defer close(ended)
		return hang(ctx, c)
	})
	r := launch(t, Options{Executor: s, Store: store.Options{Lease: 300 * time.Millisecond}})
	id := r.start(`{"steps":[{"name":"slow","type":"x"}]}`, nil)
	r.g.Eventually(func() int { return len(s.callsTo("slow")) }, long).Should(Equal(1))
	p, err := r.programs.get(t.Context(), "w", r.wait(id, store.Running).Hash)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Store().Apply(t.Context(), store.Stop{Target: p.target(id, -1, -1), Phase: store.Cancelled}); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestWaits(t *testing.T) {
	s := &script{}
	s.on("approve", func(_ context.Context, c Call) (Result, error) {
		if c.Resume == nil {
			return Result{Wait: &Wait{Event: true, Detail: map[string]any{"ask": "ada"}}}, nil
		}
		return Result{Output: map[string]any{"data": c.Resume.Data, "event": c.Resume.Event, "detail": c.Resume.Detail}}, nil
	})
	s.on("sleep", func(_ context.Context, c Call) (Result, error) {
		if c.Resume == nil {
			return Result{Wait: &Wait{Until: time.Now().Add(30 * time.Millisecond)}}, nil
		}
		return Result{Output: c.Resume.Event}, nil
	})
	s.on("forever", func(context.Context, Call) (Result, error) { return Result{Wait: &Wait{Event: true}}, nil })
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"sleep","type":"x"},{"name":"approve","type":"x","needs":["sleep"]}]}`, nil)
	r.g.Eventually(func() bool { return r.steps(id)["approve"].Resumable }, long).Should(BeTrue())
	r.wait(id, store.Waiting)
	wantOutput(t, r.steps(id)["sleep"], "false")
	if err := r.Resume(t.Context(), id, "nobody", -1, nil); err == nil {
		t.Error("a step that does not exist was resumed")
	}
	if err := r.Resume(t.Context(), id, "approve", -1, map[string]any{"decision": "Approved"}); err != nil {
		t.Fatal(err)
	}
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["approve"], `{"data":{"decision":"Approved"},"detail":{"ask":"ada"},"event":true}`)
	id = r.start(`{"steps":[{"name":"forever","type":"x","timeout":"60ms"}]}`, nil)
	if run := r.wait(id, store.Failed); run.Error != "step forever: timed out after 60ms" {
		t.Errorf("error of the run = %q", run.Error)
	}
}

func TestRerun(t *testing.T) {
	s := &script{}
	r := launch(t, Options{Executor: s})
	const spec = `{"inputs":[{"name":"v","type":"string"}],"steps":[{"name":"a","type":"x","with":{"value":"${{ inputs.v }}"}},{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output }}"}},
		{"name":"c","type":"x","needs":["b"],"with":{"value":"${{ steps.b.output }}"}},{"name":"side","type":"x"}],"always":[{"name":"end","type":"x"}]}`
	id := r.start(spec, map[string]any{"v": "recorded"})
	r.wait(id, store.Succeeded)
	again, created, err := r.Rerun(t.Context(), id, "b", "key")
	if err != nil || !created {
		t.Fatalf("re-run: created %t, %v", created, err)
	}
	run := r.wait(again, store.Succeeded)
	if run.RerunOf != id || run.RerunFrom != "b" || run.Attempt != 2 {
		t.Errorf("re-run = %+v", run)
	}
	for step, want := range map[string]int{"a": 1, "side": 1, "b": 2, "c": 2, "end": 2} {
		if got := len(s.callsTo(step)); got != want {
			t.Errorf("step %s was executed %d times, want %d", step, got, want)
		}
	}
	wantOutput(t, r.steps(again)["a"], `"recorded"`)
	wantOutput(t, r.steps(again)["c"], `"recorded"`)
	if same, created, err := r.Rerun(t.Context(), id, "b", "key"); err != nil || created || same != again {
		t.Errorf("same key: %s, created %t, %v", same, created, err)
	}
	s.on("b", failing)
	failed := r.start(spec, map[string]any{"v": "one"})
	r.wait(failed, store.Failed)
	if _, _, err := r.Rerun(t.Context(), failed, "c", ""); err == nil {
		t.Error("a step was started although a step that it needs has no outcome")
	}
	s.on("b", nil)
	again, _, err = r.Rerun(t.Context(), failed, "b", "")
	if err != nil {
		t.Fatal(err)
	}
	r.wait(again, store.Succeeded)
	wantOutput(t, r.steps(again)["c"], `"one"`)
}

func TestIdempotencyKey(t *testing.T) {
	s := &script{}
	r := launch(t, Options{Executor: s})
	start := Start{Workflow: "w", Program: parse(t, `{"steps":[{"name":"a","type":"x"}]}`), IdempotencyKey: "k"}
	one, created, err := r.Start(t.Context(), start)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	two, created, err := r.Start(t.Context(), start)
	if err != nil || created || two != one {
		t.Errorf("same key: %s, created %t, %v; want %s", two, created, err, one)
	}
	r.wait(one, store.Succeeded)
	if n := len(s.callsTo("a")); n != 1 {
		t.Errorf("the step was executed %d times", n)
	}
}

func TestLargeOutputAndPanic(t *testing.T) {
	s := &script{}
	s.on("large", func(context.Context, Call) (Result, error) { return Result{Output: strings.Repeat("x", 300<<10)}, nil })
	s.on("panics", func(context.Context, Call) (Result, error) { panic("oh") })
	s.on("zero", func(context.Context, Call) (Result, error) { return Result{Output: "a\x00b\xff"}, nil })
	r := launch(t, Options{Executor: s})
	for step, want := range map[string]string{"large": "the output has 307202 bytes, more than the limit of 262144", "panics": "the step panicked: oh"} {
		id := r.start(`{"steps":[{"name":"`+step+`","type":"x","retry":{"attempts":2,"delay":"1ms"}}]}`, nil)
		if run := r.wait(id, store.Failed); !strings.Contains(run.Error, want) {
			t.Errorf("error of the run = %q, want %q", run.Error, want)
		}
		if n := len(s.callsTo(step)); n != 1 {
			t.Errorf("step %s was executed %d times, want once", step, n)
		}
	}
	id := r.start(`{"steps":[{"name":"zero","type":"x"}]}`, nil)
	r.wait(id, store.Succeeded)
}

func TestStartIsRefusedWithoutAQueue(t *testing.T) {
	r := launch(t, Options{Executor: &script{}})
	r.stop()
	_, _, err := r.Start(t.Context(), Start{Workflow: "w", Program: parse(t, `{"steps":[{"name":"a","type":"x"}]}`)})
	NewWithT(t).Expect(err).To(MatchError(backend.ErrUnavailable))
}
