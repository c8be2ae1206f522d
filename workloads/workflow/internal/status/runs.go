// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// runStatus has the fields of a WorkflowRun's status that the service owns.
type runStatus struct {
	Run                string              `json:"run,omitempty"`
	WorkflowGeneration int64               `json:"workflowGeneration,omitempty"`
	Phase              workflowv1.RunPhase `json:"phase,omitempty"`
	Step               string              `json:"step,omitempty"`
	StartedAt          *metav1.Time        `json:"startedAt,omitempty"`
	FinishedAt         *metav1.Time        `json:"finishedAt,omitempty"`
	Duration           string              `json:"duration,omitempty"`
	Message            string              `json:"message,omitempty"`
}

func statusOf(r *workflowv1.WorkflowRun) runStatus {
	s := &r.Status
	return runStatus{s.Run, s.WorkflowGeneration, s.Phase, s.Step, s.StartedAt, s.FinishedAt, s.Duration, s.Message}
}

// progressAtOnce bounds the runs of one query.
const progressAtOnce = 1000

// workflowRuns starts the runs of new WorkflowRuns, and reports the progress of those that have not ended.
func (w *Writer) workflowRuns(ctx context.Context) error {
	all, err := kinds.List[*workflowv1.WorkflowRun](ctx, w.options.Resources)
	if err != nil {
		return err
	}
	var errs []error
	var writes []write
	active := map[string]*workflowv1.WorkflowRun{}
	for _, r := range all {
		if r.Status.Phase.Ended() || !r.DeletionTimestamp.IsZero() {
			continue
		}
		run := r.Status.Run
		if run == "" {
			run = w.started[r.UID]
		}
		if run == "" {
			status, err := w.start(ctx, r)
			errs = append(errs, err)
			if status != nil {
				writes = append(writes, runWrite(r, *status))
			}
			run = w.started[r.UID]
		}
		if run != "" {
			errs = append(errs, w.cancel(ctx, r, run))
			active[run] = r
		}
	}
	more, err := w.progress(ctx, active)
	return errors.Join(append(errs, err, w.apply(ctx, append(writes, more...)))...)
}

func runWrite(r *workflowv1.WorkflowRun, status runStatus) write {
	return write{&workflowv1.WorkflowRun{ObjectMeta: metav1.ObjectMeta{Name: r.Name, UID: r.UID}}, statusOf(r), status}
}

// start starts the run, or returns a status with the reason why it cannot. Its key makes a repeated start return the same run.
func (w *Writer) start(ctx context.Context, r *workflowv1.WorkflowRun) (*runStatus, error) {
	if time.Now().Before(w.later[r.UID]) {
		return nil, nil
	}
	name := r.Spec.WorkflowRef.Name
	e, ok := w.options.Catalog.Get(name)
	if !ok {
		_, exists, err := kinds.Get[*workflowv1.Workflow](ctx, w.options.Resources, name)
		if err != nil || exists { // it belongs to another Platform
			return nil, err
		}
		w.later[r.UID] = time.Now().Add(retryEvery)
		return &runStatus{Message: fmt.Sprintf("there is no Workflow %s: create it, or delete this WorkflowRun", name)}, nil
	}
	if r.Spec.Cancel {
		return &runStatus{Phase: workflowv1.RunCancelled, Message: "spec.cancel was set before the run started"}, nil
	}
	key := "workflowrun/" + string(r.UID)
	var id string
	var err error
	if r.Spec.Rerun != nil {
		id, err = w.rerun(ctx, r, key)
	} else {
		id, err = w.launch(ctx, r, e, key)
	}
	if err == nil {
		w.started[r.UID] = id
		delete(w.later, r.UID)
		return nil, nil
	}
	return w.refused(r, err)
}

var errNoManual = errors.New("the Workflow has no trigger of type Manual")

