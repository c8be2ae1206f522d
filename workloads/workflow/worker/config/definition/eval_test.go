// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func scope() *definition.Scope {
	return &definition.Scope{
		Inputs: map[string]any{"n": int64(7), "s": "secret-text", "o": map[string]any{"k": 1.5}, "l": []any{int64(1), int64(2)}, "b": true, "f": int64(2)},
		Steps: map[string]definition.StepResult{
			"a": {Status: "Succeeded", Output: map[string]any{"id": int64(3), "tags": []any{"x"}}, Outputs: map[string]any{"o": "v"}, Attempts: 2},
			"b": {Status: "Skipped"},
		},
		Run: definition.RunInfo{ID: "r1", Workflow: "w", Namespace: "ns", Generation: 4, Attempt: 1, StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		Trigger: definition.TriggerInfo{
			Type: "Webhook", Name: "hook", Body: map[string]any{"x": nil}, Headers: map[string]string{"h": "v"}, ScheduledAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		},
	}
}

// value evaluates the value of a transform step.
func value(t *testing.T, source string) (any, error) {
	t.Helper()
	text, err := json.Marshal(source)
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, with("transform", "{value: "+string(text)+"}"))
	config, err := p.Find("c").Config(scope())
	return config["value"], err
}

func TestValues(t *testing.T) {
	for source, want := range map[string]any{
		"${{ inputs.n }}":                            int64(7),
		"${{ inputs.f * 1.5 }}":                      float64(3),
		"${{ inputs.o.k * inputs.f }}":               float64(3),
		"${{ inputs.o }}":                            map[string]any{"k": 1.5},
		"${{ [inputs.n, 1.5, null] }}":               []any{int64(7), 1.5, nil},
		"${{ {'a': {'b': inputs.b}} }}":              map[string]any{"a": map[string]any{"b": true}},
		"${{ '}}' + \"}}\" }}":                       "}}}}",
		"n=${{ inputs.n }}, o=${{ inputs.o }}":       `n=7, o={"k":1.5}`,
		"$${{ inputs.n }}":                           "${{ inputs.n }}",
		"":                                           "",
		"}} {{ $":                                    "}} {{ $",
		"${{ steps.a.output.id }}":                   int64(3),
		"${{ steps.a.outputs.o }}":                   "v",
		"${{ steps.a.attempts + 1 }}":                int64(3),
		"${{ steps.b.status }}":                      "Skipped",
		"${{ steps.b.output }}":                      nil,
		"${{ has(steps.a.output.none) }}":            false,
		"${{ steps.a.output.tags.map(t, t+t) }}":     []any{"xx"},
		"${{ run.id + run.workflow }}":               "r1w",
		"${{ run.startedAt }}":                       "2026-01-02T03:04:05Z",
		"${{ run.generation }}":                      int64(4),
		"${{ run.startedAt - trigger.scheduledAt }}": "27h4m5s",
		"${{ trigger.headers.h }}":                   "v",
		"${{ trigger.body.x }}":                      nil,
		"${{ 'a,b'.split(',') }}":                    []any{"a", "b"},
		"${{ math.greatest(inputs.n, 9) }}":          int64(9),
		"${{ base64.encode(b'hi') }}":                "aGk=",
	} {
		if got, err := value(t, source); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v; want %#v", source, got, err, want)
		}
	}
}

