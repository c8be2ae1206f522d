// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
)

func runOf(workflow, name string) *workflowv1alpha1.WorkflowRun {
	return &workflowv1alpha1.WorkflowRun{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       workflowv1alpha1.WorkflowRunSpec{WorkflowRef: workflowv1alpha1.WorkflowReference{Name: workflow}},
	}
}

func (w *world) run(workflow, name string) *workflowv1alpha1.WorkflowRun {
	w.t.Helper()
	run := runOf(workflow, name)
	w.create(run)
	return run
}

func TestRunMirrorsItsPhase(t *testing.T) {
	w := newWorld(t)
	run := w.run("orders", "one")
	w.Expect(condition(w, run, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).To(Equal("spec.workflowRef: Workflow orders does not exist; create it"))
	of := w.workflow(least("orders"))
	condition(w, run, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	w.platform("main")
	w.serve(of)
	ready(w, of)
	w.Expect(condition(w, run, common.ConditionReady, metav1.ConditionUnknown, workflowv1alpha1.ReasonRunning)).To(ContainSubstring("starts the run"))
	for _, phase := range []workflowv1alpha1.RunPhase{workflowv1alpha1.RunQueued, workflowv1alpha1.RunRunning, workflowv1alpha1.RunWaiting} {
		w.Expect(w.tell(run, map[string]any{"phase": phase, "run": "id"})).To(Succeed())
		w.Eventually(func() string {
			return condition(w, run, common.ConditionReady, metav1.ConditionUnknown, workflowv1alpha1.ReasonRunning)
		}).Should(ContainSubstring(string(phase)))
		w.Expect(meta.IsStatusConditionTrue(run.Status.Conditions, common.ConditionReconciling)).To(BeTrue())
	}
	w.Expect(w.tell(run, map[string]any{"phase": "Failed", "message": "step a: 500"})).To(Succeed())
	w.Expect(condition(w, run, common.ConditionReady, metav1.ConditionFalse, workflowv1alpha1.ReasonFailed)).To(Equal("The run is Failed: step a: 500"))
	w.Expect(meta.IsStatusConditionTrue(run.Status.Conditions, common.ConditionStalled)).To(BeTrue())
	w.Expect(meta.FindStatusCondition(run.Status.Conditions, common.ConditionReconciling)).To(BeNil())
	w.Expect(run.Status.Run).To(Equal("id"))

	for _, phase := range []string{"Cancelled", "TimedOut"} {
		other := w.run("orders", "o-"+map[string]string{"Cancelled": "c", "TimedOut": "t"}[phase])
		w.Expect(w.tell(other, map[string]any{"phase": phase})).To(Succeed())
		condition(w, other, common.ConditionReady, metav1.ConditionFalse, workflowv1alpha1.ReasonFailed)
	}
	done := w.run("orders", "done")
	w.Expect(w.tell(done, map[string]any{"phase": "Succeeded"})).To(Succeed())
	ready(w, done)
	w.Expect(done.OwnerReferences).To(BeEmpty())
}

// names of the WorkflowRuns that there are.
func (w *world) names() []string {
	var list workflowv1alpha1.WorkflowRunList
	w.Expect(w.client.List(w.ctx, &list, client.InNamespace(w.namespace))).To(Succeed())
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	slices.Sort(out)
	return out
}

func (w *world) end(name string, phase workflowv1alpha1.RunPhase, ago time.Duration) {
	w.t.Helper()
	run := &workflowv1alpha1.WorkflowRun{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	w.Expect(w.tell(run, map[string]any{"phase": phase, "finishedAt": w.clock.Now().Add(-ago).UTC().Format(time.RFC3339)})).To(Succeed())
}

func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	of := w.workflow(least("orders"), func(of *workflowv1alpha1.Workflow) {
		of.Spec.History = workflowv1alpha1.History{Successful: ptr.To[int32](2), Failed: ptr.To[int32](1), TTL: metav1.Duration{Duration: 24 * time.Hour}}
	})
	for i := range 4 {
		w.run("orders", fmt.Sprintf("good-%d", i))
		w.run("orders", fmt.Sprintf("bad-%d", i))
	}
	kept := runOf("orders", "kept")
	kept.Spec.TTLAfterFinished = &metav1.Duration{Duration: 48 * time.Hour}
	w.create(kept)
	active := w.run("orders", "active")
	w.run("elsewhere", "orphan")
	for i := range 4 {
		w.end(fmt.Sprintf("good-%d", i), workflowv1alpha1.RunSucceeded, time.Duration(10-i)*time.Minute)
		w.end(fmt.Sprintf("bad-%d", i), []workflowv1alpha1.RunPhase{"Failed", "Cancelled", "TimedOut", "Failed"}[i], time.Duration(10-i)*time.Minute)
	}
	w.end("kept", workflowv1alpha1.RunSucceeded, 20*time.Minute)
	w.end("orphan", workflowv1alpha1.RunSucceeded, 30*time.Minute)
	w.Eventually(w.names).Should(Equal([]string{"active", "bad-3", "good-2", "good-3", "kept", "orphan"}))
	why := condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Eventually(func() string {
		return condition(w, active, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	}).Should(ContainSubstring(why))
	w.quiet()
	w.requests.Reset()
	w.Consistently(w.requests.Writes, time.Second).Should(BeEmpty())

	// A changed history applies to existing runs, and ttl removes the rest. A run that has not ended is not part of the history.
	edit(w, of, func(of *workflowv1alpha1.Workflow) { of.Spec.History.Successful = ptr.To[int32](1) })
	w.Eventually(w.names).Should(Equal([]string{"active", "bad-3", "good-3", "kept", "orphan"}))
	w.stop()
	w.clock.Add(25 * time.Hour)
	w.start()
	w.Eventually(w.names).Should(Equal([]string{"active", "kept"}))
	w.stop()
	w.clock.Add(25 * time.Hour)
	w.start()
	w.Eventually(w.names).Should(Equal([]string{"active"}))

	// When the Workflow is gone, what has ended is kept for an hour.
	w.Expect(w.client.Delete(w.ctx, of)).To(Succeed())
	w.end("active", workflowv1alpha1.RunFailed, 59*time.Minute)
	w.quiet()
	w.Expect(w.names()).To(Equal([]string{"active"}))
	w.stop()
	w.clock.Add(2 * time.Minute)
	w.start()
	w.Eventually(w.names).Should(BeEmpty())
}

// TestExpired is the table of what goes when.
func TestExpired(t *testing.T) {
	now := time.Now()
	run := func(name string, phase workflowv1alpha1.RunPhase, ago time.Duration, ttl ...time.Duration) workflowv1alpha1.WorkflowRun {
		r := *runOf("a", name)
		r.Status.Phase, r.Status.FinishedAt = phase, ptr.To(metav1.NewTime(now.Add(-ago)))
		if len(ttl) > 0 {
			r.Spec.TTLAfterFinished = &metav1.Duration{Duration: ttl[0]}
		}
		return r
	}
	of := func(successful, failed int32, ttl time.Duration) *workflowv1alpha1.Workflow {
		w := least("a")
		w.Spec.History = workflowv1alpha1.History{Successful: &successful, Failed: &failed, TTL: metav1.Duration{Duration: ttl}}
		return w
	}
	for name, test := range map[string]struct {
		workflow *workflowv1alpha1.Workflow
		runs     []workflowv1alpha1.WorkflowRun
		gone     []string
		again    time.Duration
	}{
		"nothing ended":   {of(0, 0, time.Hour), []workflowv1alpha1.WorkflowRun{run("a", "Running", time.Hour), run("b", "", 0)}, nil, 0},
		"none kept":       {of(0, 0, time.Hour), []workflowv1alpha1.WorkflowRun{run("a", "Succeeded", 0), run("b", "Failed", 0)}, []string{"b", "a"}, 0},
		"oldest first":    {of(1, 1, time.Hour), []workflowv1alpha1.WorkflowRun{run("new", "Succeeded", 1), run("old", "Succeeded", 3), run("mid", "Succeeded", 2)}, []string{"old", "mid"}, time.Hour - 1},
		"by time":         {of(9, 9, time.Hour), []workflowv1alpha1.WorkflowRun{run("a", "Failed", time.Hour), run("b", "Failed", time.Hour-time.Minute)}, []string{"a"}, time.Minute},
		"its own time":    {of(0, 0, time.Hour), []workflowv1alpha1.WorkflowRun{run("a", "Failed", 0, time.Minute), run("b", "Failed", 0, 0)}, []string{"b"}, time.Minute},
		"not counted":     {of(1, 0, time.Hour), []workflowv1alpha1.WorkflowRun{run("a", "Succeeded", 0, 2*time.Hour), run("b", "Succeeded", time.Minute)}, nil, time.Hour - time.Minute},
		"gone":            {nil, []workflowv1alpha1.WorkflowRun{run("a", "Failed", time.Hour), run("b", "Succeeded", time.Minute)}, []string{"a"}, 59 * time.Minute},
		"without a bound": {least("a"), []workflowv1alpha1.WorkflowRun{run("a", "Failed", 0)}, nil, 168 * time.Hour},
	} {
		gone, again := expired(test.workflow, test.runs, now)
		var names []string
		for _, r := range gone {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, test.gone) || again != test.again {
			t.Errorf("%s: %v and %s, want %v and %s", name, names, again, test.gone, test.again)
		}
	}
}
