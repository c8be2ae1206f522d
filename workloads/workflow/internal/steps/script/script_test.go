// SPDX-License-Identifier: Apache-2.0

package script_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/script"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func TestConformance(t *testing.T) {
	steptest.Run(t, steptest.Harness{
		Type:   "script",
		Env:    step.Env{Script: script.Limits{Steps: 1 << 50}},
		Config: map[string]any{"source": "def main(inputs):\n  print('hello')\n  return {'a': [1, 2.5, None, True], 'name': inputs['name']}"},
		Bad: map[string]map[string]any{
			"with.source":            {"source": ""},
			"with.source and a line": {"source": "def main(:"},
		},
		Slow: map[string]any{"source": "def main():\n  while True:\n    pass"},
	})
}

func TestScope(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	call := steptest.Call("script", map[string]any{"source": `
def main(inputs, steps, item, index, run, trigger):
  print("seen", index)
  return [inputs, steps["a"], item, index, run["id"], run["startedAt"], trigger["body"], trigger["headers"]]
`})
	call.Scope = &definition.Scope{
		Inputs: map[string]any{"n": int64(1)}, Steps: map[string]definition.StepResult{"a": {Status: "Succeeded", Output: "out", Attempts: 2}},
		Item: "x", ItemIndex: 4, InItem: true,
		Run:     definition.RunInfo{ID: "r", StartedAt: started},
		Trigger: definition.TriggerInfo{Body: map[string]any{"b": 1.5}, Headers: map[string]string{"h": "v"}},
	}
	got, err := steps.New(step.Env{}).Execute(context.Background(), call)
	want := map[string]any{"log": "seen 4\n", "result": []any{
		map[string]any{"n": int64(1)},
		map[string]any{"status": "Succeeded", "output": "out", "outputs": map[string]any{}, "error": "", "attempts": int64(2)},
		"x", int64(4), "r", "2026-01-02T03:04:05Z", map[string]any{"b": 1.5}, map[string]any{"h": "v"},
	}}
	if err != nil || !reflect.DeepEqual(got.Output, want) {
		t.Errorf("got %#v, %v, want %#v", got.Output, err, want)
	}
}

// TestLine: an error of the script is permanent, and names the line.
func TestLine(t *testing.T) {
	_, err := steps.New(step.Env{}).Execute(context.Background(), steptest.Call("script", map[string]any{"source": "def main():\n\n  return [0] * 1000000000"}))
	steptest.Permanent(t, err, "with.source: line 3: more than 64 MiB of memory")
}

// lazy counts how often it is loaded.
type lazy struct {
	value any
	err   error
	n     *int
}

func (l lazy) Load() (any, error) {
	*l.n++
	return l.value, l.err
}

// TestLarge: values that the script does not use are not loaded; an error of loading is temporary if object storage is unavailable.
func TestLarge(t *testing.T) {
	for source, want := range map[string]struct {
		loads  int
		output any
		fails  bool
		later  bool
	}{
		`result = 1`:                              {output: int64(1)},
		`result = steps["a"]["output"]`:           {loads: 2, output: "large"}, // output and outputs
		`result = steps["b"]["status"]`:           {output: "ok"},
		`result = len(steps)`:                     {loads: 3, fails: true},
		`result = trigger["name"]`:                {output: "hook"},
		`result = steps["c"]["output"]`:           {loads: 1, fails: true},
		`result = trigger["body"]`:                {loads: 1, fails: true, later: true},
		"def main(steps):\n  return str(steps)\n": {loads: 3, fails: true},
	} {
		n := 0
		call := steptest.Call("script", map[string]any{"source": source})
		call.Scope = &definition.Scope{
			Steps: map[string]definition.StepResult{
				"a": {Output: lazy{value: "large", n: &n}, Outputs: lazy{value: map[string]any{"x": "y"}, n: &n}},
				"b": {Status: "ok"}, "c": {Output: lazy{err: errors.New("it is gone"), n: &n}},
			},
			Trigger: definition.TriggerInfo{Name: "hook", Body: lazy{err: backend.ErrUnavailable, n: &n}},
		}
		got, err := steps.New(step.Env{}).Execute(t.Context(), call)
		if want.fails {
			var permanent *engine.Permanent
			if err == nil || errors.As(err, &permanent) == want.later {
				t.Errorf("%s: %v, want an error, temporary %t", source, err, want.later)
			}
		} else if err != nil || got.Output.(map[string]any)["result"] != want.output {
			t.Errorf("output of %s = %v, %v", source, got.Output, err)
		}
		if n != want.loads && !(want.fails && n <= want.loads && n > 0) {
			t.Errorf("%s loads %d values, want %d", source, n, want.loads)
		}
	}
}
