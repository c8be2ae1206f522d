// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// workflowStatus has the fields of a Workflow's status that the service owns. The controller owns the conditions.
type workflowStatus struct {
	ServedGeneration int64                      `json:"servedGeneration,omitempty"`
	Runs             workflowv1.RunCounts       `json:"runs"`
	LastRun          *workflowv1.LastRun        `json:"lastRun,omitempty"`
	Next             *metav1.Time               `json:"next,omitempty"`
	ReadyTriggers    string                     `json:"readyTriggers,omitempty"`
	Triggers         []workflowv1.TriggerStatus `json:"triggers,omitempty"`
}

// watch signals changes of Workflows and WorkflowRuns.
func watch(ctx context.Context, resources *kinds.Store, changed chan<- struct{}) error {
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := kinds.OnChange[*workflowv1.Workflow](ctx, resources, notify); err != nil {
		return err
	}
	return kinds.OnChange[*workflowv1.WorkflowRun](ctx, resources, notify)
}

// workflows writes the changed statuses of Workflows.
func (w *Writer) workflows(ctx context.Context) error {
	if now := time.Now(); now.Sub(w.counted) >= countEvery {
		runs, err := w.options.Engine.Store().Summaries(ctx)
		if err != nil {
			return err
		}
		counts, err := w.options.Launcher.Counts(ctx)
		if err != nil {
			return err
		}
		w.counted, w.runs, w.counts = now, runs, counts
	}
	var writes []write
	for _, e := range w.options.Catalog.All() {
		was := e.Workflow.Status
		object := &workflowv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: e.Workflow.Name, UID: e.Workflow.UID}}
		writes = append(writes, write{object, workflowStatus{was.ServedGeneration, was.Runs, was.LastRun, was.Next, was.ReadyTriggers, was.Triggers}, w.workflow(e)})
	}
	return w.apply(ctx, writes)
}

func (w *Writer) workflow(e *catalog.Entry) workflowStatus {
	name := e.Workflow.Name
	out := workflowStatus{ServedGeneration: e.Workflow.Status.ServedGeneration}
	if e.Program != nil {
		out.ServedGeneration = e.Workflow.Generation
	}
	summary := w.runs[name]
	for phase, n := range summary.Phases {
		switch phase {
		case store.Queued:
			out.Runs.Queued += n
		case store.Succeeded:
			out.Runs.Succeeded += n
		case store.Failed, store.TimedOut:
			out.Runs.Failed += n
		case store.Cancelled:
			out.Runs.Cancelled += n
		default:
			out.Runs.Active += n
		}
	}
	if last := summary.Last; last.ID != "" {
		out.LastRun = &workflowv1.LastRun{ID: last.ID, Phase: workflowv1.RunPhase(last.Phase), StartedAt: seconds(last.Started)}
	}
	ready := 0
	for i := range e.Workflow.Spec.Triggers {
		t := w.trigger(name, &e.Workflow.Spec.Triggers[i])
		if time.Since(w.began) < grace {
			keepReady(&t, &e.Workflow.Status, e.Workflow.Generation)
		}
		if t.Ready {
			ready++
		}
		if t.NextFire != nil && (out.Next == nil || t.NextFire.Before(out.Next)) {
			out.Next = t.NextFire
		}
		out.Triggers = append(out.Triggers, t)
	}
	out.ReadyTriggers = fmt.Sprintf("%d/%d", ready, len(out.Triggers))
	return out
}

// keepReady keeps a trigger ready that was ready before a restart and may still be starting.
func keepReady(t *workflowv1.TriggerStatus, was *workflowv1.WorkflowStatus, generation int64) {
	for i := range was.Triggers {
		before := &was.Triggers[i]
		if before.Name != t.Name || !before.Ready || was.ServedGeneration != generation {
			continue
		}
		if t.Ready, t.Message = true, ""; t.NextFire == nil {
			t.NextFire = before.NextFire
		}
	}
}

func (w *Writer) trigger(workflow string, spec *workflowv1.Trigger) workflowv1.TriggerStatus {
	out := workflowv1.TriggerStatus{Name: spec.Name}
	out.Ready, out.Message = w.options.Triggers.State(workflow, spec.Name)
	if spec.Webhook != nil && w.options.URL != "" {
		out.URL = strings.TrimSuffix(w.options.URL, "/") + "/api/v1/webhooks/" + spec.Webhook.Path
	}
	if spec.Scheduled != nil {
		next, _ := w.options.Triggers.Schedule(workflow, spec.Name)
		out.NextFire = seconds(&next)
	}
	count := w.counts[workflow][spec.Name]
	out.Rejected, out.LastFired = count.Rejected, seconds(&count.Fired)
	return out
}

// seconds returns a time truncated to seconds, or nil for none.
func seconds(t *time.Time) *metav1.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}
