// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Workflow is a resource with its state in the service.
type Workflow struct {
	Name       string    `json:"name"`
	Generation int64     `json:"generation"`
	Suspended  bool      `json:"suspended"`
	Proven     bool      `json:"proven" doc:"whether runs can be started; if not, see problems"`
	Problems   []Mistake `json:"problems" nullable:"false"`
	CreatedAt  time.Time `json:"createdAt"`
	// Spec is left out of lists.
	Spec   *workflowSpec   `json:"spec,omitempty" doc:"as in the resource"`
	Status *workflowStatus `json:"status,omitempty" doc:"as in the resource"`
}

func workflowOf(e *catalog.Entry, whole bool) Workflow {
	w := e.Workflow
	out := Workflow{
		Name: w.Name, Generation: w.Generation, Suspended: w.Spec.Suspend, Proven: e.Program != nil, Problems: problemsOf(e.Problems),
		CreatedAt: w.CreationTimestamp.Time, Status: (*workflowStatus)(&w.Status),
	}
	if whole {
		out.Spec = (*workflowSpec)(&w.Spec)
	}
	return out
}

// Mistake is one problem of a definition.
type Mistake struct {
	Path    string `json:"path" doc:"such as spec.steps[3].when"`
	Message string `json:"message"`
}

func problemsOf(err error) []Mistake {
	out := []Mistake{}
	if list, ok := errors.AsType[*definition.Problems](err); ok {
		for _, p := range list.List {
			out = append(out, Mistake(p))
		}
	} else if err != nil {
		out = append(out, Mistake{Path: "spec", Message: err.Error()})
	}
	return out
}

