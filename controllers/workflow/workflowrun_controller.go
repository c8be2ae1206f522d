// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// runPass is one pass over one WorkflowRun: it sets its conditions, and the service does the rest.
type runPass struct {
	client client.Reader
	run    *workflowv1alpha1.WorkflowRun
}

// Steps implements reconcile.Pass.
func (p *runPass) Steps() []reconcile.Step {
	return []reconcile.Step{{Name: "phase", Run: p.phase}}
}

// Finalize implements reconcile.Pass: the run itself is the service's.
func (p *runPass) Finalize(context.Context) error { return nil }

// Finish implements reconcile.Pass. A run that is not finished has no outcome yet.
func (p *runPass) Finish(_ context.Context, err error) time.Duration {
	if reason, message := classify(err); reason == workflowv1alpha1.ReasonRunning {
		reconcile.Set(p.run, common.ConditionReady, metav1.ConditionUnknown, reason, message)
	}
	return 0
}

func classify(err error) (reason, message string) {
	if err == nil {
		return "", ""
	}
	return reconcile.Classify(err)
}

// phase mirrors what the service reports or, before it has reported anything, what it waits for.
func (p *runPass) phase(ctx context.Context) error {
	switch s := &p.run.Status; {
	case s.Phase == "":
		return p.awaited(ctx)
	case !s.Phase.Ended():
		// It leaves out the step: each would be another write.
		return reconcile.Wait(workflowv1alpha1.ReasonRunning, "The run is %s; status.step tells where.", s.Phase)
	case s.Phase == workflowv1alpha1.RunSucceeded:
		return nil
	case s.Message != "":
		return reconcile.Stall(workflowv1alpha1.ReasonFailed, "The run is %s: %s", s.Phase, s.Message)
	default:
		return reconcile.Stall(workflowv1alpha1.ReasonFailed, "The run is %s.", s.Phase)
	}
}

func (p *runPass) awaited(ctx context.Context) error {
	name := p.run.Spec.WorkflowRef.Name
	var w workflowv1alpha1.Workflow
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.run.Namespace, Name: name}, &w)
	if apierrors.IsNotFound(err) {
		return reconcile.Wait(common.ReasonReferenceNotFound, "spec.workflowRef: Workflow %s does not exist; create it", name)
	}
	if err != nil {
		return fmt.Errorf("spec.workflowRef: read Workflow: %w", err)
	}
	ready := meta.FindStatusCondition(w.Status.Conditions, common.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue {
		message := "it is being set up"
		if ready != nil {
			message = ready.Message
		}
		return reconcile.Wait(common.ReasonReferenceNotReady, "spec.workflowRef: Workflow %s is not Ready: %s", name, message)
	}
	return reconcile.Wait(workflowv1alpha1.ReasonRunning, "The Workflow service starts the run.")
}

var _ reconcile.Pass = (*runPass)(nil)
