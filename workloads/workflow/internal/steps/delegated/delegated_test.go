// SPDX-License-Identifier: Apache-2.0

package delegated_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func env() step.Env { return step.Env{Now: func() time.Time { return now }} }

var configs = map[string]map[string]any{
	"job":      {"image": "example/x:1", "command": []any{"a"}, "args": []any{"b"}, "env": map[string]any{"A": "1"}, "timeout": "1m", "serviceAccount": "x", "resources": map[string]any{"limits": map[string]any{"cpu": "1"}}},
	"pipeline": {"name": "warehouse", "action": "wait", "until": "Paused", "timeout": "1m"},
	"workflow": {"name": "other", "inputs": map[string]any{"n": int64(1)}, "wait": true},
}

func TestConformance(t *testing.T) {
	bad := map[string]map[string]map[string]any{
		"job": {
			"with.image": {}, "with.command": {"image": "x", "command": []any{int64(1)}}, "with.args": {"image": "x", "args": "x"}, "with.env": {"image": "x", "env": []any{}},
			"with.resources": {"image": "x", "resources": "much"}, "with.timeout": {"image": "x", "timeout": "-1s"},
		},
		"pipeline": {
			"with.name": {"action": "start"}, "with.action": {"name": "x", "action": "stop"}, "with.until": {"name": "x", "action": "wait", "until": "Soon"},
			"with.timeout of a start": {"name": "x", "action": "start", "timeout": "1m"}, "with.until of a pause": {"name": "x", "action": "pause", "until": "Paused"},
		},
		"workflow": {"with.name": {}, "with.inputs": {"name": "x", "inputs": []any{}}, "with.wait": {"name": "x", "wait": "yes"}},
	}
	for kind, config := range configs {
		t.Run(kind, func(t *testing.T) {
			steptest.Run(t, steptest.Harness{Type: kind, Env: env(), Config: config, Bad: bad[kind]})
		})
	}
}

// TestDetail: the detail of the wait has the work and its key for the service.
func TestDetail(t *testing.T) {
	set := steps.New(env())
	for kind, config := range configs {
		call := steptest.Call(kind, config)
		got, err := set.Execute(context.Background(), call)
		want := map[string]any{"type": kind, "key": call.Key, "config": config}
		if kind == "workflow" {
			want["depth"] = int64(1)
		}
		if err != nil || got.Wait == nil || !got.Wait.Event || !reflect.DeepEqual(got.Wait.Detail, map[string]any{"delegate": want}) {
			t.Errorf("%s: %+v, %v", kind, got.Wait, err)
		}
		call.Resume = &engine.Resume{}
		_, err = set.Execute(context.Background(), call)
		steptest.Permanent(t, err, "in time", "within 1m")
	}
}

func TestDepth(t *testing.T) {
	set := steps.New(env())
	for trigger, want := range map[*definition.TriggerInfo]int64{
		{}: 1,
		{Type: "Webhook", Headers: map[string]string{"depth": "10"}}:                                  1,
		{Type: "Workflow", Headers: map[string]string{"depth": "1"}}:                                  2,
		{Type: "Workflow", Headers: map[string]string{"depth": strconv.Itoa(delegated.MaxDepth - 1)}}: delegated.MaxDepth,
		{Type: "Workflow", Headers: map[string]string{"depth": strconv.Itoa(delegated.MaxDepth)}}:     0,
		{Type: "Workflow"}: 0,
	} {
		call := steptest.Call("workflow", configs["workflow"])
		call.Scope.Trigger = *trigger
		got, err := set.Execute(context.Background(), call)
		if want == 0 {
			steptest.Permanent(t, err, "with.name: workflows call each other")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if detail, ok := got.Wait.Detail["delegate"].(map[string]any); !ok || detail["depth"] != want {
			t.Errorf("%+v: %+v", trigger, got.Wait)
		}
	}
}

func TestAnswers(t *testing.T) {
	set := steps.New(env())
	resume := func(data any) (engine.Result, error) {
		call := steptest.Call("workflow", configs["workflow"])
		call.Resume = &engine.Resume{Event: true, Data: data}
		return set.Execute(context.Background(), call)
	}
	got, err := resume(delegated.Answer(map[string]any{"run": "1"}))
	if err != nil || !reflect.DeepEqual(got.Output, map[string]any{"run": "1"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = resume(delegated.Answer(nil)); err != nil || got.Output != nil {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = resume(delegated.Failure("no such thing", true))
	steptest.Permanent(t, err, "no such thing")
	var permanent *engine.Permanent
	if _, err = resume(delegated.Failure("not yet", false)); errors.As(err, &permanent) || fmt.Sprint(err) != "not yet" {
		t.Errorf("got %v, want an error that is retried", err)
	}
	for _, data := range []any{nil, "x", map[string]any{}, map[string]any{"error": 1}} {
		_, err = resume(data)
		steptest.Permanent(t, err, "not from the service")
	}
}
