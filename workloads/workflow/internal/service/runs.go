// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	pathWorkflowRuns = "/workflows/{name}/runs"
	pathRuns         = "/runs"
	pathRun          = "/runs/{id}"
)

func (s *Service) registerRuns(rest huma.API) {
	start := operation("start-run", http.MethodPost, pathWorkflowRuns, "Start a run")
	start.Description = "Without a trigger the run counts as started by a person, at the workflow's Manual trigger. A trigger of type API is for programs; " +
		"repeated starts with the same value of the header that it names return the same run."
	huma.Register(rest, start, s.startRun)
	api.AlsoAnswers(start, map[string]string{"201": "A new run"})
	huma.Register(rest, operation("list-workflow-runs", http.MethodGet, pathWorkflowRuns, "List the runs of a workflow, newest first"), s.listWorkflowRuns)
	huma.Register(rest, operation("list-runs", http.MethodGet, pathRuns, "List runs, newest first"), s.listRuns)
	huma.Register(rest, operation("get-run", http.MethodGet, pathRun, "Get a run", http.StatusNotModified), s.getRun)
	huma.Register(rest, operation("list-steps", http.MethodGet, pathRun+"/steps", "List the started steps of a run, in order"), s.listSteps)
	huma.Register(rest, operation("list-events", http.MethodGet, pathRun+"/events", "List the events of a run, oldest first"), s.listEvents)
}

// WorkflowInput is the workflow of a request.
type WorkflowInput struct {
	Name string `path:"name" minLength:"1" maxLength:"253" pattern:"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"`
}

func (in *WorkflowInput) object() string { return "workflow/" + in.Name }

// RunInput is the run of a request.
type RunInput struct {
	ID string `path:"id" format:"uuid"`
}

func (in *RunInput) object() string { return "run/" + in.ID }

// Headers are all headers of a request.
type Headers struct{ header http.Header }

// Resolve implements huma.Resolver.
func (in *Headers) Resolve(ctx huma.Context) []error {
	request, _ := humago.Unwrap(ctx)
	in.header = request.Header
	return nil
}

type startInput struct {
	WorkflowInput
	Headers
	Body struct {
		Trigger string                     `json:"trigger,omitempty" maxLength:"63" doc:"of type Manual or API; default: the Manual trigger"`
		Inputs  map[string]json.RawMessage `json:"inputs,omitempty" maxProperties:"64" doc:"by name, as spec.inputs declares them"`
	}
}

// started is the response of operations that start a run.
type started struct {
	Status   int
	Location string `header:"Location" doc:"the run"`
	Body     Run
}

func (s *Service) startRun(ctx context.Context, in *startInput) (*started, error) {
	const action = "run.start"
	if err := s.edits(ctx, action, in.object()); err != nil {
		return nil, err
	}
	request, err := s.request(ctx, in)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, action, in.object(), func() (string, bool, error) {
		r, err := s.Launcher.Start(ctx, request)
		return r.ID, r.Created, err
	})
}

// request returns the request to the launcher.
func (s *Service) request(ctx context.Context, in *startInput) (launch.Request, error) {
	r := launch.Request{Workflow: in.Name, Trigger: in.Body.Trigger}
	e, ok := s.Catalog.Get(in.Name)
	if !ok {
		return r, answer(launch.ErrNoWorkflow)
	}
	trigger, err := startedBy(e, in.Body.Trigger)
	if err != nil {
		return r, err
	}
	r.Trigger, r.Info = trigger.Name, definition.TriggerInfo{Type: string(trigger.Type), Name: trigger.Name}
	header, scope := "", "manual/"+owner(ctx)
	if trigger.Type == workflowv1.TriggerAPI {
		scope = "api/" + trigger.Name
		if trigger.API != nil {
			header = trigger.API.IdempotencyKeyHeader
		}
	}
	key, err := api.IdempotencyKey(in.header, header)
	if err != nil {
		return r, err
	}
	if key != "" {
		r.Key = scope + "/" + key
	}
	r.Inputs = make(map[string]any, len(in.Body.Inputs))
	for name, raw := range in.Body.Inputs {
		if r.Inputs[name], err = definition.Decode(raw); err != nil {
			return r, api.Because(api.Invalid("body.inputs", "a value is not JSON, or has a number that is too large"), err)
		}
	}
	return r, nil
}