func TestErrorsQuoteNoValue(t *testing.T) {
	for source, want := range map[string]string{
		"${{ inputs.o.none }}":                                 "with.value: 1:10: there is no field none",
		"${{ inputs.o[inputs.s] }}":                            "there is no such field",
		"${{ int(inputs.s) }}":                                 "a value cannot be converted",
		"${{ inputs.l[9] }}":                                   "index out of bounds",
		"${{ 1 / (inputs.n - 7) }}":                            "division by zero",
		"${{ inputs.f / 0.0 }}":                                "the value is not a finite number",
		"${{ timestamp(inputs.s) }}":                           "evaluation failed",
		"${{ steps.a.output.id + inputs.s }}":                  "a value has the wrong type",
		"${{ b'x' }}":                                          "bytes are not JSON",
		"${{ {1: 2} }}":                                        "the keys of a map must be strings",
		"${{ lists.range(9000).map(x, lists.range(9000)) }}":   "the evaluation takes too",
		"${{ lists.range(90000).exists(x, inputs.n == x+1) }}": "",
	} {
		_, err := value(t, source)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", source, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-text") {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
}

func TestWhenItemsOutputs(t *testing.T) {
	p := compile(t, step(`{name: c, needs: [b], when: 'steps.b.status == "Skipped" && inputs.n > 5', type: transform,
  forEach: {items: "${{ inputs.l }}", parallelism: 3}, with: {value: "${{ item * 10 + index }}"}, outputs: {twice: "${{ result * 2 }}", from: "${{ item }}"}}`))
	s, in := p.Find("c"), scope()
	if yes, err := s.When(in); err != nil || !yes {
		t.Error(yes, err)
	}
	items, err := s.Items(in)
	if err != nil || len(items) != 2 || s.Parallelism() != 3 {
		t.Fatal(items, err)
	}
	in.InItem, in.Item, in.ItemIndex = true, items[1], 1
	config, err := s.Config(in)
	if err != nil || config["value"] != int64(21) {
		t.Error(config, err)
	}
	outputs, err := s.Outputs(in, int64(21))
	if err != nil || !reflect.DeepEqual(outputs, map[string]any{"twice": int64(42), "from": int64(2)}) {
		t.Error(outputs, err)
	}
	if yes, err := p.Find("a").When(in); err != nil || !yes {
		t.Error("a step without when should run", yes, err)
	}
	if items, err := p.Find("a").Items(in); items != nil || err != nil {
		t.Error(items, err)
	}
	in.Inputs["l"] = make([]any, definition.MaxItems+1)
	if _, err := s.Items(in); err == nil || !strings.Contains(err.Error(), "at most 1000") {
		t.Error(err)
	}
}

func TestInputs(t *testing.T) {
	p := compile(t, one+`inputs: [{name: id, required: true}, {name: count, type: integer, default: 3}, {name: rate, type: number}, {name: tags, type: array}]`)
	got, err := p.Inputs(map[string]any{"id": "x", "rate": 1.5, "count": float64(4)})
	if want := (map[string]any{"id": "x", "count": int64(4), "rate": 1.5, "tags": []any{}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	for path, given := range map[string]map[string]any{
		"inputs.id": {}, "inputs.count": {"id": "x", "count": 1.5}, "inputs.tags": {"id": "x", "tags": "secret-text"}, "inputs.other": {"id": "x", "other": 1},
	} {
		_, err := p.Inputs(given)
		var wrong *definition.InputError
		if !errors.As(err, &wrong) || wrong.Path != path || strings.Contains(wrong.Message, "secret-text") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDelayGrowsAndIsBounded(t *testing.T) {
	p := compile(t, step(`{name: c, type: transform, retry: {attempts: 20, delay: 1s, maxDelay: 10s, factor: 3, jitterPercent: 50}, with: {value: 1}}`))
	r := p.Find("c").Retry()
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 3 * time.Second, 3: 9 * time.Second, 4: 10 * time.Second, math.MaxInt32: 10 * time.Second} {
		if got := r.Delay(attempt, func() float64 { return 0 }); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
		if got := r.Delay(attempt, func() float64 { return 1 }); got != want/2 {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want/2)
		}
	}
}

func TestKeyAndStart(t *testing.T) {
	p := compile(t, one+`inputs: [{name: who}]
concurrency: {max: 2, key: "inputs.who + trigger.name"}
triggers:
- {name: ev, type: Event, event: {source: kafka, connectionRef: {name: k}, name: topic, filter: trigger.body.ok, dedupeKey: string(trigger.body.id)}, inputs: {who: "${{ trigger.body.who }}"}}
outputs: {a: "${{ steps.a.output }}"}`)
	if key, err := p.ConcurrencyKey(&definition.Scope{Inputs: map[string]any{"who": "x"}, Trigger: definition.TriggerInfo{Name: "t"}}); err != nil || key != "xt" {
		t.Error(key, err)
	}
	body := map[string]any{"ok": true, "id": int64(5), "who": "me"}
	starts, inputs, dedupe, err := p.Start("ev", definition.TriggerInfo{Body: body})
	if err != nil || !starts || dedupe != "5" || fmt.Sprint(inputs) != "map[who:me]" {
		t.Error(starts, inputs, dedupe, err)
	}
	body["ok"] = false
	if starts, _, _, err := p.Start("ev", definition.TriggerInfo{Body: body}); err != nil || starts {
		t.Error(starts, err)
	}
	if out, err := p.Outputs(&definition.Scope{Steps: map[string]definition.StepResult{"a": {Output: "v"}}}); err != nil || out["a"] != "v" {
		t.Error(out, err)
	}
}
