// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// TestOfOneSecondTheLesserUIDHasTheWebhook: controller and service order Workflows alike, whatever they are called.
func TestOfOneSecondTheLesserUIDHasTheWebhook(t *testing.T) {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	workflow := func(name string, uid types.UID) *workflowv1alpha1.Workflow {
		w := hooked(name, "same/path")
		w.Namespace, w.UID, w.CreationTimestamp = "ns", uid, made
		return w
	}
	older, younger := workflow("z", "1"), workflow("a", "2")
	scheme := runtime.NewScheme()
	if err := workflowv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := newController(fake.NewClientBuilder().WithScheme(scheme).WithObjects(older, younger).
		WithIndex(&workflowv1alpha1.Workflow{}, indexWebhook, func(obj client.Object) []string {
			return webhookKeys(obj.(*workflowv1alpha1.Workflow))
		}).Build(), time.Now)
	for _, w := range []*workflowv1alpha1.Workflow{older, younger} {
		if err := c.check(w); err != nil {
			t.Fatal(err)
		}
	}
	main := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "main"}}
	if err := (&pass{c: c, workflow: older, platform: main}).conflicts(t.Context()); err != nil {
		t.Errorf("the older one: %v", err)
	}
	err := (&pass{c: c, workflow: younger, platform: main}).conflicts(t.Context())
	if err == nil {
		t.Fatal("the younger one has the path as well")
	}
	if reason, _ := reconcile.Classify(err); reason != common.ReasonConflict {
		t.Errorf("the younger one: %v", err)
	}
}
