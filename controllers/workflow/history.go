// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
)

const (
	// keptRuns and keptFor apply where a caller bypassed the API server's defaults.
	keptRuns, keptFor = 10, 168 * time.Hour
	// orphanFor is how long a finished run is kept after its Workflow is deleted.
	orphanFor = time.Hour
)

// history deletes finished WorkflowRuns that are beyond a Workflow's history. Requests name Workflows, which may be gone.
type history struct{ *Controller }

// Reconcile implements controller-runtime's reconcile.Reconciler.
func (h *history) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	w := &workflowv1alpha1.Workflow{}
	err := h.Client.Get(ctx, req.NamespacedName, w)
	if apierrors.IsNotFound(err) {
		w = nil
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("read Workflow: %w", err)
	}
	var runs workflowv1alpha1.WorkflowRunList
	if err := h.Client.List(ctx, &runs, client.MatchingFields{indexWorkflow: req.String()}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list WorkflowRuns: %w", err)
	}
	gone, again := expired(w, runs.Items, h.Now())
	for _, run := range gone {
		uid := run.UID
		err := h.Client.Delete(ctx, run, client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return ctrl.Result{}, fmt.Errorf("delete WorkflowRun %s: %w", run.Name, err)
		}
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// expired returns the runs to delete, oldest first, and when the next one expires (zero: never by time). w is nil when the
// Workflow is gone.
func expired(w *workflowv1alpha1.Workflow, runs []workflowv1alpha1.WorkflowRun, now time.Time) (gone []*workflowv1alpha1.WorkflowRun, again time.Duration) {
	var ended []*workflowv1alpha1.WorkflowRun
	for i := range runs {
		if runs[i].Status.Phase.Ended() && runs[i].DeletionTimestamp.IsZero() {
			ended = append(ended, &runs[i])
		}
	}
	slices.SortFunc(ended, func(a, b *workflowv1alpha1.WorkflowRun) int { return finished(b).Compare(finished(a)) })
	left := map[bool]int32{true: keptRuns, false: keptRuns}
	ttl := orphanFor
	if w != nil {
		left[true], left[false] = orDefault(w.Spec.History.Successful), orDefault(w.Spec.History.Failed)
		if ttl = w.Spec.History.TTL.Duration; ttl == 0 {
			ttl = keptFor
		}
	}
	for _, run := range ended { // the newest first
		due := ttl
		switch succeeded := run.Status.Phase == workflowv1alpha1.RunSucceeded; {
		case run.Spec.TTLAfterFinished != nil:
			due = run.Spec.TTLAfterFinished.Duration // it counts for nothing else
		case w != nil && left[succeeded] == 0:
			due = 0
		case w != nil:
			left[succeeded]--
		}
		if rest := finished(run).Add(due).Sub(now); due > 0 && rest > 0 {
			if again == 0 || rest < again {
				again = rest
			}
			continue
		}
		gone = append(gone, run)
	}
	slices.Reverse(gone)
	return gone, again
}

func orDefault(n *int32) int32 {
	if n == nil {
		return keptRuns
	}
	return *n
}

// finished returns when a run ended.
func finished(run *workflowv1alpha1.WorkflowRun) time.Time {
	var at *metav1.Time
	if at = run.Status.FinishedAt; at == nil {
		at = &run.CreationTimestamp
	}
	return at.Time
}
