// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// TestOfOneSecondTheLesserUIDHasTheTopic: the order is the one of all kinds, whatever the Pipelines are called.
func TestOfOneSecondTheLesserUIDHasTheTopic(t *testing.T) {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	pipeline := func(name string, uid types.UID, topic string) *dataflowv1alpha1.Pipeline {
		p := newPipeline("ns", name)
		p.Spec.PlatformRef = &dataflowv1alpha1.PlatformReference{Name: "main"}
		p.Spec.Sources[0].Config = raw(topic)
		p.UID, p.CreationTimestamp = uid, made
		return p
	}
	older, younger := pipeline("z", "1", `{"topic":"one","partitions":1}`), pipeline("a", "2", `{"topic":"one","partitions":2}`)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{dataflowv1alpha1.AddToScheme, platformv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &Controller{Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(older, younger).
		WithIndex(&dataflowv1alpha1.Pipeline{}, indexExternal, func(obj client.Object) []string {
			return externalKeys(obj.(*dataflowv1alpha1.Pipeline))
		}).Build()}
	if err := (&pass{c: c, pipeline: older}).conflicts(t.Context()); err != nil {
		t.Errorf("the older one: %v", err)
	}
	err := (&pass{c: c, pipeline: younger}).conflicts(t.Context())
	if err == nil {
		t.Fatal("the younger one has the topic as well")
	}
	if reason, _ := reconcile.Classify(err); reason != common.ReasonConflict {
		t.Errorf("the younger one: %v", err)
	}
}
