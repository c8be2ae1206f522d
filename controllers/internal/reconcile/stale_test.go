// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
)

// outcome is a pass whose only step ends as it says.
type outcome struct{ err error }

func (o outcome) Steps() []Step {
	return []Step{{Name: "step", Run: func(context.Context) error { return o.err }}}
}
func (o outcome) Finalize(context.Context) error                      { return nil }
func (o outcome) Finish(context.Context, error) (after time.Duration) { return 0 }

// TestStaleCacheHidesNothing: things go wrong and are well again before the cache has the status that told so.
func TestStaleCacheHidesNothing(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := workflowv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	object := &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "w"}}
	key := client.ObjectKeyFromObject(object)
	var cached *workflowv1alpha1.Workflow // what a cache that is behind answers; nil: it is not
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(object).WithStatusSubresource(object).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if cached != nil {
				cached.DeepCopyInto(obj.(*workflowv1alpha1.Workflow))
				return nil
			}
			return c.Get(ctx, key, obj, opts...)
		},
	}).Build()
	now := outcome{}
	r := &Reconciler[*workflowv1alpha1.Workflow]{
		Client: c, New: func() *workflowv1alpha1.Workflow { return &workflowv1alpha1.Workflow{} },
		NewPass: func(*workflowv1alpha1.Workflow) Pass { return now },
	}
	pass := func(o outcome) ctrl.Result {
		t.Helper()
		now = o
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	ready := func() bool {
		t.Helper()
		var live workflowv1alpha1.Workflow
		if err := c.Get(t.Context(), key, &live); err != nil {
			t.Fatal(err)
		}
		return meta.IsStatusConditionTrue(live.Status.Conditions, common.ConditionReady)
	}
	pass(outcome{})
	var stale workflowv1alpha1.Workflow
	if err := c.Get(t.Context(), key, &stale); err != nil {
		t.Fatal(err)
	}
	pass(outcome{Wait("Away", "it is away")})
	if ready() {
		t.Fatal("Ready although the step waits")
	}
	cached = &stale // Ready, as it is to be again
	if again := pass(outcome{}).RequeueAfter; again <= 0 {
		t.Fatal("a pass on a cache that is behind must come again")
	}
	cached = nil
	if pass(outcome{}); !ready() {
		t.Error("the status says what was, not what is")
	}

	// Versions that begin again, after a restore, are not waited for without end.
	cached = &stale
	last := r.wrote[key]
	last.at = time.Now().Add(-longestLag)
	r.wrote[key] = last
	if again := pass(outcome{}).RequeueAfter; again != 0 {
		t.Errorf("still waits for the cache: again after %s", again)
	}
}
