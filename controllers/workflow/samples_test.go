// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// TestSamplesAreProven applies each sample and proves its definition; there is one for each type of trigger.
func TestSamplesAreProven(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(ctrltest.Root(), "config", "samples", "workflow", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	w := newCell(t)
	seen := map[workflowv1alpha1.TriggerType]bool{}
	runs := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			switch {
			case bytes.Contains(document, []byte("\nkind: WorkflowRun\n")):
				run := &workflowv1alpha1.WorkflowRun{}
				if err := yaml.UnmarshalStrict(document, run); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				w.create(run)
				runs++
			case bytes.Contains(document, []byte("\nkind: Workflow\n")):
				of := &workflowv1alpha1.Workflow{}
				if err := yaml.UnmarshalStrict(document, of); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				w.create(of)
				if err := reconcile.Invalid(validate(of)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				for i := range of.Spec.Triggers {
					seen[of.Spec.Triggers[i].Type] = true
				}
			}
		}
	}
	if len(seen) != 5 || runs == 0 {
		t.Errorf("triggers %v, %d runs", seen, runs)
	}
}
