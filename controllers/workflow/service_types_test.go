// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"testing"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

var serviceSchema = ctrltest.Schema{Kind: workflowv1alpha1.GroupVersion.WithKind("WorkflowService"), Base: "platformRef: {name: main}"}

// Each rule of Workflow's own has a case that it accepts and one that it refuses.
func TestServiceSchemaOnCreate(t *testing.T) {
	serviceSchema.OnCreate(t, []ctrltest.Creation{
		{"a worker", `worker: {replicas: 100, slots: 1000, image: "w:1"}, maxOutputBytes: 8388608`, ""},
		{"no worker", `worker: {replicas: 0}`, "spec.worker.replicas"},
		{"too many workers", `worker: {replicas: 101}`, "spec.worker.replicas"},
		{"no slot", `worker: {slots: 0}`, "spec.worker.slots"},
		{"too many slots", `worker: {slots: 1001}`, "spec.worker.slots"},
		{"a worker without an image", `worker: {image: ""}`, "spec.worker.image"},
		{"small outputs", `maxOutputBytes: 1023`, "spec.maxOutputBytes"},
		{"outputs for a bucket", `maxOutputBytes: 67108864`, ""},
		{"large outputs", `maxOutputBytes: 67108865`, "spec.maxOutputBytes"},
	})
}

func TestServiceDefaults(t *testing.T) {
	var s workflowv1alpha1.WorkflowService
	serviceSchema.Defaulted(t, ``, &s)
	if s.Spec.Worker.Replicas != 1 || s.Spec.Worker.Slots != 100 || s.Spec.MaxOutputBytes != 256<<10 || s.Status.ObservedGeneration != -1 {
		t.Errorf("%+v, observed %d", s.Spec, s.Status.ObservedGeneration)
	}
}
