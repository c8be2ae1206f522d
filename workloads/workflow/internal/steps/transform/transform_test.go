// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"context"
	"math"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

func TestConformance(t *testing.T) {
	steptest.Run(t, steptest.Harness{
		Type:   "transform",
		Config: map[string]any{"value": map[string]any{"a": []any{int64(1), 2.5, nil, "ü", true}}},
		Bad:    map[string]map[string]any{"with.value": {}},
	})
}

// TestOutput: values that are not JSON are rejected with their path.
func TestOutput(t *testing.T) {
	set := steps.New(step.Env{})
	if got, err := set.Execute(context.Background(), steptest.Call("transform", map[string]any{"value": nil})); err != nil || got.Output != nil {
		t.Errorf("got %v, %v, want null", got.Output, err)
	}
	for want, value := range map[string]any{
		"output.a[0]: JSON has no number": map[string]any{"a": []any{math.Inf(1)}},
		"output.a: text is not valid":     map[string]any{"a": "\xff"},
		"output[1]: a chan int is not":    []any{nil, make(chan int)},
	} {
		_, err := set.Execute(context.Background(), steptest.Call("transform", map[string]any{"value": value}))
		steptest.Permanent(t, err, want)
	}
	_, err := set.Execute(context.Background(), steptest.Call("nothing", nil))
	steptest.Permanent(t, err, `no step type "nothing"`)
}