func (w *Writer) launch(ctx context.Context, r *workflowv1.WorkflowRun, e *catalog.Entry, key string) (string, error) {
	manual := ""
	for i := range e.Workflow.Spec.Triggers {
		if t := &e.Workflow.Spec.Triggers[i]; t.Type == workflowv1.TriggerManual && manual == "" {
			manual = t.Name
		}
	}
	if manual == "" {
		return "", errNoManual
	}
	var inputs map[string]any
	if r.Spec.Inputs != nil {
		if err := json.Unmarshal(r.Spec.Inputs.Raw, &inputs); err != nil {
			return "", fmt.Errorf("spec.inputs: %w: %w", backend.ErrInvalid, err)
		}
	}
	started, err := w.options.Launcher.Start(ctx, launch.Request{
		Workflow: e.Workflow.Name, Trigger: manual, Inputs: inputs, Key: key,
		Info: definition.TriggerInfo{Type: string(definition.Manual), Name: manual, Headers: map[string]string{"workflowrun": r.Name}},
	})
	return started.ID, err
}

func (w *Writer) rerun(ctx context.Context, r *workflowv1.WorkflowRun, key string) (string, error) {
	from := r.Spec.Rerun
	origin, err := w.options.Engine.Store().Get(ctx, from.Run)
	if err == nil && origin.Workflow != r.Spec.WorkflowRef.Name {
		err = store.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("spec.rerun.run: workflow %s: %w", r.Spec.WorkflowRef.Name, err)
	}
	id, _, err := w.options.Engine.Rerun(ctx, from.Run, from.FromStep, key)
	if err != nil {
		err = fmt.Errorf("spec.rerun: %w", err)
	}
	return id, err
}

// refused returns a status with the reason why a run did not start, permanently or temporarily.
func (w *Writer) refused(r *workflowv1.WorkflowRun, err error) (*runStatus, error) {
	var input *definition.InputError
	name := r.Spec.WorkflowRef.Name
	w.later[r.UID] = time.Now().Add(retryEvery)
	switch {
	case errors.Is(err, errNoManual), errors.Is(err, launch.ErrNoTrigger):
		return &runStatus{Message: fmt.Sprintf("Workflow %s has no trigger of type Manual: add one to its spec.triggers", name)}, nil
	case errors.Is(err, launch.ErrInvalidDefinition):
		return &runStatus{Message: fmt.Sprintf("the definition of Workflow %s is invalid: see its condition Accepted", name)}, nil
	case errors.Is(err, launch.ErrSuspended):
		return &runStatus{Message: fmt.Sprintf("Workflow %s is suspended: the run starts when its spec.suspend is false", name)}, nil
	case errors.Is(err, launch.ErrNoWorkflow):
		return nil, nil // it was just deleted: the next call of start reports it
	case errors.As(err, &input), errors.Is(err, backend.ErrInvalid), errors.Is(err, backend.ErrNotFound), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrBusy):
		return &runStatus{Phase: workflowv1.RunFailed, Message: err.Error()}, nil
	}
	delete(w.later, r.UID)
	return nil, err
}

// cancel cancels the run once if spec.cancel is set.
func (w *Writer) cancel(ctx context.Context, r *workflowv1.WorkflowRun, run string) error {
	if !r.Spec.Cancel || w.cancelled[r.UID] {
		return nil
	}
	err := w.options.Engine.Cancel(ctx, run, "spec.cancel of WorkflowRun "+r.Name+" is set")
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	w.cancelled[r.UID] = true
	return nil
}

// progress returns the statuses of the runs. The status of a deleted run does not change.
func (w *Writer) progress(ctx context.Context, active map[string]*workflowv1.WorkflowRun) ([]write, error) {
	var out []write
	ids := make([]string, 0, progressAtOnce)
	flush := func() error {
		found, err := w.options.Engine.Store().Progresses(ctx, ids)
		for id, p := range found {
			out = append(out, runWrite(active[id], progressOf(p)))
		}
		ids = ids[:0]
		return err
	}
	for id := range active {
		if ids = append(ids, id); len(ids) == progressAtOnce {
			if err := flush(); err != nil {
				return out, err
			}
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	return out, flush()
}

func progressOf(p store.Progress) runStatus {
	s := runStatus{
		Run: p.ID, WorkflowGeneration: p.Generation, Phase: workflowv1.RunPhase(p.Phase), Step: p.Step, Message: p.Error,
		StartedAt: seconds(p.Started), FinishedAt: seconds(p.Finished),
	}
	if p.Started != nil && p.Finished != nil {
		took := p.Finished.Sub(*p.Started)
		if took = took.Round(time.Millisecond); took >= time.Minute {
			took = took.Round(time.Second)
		}
		s.Duration = took.String()
	}
	return s
}
