// SPDX-License-Identifier: Apache-2.0

package approval_test

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

func config(onTimeout string) map[string]any {
	return map[string]any{"approvers": []any{"role:admin", "ann"}, "message": "Deploy?", "timeout": "1h", "onTimeout": onTimeout}
}

func TestConformance(t *testing.T) {
	who := []any{"ann"}
	steptest.Run(t, steptest.Harness{
		Type: "approval", Env: env(), Config: config("fail"),
		Bad: map[string]map[string]any{
			"with.approvers":                  {"approvers": []any{}},
			"with.approvers of another type":  {"approvers": []any{int64(1)}},
			"with.message":                    {"approvers": who, "message": int64(1)},
			"with.timeout":                    {"approvers": who, "timeout": "x"},
			"with.onTimeout":                  {"approvers": who, "timeout": "1s", "onTimeout": "ignore"},
			"with.onTimeout without timeout:": {"approvers": who, "onTimeout": "approve"},
		},
	})
}

func TestApproval(t *testing.T) {
	set := steps.New(env())
	got, err := set.Execute(context.Background(), steptest.Call("approval", config("fail")))
	want := engine.Wait{Event: true, Until: now.Add(time.Hour), Detail: map[string]any{"approvers": []any{"role:admin", "ann"}, "message": "Deploy?", "onTimeout": "fail"}}
	if err != nil || got.Wait == nil || !reflect.DeepEqual(*got.Wait, want) {
		t.Fatalf("got %+v, %v, want %+v", got.Wait, err, want)
	}
	answer := func(data any) *engine.Resume { return &engine.Resume{Event: true, Data: data} }
	for _, test := range []struct {
		name, onTimeout string
		resume          *engine.Resume
		output          any
		refused         string
	}{
		{"approved", "fail", answer(map[string]any{"decision": "approve", "by": "ann", "comment": "fine"}), map[string]any{"decision": "approve", "by": "ann", "comment": "fine", "timedOut": false}, ""},
		{"rejected", "fail", answer(map[string]any{"decision": "reject", "by": "ann", "comment": "no"}), nil, "rejected by ann: no"},
		{"neither", "fail", answer(map[string]any{"decision": "maybe"}), nil, "event.decision:"},
		{"nothing", "fail", answer(nil), nil, "event.decision:"},
		{"late, fails", "fail", &engine.Resume{}, nil, "with.timeout: nobody decided within 1h"},
		{"late, rejects", "reject", &engine.Resume{}, nil, "rejected: nobody decided"},
		{"late, approves", "approve", &engine.Resume{}, map[string]any{"decision": "approve", "by": "", "comment": "nobody decided in time", "timedOut": true}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			call := steptest.Call("approval", config(test.onTimeout))
			call.Resume = test.resume
			got, err := set.Execute(context.Background(), call)
			if test.refused != "" {
				steptest.Permanent(t, err, test.refused)
			} else if err != nil || got.Wait != nil || !reflect.DeepEqual(got.Output, test.output) {
				t.Errorf("got %+v, %v, want %v", got, err, test.output)
			}
		})
	}
}
