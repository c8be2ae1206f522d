// SPDX-License-Identifier: Apache-2.0

package wait_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func env() step.Env { return step.Env{Now: func() time.Time { return now }} }

func TestConformance(t *testing.T) {
	steptest.Run(t, steptest.Harness{
		Type: "wait", Env: env(), Config: map[string]any{"for": "1m30s"},
		Bad: map[string]map[string]any{
			"with.for":                    {"for": "soon"},
			"with.for beyond a year":      {"for": "9000h"},
			"with.for that is over":       {"for": "-1s"},
			"with.for and none":           {},
			"with.for and another":        {"for": "1s", "until": "2026-01-31T08:00:00Z"},
			"with.until":                  {"until": "tomorrow"},
			"with.event":                  {"event": "yes"},
			"with.timeout":                {"event": true, "timeout": "x"},
			"with.timeout without event:": {"for": "1s", "timeout": "1s"},
		},
	})
}

func TestWait(t *testing.T) {
	set := steps.New(env())
	for _, test := range []struct {
		name   string
		config map[string]any
		want   engine.Wait
	}{
		{"for", map[string]any{"for": "1h"}, engine.Wait{Until: now.Add(time.Hour)}},
		{"until", map[string]any{"until": "2026-02-01T00:00:00+01:00"}, engine.Wait{Until: time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)}},
		{"event", map[string]any{"event": true}, engine.Wait{Event: true}},
		{"event with a timeout", map[string]any{"event": true, "timeout": "5m"}, engine.Wait{Event: true, Until: now.Add(5 * time.Minute)}},
	} {
		got, err := set.Execute(context.Background(), steptest.Call("wait", test.config))
		if err != nil || got.Wait == nil || !got.Wait.Until.Equal(test.want.Until) || got.Wait.Event != test.want.Event {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got.Wait, err, test.want)
		}
	}
}

func TestResume(t *testing.T) {
	set := steps.New(env())
	call := steptest.Call("wait", map[string]any{"for": "1h"})
	call.Resume = &engine.Resume{}
	if got, err := set.Execute(context.Background(), call); err != nil || got.Wait != nil || !reflect.DeepEqual(got.Output, map[string]any{"event": false, "data": nil}) {
		t.Errorf("after the time: got %+v, %v", got, err)
	}
	call.Config = map[string]any{"event": true, "timeout": "1h"}
	_, err := set.Execute(context.Background(), call)
	steptest.Permanent(t, err, "with.timeout: the step was not resumed")
	call.Resume = &engine.Resume{Event: true, Data: map[string]any{"a": int64(1)}}
	want := map[string]any{"event": true, "data": map[string]any{"a": int64(1)}}
	if got, err := set.Execute(context.Background(), call); err != nil || got.Wait != nil || !reflect.DeepEqual(got.Output, want) {
		t.Errorf("after the event: got %+v, %v", got, err)
	}
}