// Run is one execution of a workflow.
type Run struct {
	ID         string     `json:"id" format:"uuid"`
	Workflow   string     `json:"workflow"`
	Generation int64      `json:"generation" doc:"of the Workflow when the run started; it does not change"`
	Phase      string     `json:"phase" enum:"Queued,Running,Waiting,Succeeded,Failed,Cancelled,TimedOut"`
	Step       string     `json:"step,omitempty" doc:"the first active step; left out of lists"`
	Trigger    RunTrigger `json:"trigger"`
	Attempt    int        `json:"attempt" doc:"1, plus one for each re-run"`
	RerunOf    string     `json:"rerunOf,omitempty" doc:"the run that this one is a re-run of"`
	RerunFrom  string     `json:"rerunFrom,omitempty" doc:"the first step that ran again"`
	Error      string     `json:"error,omitempty" doc:"why the run did not succeed"`
	CreatedAt  time.Time  `json:"createdAt"`
	StartedAt  *time.Time `json:"startedAt,omitempty"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	Deadline   *time.Time `json:"deadline,omitempty" doc:"when the run times out"`
	// Inputs and Outputs are left out of lists.
	Inputs  json.RawMessage `json:"inputs,omitempty" doc:"by name; left out of lists"`
	Outputs map[string]any  `json:"outputs,omitempty" doc:"by name, of a succeeded run; left out of lists"`
}

// RunTrigger is the trigger that started a run.
type RunTrigger struct {
	Type        string     `json:"type"`
	Name        string     `json:"name,omitempty"`
	ScheduledAt *time.Time `json:"scheduledAt,omitempty"`
}

func runOf(r *store.Run) Run {
	out := Run{
		ID: r.ID, Workflow: r.Workflow, Generation: r.Generation, Phase: string(r.Phase), Attempt: r.Attempt, RerunOf: r.RerunOf, RerunFrom: r.RerunFrom,
		Error: r.Error, CreatedAt: r.Created, StartedAt: r.Started, FinishedAt: r.Finished, Deadline: r.Deadline,
	}
	_ = json.Unmarshal(r.Trigger, &out.Trigger) // written by the engine; body and headers are left out
	return out
}

// run reads a complete run.
func (s *Service) run(ctx context.Context, id string) (Run, int64, error) {
	r, err := s.Engine.Store().Get(ctx, id)
	if err != nil {
		return Run{}, 0, err
	}
	out := runOf(&r)
	out.Inputs = r.Inputs
	switch {
	case r.Phase == store.Succeeded:
		// Recorded values do not change. An error here is in the workflow's expressions, and does not change the run's outcome.
		out.Outputs, err = s.Engine.Outputs(ctx, id)
		if errors.Is(err, backend.ErrUnavailable) {
			return Run{}, 0, err
		}
		if err != nil && out.Error == "" {
			s.Log.WarnContext(ctx, "could not read the outputs of a run", "run", id, "error", err)
		}
	case !r.Phase.Ended():
		if out.Step, err = s.Engine.Store().Current(ctx, id); err != nil {
			return Run{}, 0, err
		}
	}
	return out, r.Seq, nil
}

// Step is a step that has started, or an item of one.
type Step struct {
	Name       string          `json:"name"`
	Item       *int            `json:"item,omitempty" doc:"index within forEach"`
	Phase      string          `json:"phase" enum:"Pending,Ready,Running,Waiting,Succeeded,Failed,Skipped,Cancelled"`
	Attempt    int             `json:"attempt"`
	Output     json.RawMessage `json:"output,omitempty" doc:"a large value is {\"$object\": {bytes, href}}; GET href returns it"`
	Outputs    json.RawMessage `json:"outputs,omitempty" doc:"by name; large values as for output"`
	Error      string          `json:"error,omitempty"`
	WaitsFor   json.RawMessage `json:"waitsFor,omitempty" doc:"of an approval: approvers and message"`
	Resumable  bool            `json:"resumable" doc:"whether the step can be resumed or decided on"`
	Due        *time.Time      `json:"due,omitempty" doc:"when the step continues by itself"`
	StartedAt  *time.Time      `json:"startedAt,omitempty"`
	FinishedAt *time.Time      `json:"finishedAt,omitempty"`
}

func stepOf(r *store.Run, x *store.Step) Step {
	out := Step{
		Name: x.Name, Phase: string(x.Phase), Attempt: x.Attempt, Output: withLinks(r, x, x.Output, "/output"), Outputs: withLinks(r, x, x.Outputs, "/outputs"), Error: x.Error, Resumable: x.Resumable,
		Due: x.Due, StartedAt: x.Started, FinishedAt: x.Finished,
	}
	if x.Phase == store.Waiting {
		out.WaitsFor = x.Detail
	}
	if x.Item >= 0 {
		out.Item = &x.Item
	}
	return out
}

// size returns the approximate size in a response.
func (s *Step) size() int {
	const around = 512
	return around + len(s.Output) + len(s.Outputs) + len(s.Error) + len(s.WaitsFor)
}

// Event is an entry of a run's history.
type Event struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind" doc:"such as RunCreated, StepStarted, StepSucceeded, RunFailed"`
	Step    string    `json:"step,omitempty" doc:"left out for events of the run"`
	Item    *int      `json:"item,omitempty" doc:"index within forEach"`
	Attempt int       `json:"attempt,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

func eventOf(e *store.Event) Event {
	out := Event{Seq: e.Seq, At: e.At, Kind: e.Kind, Step: e.Step, Attempt: e.Attempt, Detail: e.Detail}
	if e.Item >= 0 {
		out.Item = &e.Item
	}
	return out
}

// workflowSpec and workflowStatus are documented as plain objects: the resource has its own documentation.
type (
	workflowSpec   workflowv1.WorkflowSpec
	workflowStatus workflowv1.WorkflowStatus
)

// Schema implements huma.SchemaProvider.
func (workflowSpec) Schema(huma.Registry) *huma.Schema { return anyObject() }

// Schema implements huma.SchemaProvider.
func (workflowStatus) Schema(huma.Registry) *huma.Schema { return anyObject() }

func anyObject() *huma.Schema { return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true} }