// startedBy returns the trigger of a start, which must be of type Manual or API.
func startedBy(e *catalog.Entry, name string) (workflowv1.Trigger, error) {
	for _, t := range e.Workflow.Spec.Triggers {
		switch {
		case name == "" && t.Type == workflowv1.TriggerManual:
			return t, nil
		case name != t.Name || name == "":
		case t.Type == workflowv1.TriggerManual || t.Type == workflowv1.TriggerAPI:
			return t, nil
		default:
			return t, api.Invalid("body.trigger", "must be of type Manual or API")
		}
	}
	if name != "" {
		return workflowv1.Trigger{}, answer(launch.ErrNoTrigger)
	}
	return workflowv1.Trigger{Type: workflowv1.TriggerManual}, nil
}

// owner identifies the caller, so that idempotency keys of different callers do not collide.
func owner(ctx context.Context) string {
	p := auth.From(ctx)
	if p == nil {
		return ""
	}
	return string(p.Kind) + "/" + p.ID
}

// begin starts a run and returns it with status 201, or the existing run of its idempotency key with status 200.
func (s *Service) begin(ctx context.Context, action, object string, start func() (id string, created bool, err error)) (*started, error) {
	out := &started{Status: http.StatusOK}
	var id string
	err := s.Trail.Do(ctx, action, object, func() (auditlog.Result, error) {
		var created bool
		var err error
		if id, created, err = start(); created {
			out.Status = http.StatusCreated
		}
		return auditlog.Result{Object: "run/" + id, Details: map[string]string{"of": object}, Silent: !created}, err
	})
	if err != nil {
		return nil, err
	}
	out.Location = api.Base + pathRuns + "/" + id
	out.Body, _, err = s.run(ctx, id)
	return out, answer(err)
}

type listRunsInput struct {
	api.Page
	Workflow string   `query:"workflow" maxLength:"253" doc:"only runs of this workflow"`
	Phase    []string `query:"phase,explode" maxItems:"7" nullable:"false" enum:"Queued,Running,Waiting,Succeeded,Failed,Cancelled,TimedOut" doc:"only runs in this phase; can be repeated"`
}

func (s *Service) listRuns(ctx context.Context, in *listRunsInput) (*api.Reply[api.List[Run]], error) {
	if err := s.views(ctx, "run.list", "run"); err != nil {
		return nil, err
	}
	return s.runs(ctx, in)
}

type listWorkflowRunsInput struct {
	WorkflowInput
	api.Page
	Phase []string `query:"phase,explode" maxItems:"7" nullable:"false" enum:"Queued,Running,Waiting,Succeeded,Failed,Cancelled,TimedOut" doc:"only runs in this phase; can be repeated"`
}

func (s *Service) listWorkflowRuns(ctx context.Context, in *listWorkflowRunsInput) (*api.Reply[api.List[Run]], error) {
	if err := s.views(ctx, "run.list", in.object()); err != nil {
		return nil, err
	}
	page, err := s.runs(ctx, &listRunsInput{Page: in.Page, Workflow: in.Name, Phase: in.Phase})
	if err != nil {
		return nil, err
	}
	// The runs of a deleted workflow remain until they are pruned.
	if _, known := s.Catalog.Get(in.Name); !known && len(page.Body.Items) == 0 {
		return nil, answer(launch.ErrNoWorkflow)
	}
	return page, nil
}

