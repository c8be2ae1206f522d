// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// lazy is a Large that records when it is loaded.
type lazy struct {
	name  string
	value any
	err   error
	seen  *[]string
}

func (l lazy) Load() (any, error) {
	*l.seen = append(*l.seen, l.name)
	return l.value, l.err
}

var errDown = errors.New("object storage is down")

// TestLarge: values that an expression does not read are not loaded, and an error of loading fails it.
func TestLarge(t *testing.T) {
	for expression, want := range map[string]struct {
		loads []string
		value any
		fails string
	}{
		`steps.a.output.n`:                               {loads: []string{"a.output"}, value: int64(1)},
		`steps.a.outputs.m + steps.a.outputs.m`:          {loads: []string{"a.outputs"}, value: int64(4)},
		`steps.a.status`:                                 {value: "Succeeded"},
		`steps.a.attempts + steps.b.attempts`:            {value: int64(3)},
		`[steps.a][0].output.n + steps.a.attempts`:       {loads: []string{"a.output", "a.outputs"}, value: int64(2)},
		`has(steps.a.output.x)`:                          {loads: []string{"a.output"}, value: false},
		`trigger.body`:                                   {loads: []string{"body"}, value: "text"},
		`trigger.name`:                                   {value: "hook"},
		`{'t': trigger}.t.body`:                          {loads: []string{"body"}, value: "text"},
		`[1, 2].map(trigger, trigger)[0]`:                {value: int64(1)},
		`[steps.a.status].map(x, x + steps.a.status)[0]`: {value: "SucceededSucceeded"},
		`steps.b.output`:                                 {loads: []string{"b.output"}, fails: "steps.b.output: object storage is down"},
		`has(steps.b.output.x)`:                          {loads: []string{"b.output"}, fails: "steps.b.output: object storage is down"},
		`steps.b.output == 1 || true`:                    {loads: []string{"b.output"}, fails: "steps.b.output: object storage is down"},
		`inputs.n > 0 ? 5 : steps.b.output`:              {value: int64(5)},
	} {
		p := compile(t, `{"inputs":[{"name":"n","type":"integer"}],"steps":[{"name":"a","type":"transform","with":{"value":1}},{"name":"b","type":"transform","with":{"value":1}},
			{"name":"c","needs":["a","b"],"type":"transform","with":{"value":`+quote(t, "${{ "+expression+" }}")+`}}]}`)
		var seen []string
		config, err := p.Find("c").Config(&definition.Scope{Inputs: map[string]any{"n": int64(1)},
			Trigger: definition.TriggerInfo{Name: "hook", Body: lazy{name: "body", value: "text", seen: &seen}},
			Steps: map[string]definition.StepResult{
				"a": {Status: "Succeeded", Attempts: 1, Output: lazy{name: "a.output", value: map[string]any{"n": int64(1)}, seen: &seen},
					Outputs: lazy{name: "a.outputs", value: map[string]any{"m": int64(2)}, seen: &seen}},
				"b": {Status: "Failed", Attempts: 2, Output: lazy{name: "b.output", err: errDown, seen: &seen}},
			},
		})
		slices.Sort(seen)
		if seen = slices.Compact(seen); !slices.Equal(seen, want.loads) {
			t.Errorf("%s loaded %q, want %q", expression, seen, want.loads)
		}
		if want.fails != "" {
			if err == nil || err.Error() != "with.value: "+want.fails || !errors.Is(err, errDown) {
				t.Errorf("%s: %v, want %s", expression, err, want.fails)
			}
			continue
		}
		if err != nil || config["value"] != want.value {
			t.Errorf("%s = %v, %v, want %v", expression, config["value"], err, want.value)
		}
	}
}

func quote(t *testing.T, text string) string {
	t.Helper()
	data, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
