// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	pathRerun = pathRun + "/rerun"
	pathStep  = pathRun + "/steps/{step}"
)

const (
	// typeApproval is the step type whose waits only approvers can end.
	typeApproval = "approval"
	// typeWait is the only type that an editor may complete: callers cannot set the results of Jobs, Pipelines and other workflows.
	typeWait = "wait"
)

func (s *Service) registerControl(rest huma.API) {
	huma.Register(rest, operation("cancel-run", http.MethodPost, pathRun+"/cancel", "Cancel a run; its handlers still run"), s.cancelRun)
	rerun := operation("rerun-run", http.MethodPost, pathRerun, "Run an ended run again from a step, with its recorded inputs and definition")
	huma.Register(rest, rerun, s.rerun)
	api.AlsoAnswers(rerun, map[string]string{"201": "A new run"})
	huma.Register(rest, operation("decide-step", http.MethodPost, pathStep+"/decision", "Approve or reject, as one of the step's approvers"), s.decide)
	huma.Register(rest, operation("resume-step", http.MethodPost, pathStep+"/resume", "Resume a step that waits for an event"), s.resume)
}

func (s *Service) cancelRun(ctx context.Context, in *RunInput) (*api.Reply[Run], error) {
	const action = "run.cancel"
	if err := s.edits(ctx, action, in.object()); err != nil {
		return nil, err
	}
	return s.change(ctx, action, in, in.object(), func() error {
		return s.Engine.Cancel(ctx, in.ID, "cancelled by "+auth.Name(ctx))
	})
}

// change changes a run and returns its new state.
func (s *Service) change(ctx context.Context, action string, in *RunInput, object string, do func() error) (*api.Reply[Run], error) {
	err := s.Trail.Do(ctx, action, object, func() (auditlog.Result, error) { return auditlog.Result{}, do() })
	if err != nil {
		return nil, err
	}
	r, _, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, answer(err)
	}
	return api.Body(r), nil
}

type rerunInput struct {
	RunInput
	Headers
	Body struct {
		FromStep string `json:"fromStep" minLength:"1" maxLength:"63" doc:"the first step that runs again; steps that do not depend on it keep their outcome"`
	}
}

func (s *Service) rerun(ctx context.Context, in *rerunInput) (*started, error) {
	const action = "run.rerun"
	if err := s.edits(ctx, action, in.object()); err != nil {
		return nil, err
	}
	key, err := api.IdempotencyKey(in.header, "")
	if err != nil {
		return nil, err
	}
	if key != "" {
		key = "rerun/" + in.ID + "/" + owner(ctx) + "/" + key
	}
	return s.begin(ctx, action, in.object(), func() (string, bool, error) {
		id, created, err := s.Engine.Rerun(ctx, in.ID, in.Body.FromStep, key)
		return id, created, rerunError(err)
	})
}

// rerunError returns the response to an error of Rerun, with the field.
func rerunError(err error) error {
	switch {
	case errors.Is(err, backend.ErrNotFound) && !errors.Is(err, store.ErrNotFound):
		return api.Invalid("body.fromStep", "the run has no such step")
	case errors.Is(err, backend.ErrInvalid):
		return api.Because(api.Invalid("body.fromStep", "must be a step that is not a handler"), err)
	case errors.Is(err, store.ErrConflict):
		return api.Because(api.Conflict("the run has not ended, or a step that fromStep needs has no outcome: start there"), err)
	}
	return err
}

// StepInput is the step of a request.
type StepInput struct {
	RunInput
	Step string `path:"step" minLength:"1" maxLength:"63"`
}

func (in *StepInput) object() string { return in.RunInput.object() + "/step/" + in.Step }

type decideInput struct {
	StepInput
	Body struct {
		Decision string `json:"decision" enum:"approve,reject"`
		Comment  string `json:"comment,omitempty" maxLength:"4096"`
		Item     *int   `json:"item,omitempty" minimum:"0" maximum:"999" nullable:"false" doc:"index within forEach"`
	}
}

func (s *Service) decide(ctx context.Context, in *decideInput) (*api.Reply[Run], error) {
	action := "step." + in.Body.Decision
	// Every viewer of the run may be an approver: see the step.
	if err := s.views(ctx, action, in.object()); err != nil {
		return nil, err
	}
	item := itemOf(in.Body.Item)
	waiting, err := s.Engine.Waits(ctx, in.ID, in.Step, item)
	if err != nil {
		return nil, answer(err)
	}
	if waiting.Type != typeApproval {
		return nil, api.Conflict("the step is not waiting for a decision; resume it")
	}
	approvers, _ := waiting.Detail["approvers"].([]any)
	if !s.approves(auth.From(ctx), approvers) {
		return nil, s.Trail.Denied(ctx, action, in.object(), api.Forbidden("you are not an approver of the step"))
	}
	return s.change(ctx, action, &in.RunInput, in.object(), func() error {
		return s.Engine.Resume(ctx, in.ID, in.Step, item, map[string]any{"decision": in.Body.Decision, "by": auth.Name(ctx), "comment": in.Body.Comment})
	})
}

func itemOf(given *int) int {
	if given == nil {
		return -1
	}
	return *given
}

// approves reports whether the caller is among the approvers: by name (the email address of a user, or namespace/name of a
// ServiceAccount), by id, or by a role that includes a listed role.
func (s *Service) approves(p *auth.Principal, approvers []any) bool {
	for _, one := range approvers {
		name, _ := one.(string)
		switch role := auth.Role(name); {
		case name == "":
		case name == p.ID, p.Kind == auth.KindUser && strings.EqualFold(name, p.Name), name == p.Name:
			return true
		case role == auth.RoleViewer || role == auth.RoleEditor || role == auth.RoleAdmin:
			if p.RoleOn(productName, s.Config.Namespace).Includes(role) {
				return true
			}
		}
	}
	return false
}

type resumeInput struct {
	StepInput
	Body struct {
		Data json.RawMessage `json:"data,omitempty" doc:"becomes the step's output.data"`
		Item *int            `json:"item,omitempty" minimum:"0" maximum:"999" nullable:"false" doc:"index within forEach"`
	}
}

func (s *Service) resume(ctx context.Context, in *resumeInput) (*api.Reply[Run], error) {
	const action = "step.resume"
	if err := s.edits(ctx, action, in.object()); err != nil {
		return nil, err
	}
	item := itemOf(in.Body.Item)
	waiting, err := s.Engine.Waits(ctx, in.ID, in.Step, item)
	if err != nil {
		return nil, answer(err)
	}
	switch waiting.Type {
	case typeWait:
	case typeApproval:
		return nil, api.Conflict("the step is waiting for the decision of an approver")
	default:
		return nil, api.Conflict("the step cannot be resumed: only steps of type wait can")
	}
	var data any
	if len(in.Body.Data) > 0 {
		if data, err = definition.Decode(in.Body.Data); err != nil {
			return nil, api.Because(api.Invalid("body.data", "is not JSON, or has a number that is too large"), err)
		}
	}
	return s.change(ctx, action, &in.RunInput, in.object(), func() error {
		err := s.Engine.Resume(ctx, in.ID, in.Step, item, data)
		if errors.Is(err, backend.ErrInvalid) {
			return api.Because(api.Invalid("body.data", "is too large, or has only the field $object"), err)
		}
		return err
	})
}