func (s *Service) runs(ctx context.Context, in *listRunsInput) (*api.Reply[api.List[Run]], error) {
	o := store.ListOptions{Workflow: in.Workflow, Limit: in.Limit}
	for _, p := range in.Phase {
		o.Phases = append(o.Phases, store.Phase(p))
	}
	scope := api.Scope("runs", in.Workflow, in.Phase)
	if err := s.Cursors.Decode(scope, in.Cursor, &o.Before); err != nil {
		return nil, err
	}
	list, more, err := s.Engine.Store().List(ctx, o)
	if err != nil {
		return nil, answer(err)
	}
	page := api.List[Run]{Items: make([]Run, len(list))}
	for i := range list {
		page.Items[i] = runOf(&list[i])
	}
	if more {
		page.Next = s.Cursors.Encode(scope, list[len(list)-1].ID)
	}
	return api.Body(page), nil
}

type getRunInput struct {
	RunInput
	IfNoneMatch string `header:"If-None-Match" maxLength:"1024" doc:"304 if the run has not changed"`
}

func (s *Service) getRun(ctx context.Context, in *getRunInput) (*tagged[Run], error) {
	if err := s.views(ctx, "run.get", in.object()); err != nil {
		return nil, err
	}
	r, seq, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, answer(err)
	}
	return ifChanged(in.IfNoneMatch, seq, &tagged[Run]{Status: http.StatusOK, Body: r}), nil
}

// pageBytes is the size after which a page of steps ends, whatever its limit: outputs may be large.
const pageBytes = 4 << 20

type listStepsInput struct {
	RunInput
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"maximum number of items"`
	Cursor string `query:"cursor" maxLength:"2048" doc:"next of the previous page; empty for the first page"`
}

func (s *Service) listSteps(ctx context.Context, in *listStepsInput) (*api.Reply[api.List[Step]], error) {
	if err := s.views(ctx, "run.steps", in.object()); err != nil {
		return nil, err
	}
	after := store.Cursor{Step: -1, Item: -1}
	scope := api.Scope("steps", in.ID)
	if err := s.Cursors.Decode(scope, in.Cursor, &after); err != nil {
		return nil, err
	}
	r, err := s.Engine.Store().Get(ctx, in.ID)
	if err != nil {
		return nil, answer(err)
	}
	list, more, err := s.Engine.Store().Steps(ctx, in.ID, after, in.Limit)
	if err != nil {
		return nil, answer(err)
	}
	page, bytes := api.List[Step]{Items: []Step{}}, 0
	for i := range list {
		step := stepOf(&r, &list[i])
		if bytes += step.size(); bytes > pageBytes && i > 0 {
			list, more = list[:i], true
			break
		}
		page.Items = append(page.Items, step)
	}
	if more {
		last := list[len(list)-1]
		page.Next = s.Cursors.Encode(scope, store.Cursor{Step: last.Step, Item: last.Item})
	}
	return api.Body(page), nil
}

type listEventsInput struct {
	RunInput
	api.Page
}

func (s *Service) listEvents(ctx context.Context, in *listEventsInput) (*api.Reply[api.List[Event]], error) {
	if err := s.views(ctx, "run.events", in.object()); err != nil {
		return nil, err
	}
	var after int64
	scope := api.Scope("events", in.ID)
	if err := s.Cursors.Decode(scope, in.Cursor, &after); err != nil {
		return nil, err
	}
	r, err := s.Engine.Store().Get(ctx, in.ID)
	if err != nil {
		return nil, answer(err)
	}
	list, err := s.Engine.Store().Events(ctx, in.ID, after, in.Limit)
	if err != nil {
		return nil, answer(err)
	}
	page := api.List[Event]{Items: make([]Event, len(list))}
	for i := range list {
		page.Items[i] = eventOf(&list[i])
	}
	if n := len(list); n > 0 && list[n-1].Seq < r.Seq {
		page.Next = s.Cursors.Encode(scope, list[n-1].Seq)
	}
	return api.Body(page), nil
}
