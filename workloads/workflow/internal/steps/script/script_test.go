// SPDX-License-Identifier: Apache-2.0

package script_test

import (
	"context"
	"reflect"
	"testing"
	"time"

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

// TestLine: a fault of the script is not tried again, and names its line.
func TestLine(t *testing.T) {
	_, err := steps.New(step.Env{}).Execute(context.Background(), steptest.Call("script", map[string]any{"source": "def main():\n\n  return [0] * 1000000000"}))
	steptest.Permanent(t, err, "with.source: line 3: more than 64 MiB of memory")
}
