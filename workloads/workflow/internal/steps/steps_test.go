// SPDX-License-Identifier: Apache-2.0

package steps_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func TestAll(t *testing.T) {
	var names []string
	for _, spec := range steps.All() {
		names = append(names, spec.Type)
		if !regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(spec.Type) || !strings.HasSuffix(spec.Summary, ".") || spec.New == nil {
			t.Errorf("%q: %q", spec.Type, spec.Summary)
		}
	}
	for _, name := range names {
		if !slices.Contains(definition.StepTypes(), name) {
			t.Errorf("definitions do not know type %q", name)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("types are %v, want each once and in order", names)
	}
}

func TestClose(t *testing.T) {
	set := steps.New(step.Env{})
	for range 2 {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}
}
