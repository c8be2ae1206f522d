// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
)

const pathWorkflow = "/workflows/{name}"

func (s *Service) registerWorkflows(rest huma.API) {
	huma.Register(rest, operation("list-workflows", http.MethodGet, "/workflows", "List workflows, ordered by name"), s.listWorkflows)
	huma.Register(rest, operation("get-workflow", http.MethodGet, pathWorkflow, "Get a workflow: its specification, status and problems"), s.getWorkflow)
	put := operation("put-workflow", http.MethodPut, pathWorkflow, "Create a workflow or replace its specification, in the resource",
		http.StatusConflict, http.StatusPreconditionFailed)
	huma.Register(rest, put, s.putWorkflow)
	api.AlsoAnswers(put, map[string]string{"201": "A new workflow"})
	huma.Register(rest, operation("delete-workflow", http.MethodDelete, pathWorkflow, "Delete a workflow", http.StatusConflict, http.StatusPreconditionFailed), s.deleteWorkflow)
}

type listWorkflowsInput struct{ api.Page }

func (s *Service) listWorkflows(ctx context.Context, in *listWorkflowsInput) (*api.Reply[api.List[Workflow]], error) {
	if err := s.views(ctx, "workflow.list", "workflow"); err != nil {
		return nil, err
	}
	var after string
	scope := api.Scope("workflows")
	if err := s.Cursors.Decode(scope, in.Cursor, &after); err != nil {
		return nil, err
	}
	entries := s.Catalog.All()
	from, found := slices.BinarySearchFunc(entries, after, func(e *catalog.Entry, name string) int { return strings.Compare(e.Workflow.Name, name) })
	if found {
		from++
	}
	entries = entries[from:]
	page := api.PageOf(in.Page, entries[:min(len(entries), in.Limit+1)], func(last *catalog.Entry) string {
		return s.Cursors.Encode(scope, last.Workflow.Name)
	})
	out := api.List[Workflow]{Items: make([]Workflow, len(page.Items)), Next: page.Next}
	for i, e := range page.Items {
		out.Items[i] = workflowOf(e, false)
	}
	return api.Body(out), nil
}

func (s *Service) getWorkflow(ctx context.Context, in *WorkflowInput) (*tagged[Workflow], error) {
	if err := s.views(ctx, "workflow.get", in.object()); err != nil {
		return nil, err
	}
	e, ok := s.Catalog.Get(in.Name)
	if !ok {
		return nil, answer(launch.ErrNoWorkflow)
	}
	return &tagged[Workflow]{http.StatusOK, api.ETag(e.Workflow.Generation), workflowOf(e, true)}, nil
}

type putWorkflowInput struct {
	WorkflowInput
	IfMatch string `header:"If-Match" doc:"entity tag of the specification to replace; * to not create a new workflow"`
	Body    struct {
		Spec specification `json:"spec" doc:"as the spec of the resource Workflow"`
	}
}

func (s *Service) putWorkflow(ctx context.Context, in *putWorkflowInput) (*tagged[Workflow], error) {
	const action = "workflow.write"
	if err := s.edits(ctx, action, in.object()); err != nil {
		return nil, err
	}
	match, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	spec, err := s.spec(in.Name, in.Body.Spec)
	if err != nil {
		return nil, err
	}
	var w *workflowv1.Workflow
	status := http.StatusOK
	err = s.changeWorkflow(ctx, action, &in.WorkflowInput, match, func(is *workflowv1.Workflow) error {
		if w = is; w != nil {
			w.Spec = *spec
			return s.Resources.Client().Update(ctx, w)
		}
		status = http.StatusCreated
		w = &workflowv1.Workflow{ObjectMeta: metav1.ObjectMeta{Namespace: s.Config.Namespace, Name: in.Name}, Spec: *spec}
		return s.Resources.Client().Create(ctx, w)
	})
	if err != nil {
		return nil, err
	}
	program, problems := catalog.Compile(w.Name, &w.Spec)
	out := workflowOf(&catalog.Entry{Workflow: w, Program: program, Problems: problems}, true)
	return &tagged[Workflow]{status, api.ETag(w.Generation), out}, nil
}

// matches checks If-Match against the resource, which is nil if it does not exist.
func matches(match *int64, w *workflowv1.Workflow) error {
	switch {
	case match == nil, w != nil && (*match == api.AnyVersion || *match == w.Generation):
		return nil
	case w == nil:
		return api.Precondition("the workflow does not exist")
	}
	return api.Precondition("the workflow was changed in the meantime")
}

type deleteWorkflowInput struct {
	WorkflowInput
	IfMatch string `header:"If-Match" doc:"entity tag of the specification to delete"`
}

func (s *Service) deleteWorkflow(ctx context.Context, in *deleteWorkflowInput) (*api.Empty, error) {
	const action = "workflow.delete"
	if err := s.Trail.Require(ctx, auth.RoleAdmin, action, in.object()); err != nil {
		return nil, err
	}
	match, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return nil, s.changeWorkflow(ctx, action, &in.WorkflowInput, match, func(w *workflowv1.Workflow) error {
		if w == nil {
			return answer(launch.ErrNoWorkflow)
		}
		return s.Resources.Client().Delete(ctx, w, client.Preconditions{UID: &w.UID, ResourceVersion: &w.ResourceVersion})
	})
}

// changeWorkflow calls write with the current resource, or nil if there is none, if its specification matches. It retries when a
// concurrent write of the status causes a conflict.
func (s *Service) changeWorkflow(ctx context.Context, action string, in *WorkflowInput, match *int64, write func(*workflowv1.Workflow) error) error {
	return s.Trail.Do(ctx, action, in.object(), func() (auditlog.Result, error) {
		return auditlog.Result{}, fromServer(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			w, err := s.resource(ctx, in.Name)
			if err == nil {
				err = matches(match, w)
			}
			if err != nil {
				return err
			}
			return write(w)
		}))
	})
}

// resource returns the current Workflow from the API server, or nil if there is none.
func (s *Service) resource(ctx context.Context, name string) (*workflowv1.Workflow, error) {
	if s.Resources == nil {
		return nil, api.Error(http.StatusConflict, "no_resources", "this service runs without Kubernetes; workflows cannot be written")
	}
	w := &workflowv1.Workflow{}
	err := s.Resources.Client().Get(ctx, client.ObjectKey{Namespace: s.Config.Namespace, Name: name}, w)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fromServer(err)
	}
	if ref := w.Spec.PlatformRef; ref != nil && ref.Name != s.Config.Platform {
		return nil, api.Conflict("the workflow of this name belongs to another Platform")
	}
	return w, nil
}

// spec returns a validated specification. Its error lists all problems.
func (s *Service) spec(name string, given specification) (*workflowv1.WorkflowSpec, error) {
	spec, err := given.read()
	if err != nil {
		return nil, err
	}
	if spec.PlatformRef == nil {
		spec.PlatformRef = &common.PlatformReference{Name: s.Config.Platform}
	}
	if spec.PlatformRef.Name != s.Config.Platform {
		return nil, api.Invalid("body.spec.platformRef.name", "must be the Platform of this service")
	}
	if _, err := catalog.Compile(name, spec); err != nil {
		var details []any
		for _, p := range problemsOf(err) {
			details = append(details, api.Detail{Field: "body." + p.Path, Message: p.Message})
		}
		return nil, api.Error(http.StatusUnprocessableEntity, "not_proven", "the definition of the workflow is invalid", details...)
	}
	return spec, nil
}

// fromServer converts an error of the API server to a response.
func fromServer(err error) error {
	if _, ours := errors.AsType[*problem.Error](err); ours || err == nil {
		return err
	}
	switch {
	case apierrors.IsNotFound(err):
		return api.NotFound("workflow")
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return api.Precondition("the workflow was changed in the meantime")
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		var details []any
		if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Details != nil {
			for _, c := range status.Status().Details.Causes {
				details = append(details, api.Detail{Field: strings.TrimSuffix("body."+c.Field, "."), Message: causeMessage(c)})
			}
		}
		return api.Because(api.Error(http.StatusUnprocessableEntity, "invalid", "the workflow is invalid", details...), err)
	default:
		return api.Because(api.Unavailable(retryAfter, "the API server did not accept the change"), err)
	}
}

// causeMessage returns the API server's message without the quoted value: Invalid value: "…": message.
func causeMessage(c metav1.StatusCause) string {
	if i := strings.LastIndex(c.Message, `": `); i >= 0 && c.Type == metav1.CauseTypeFieldValueInvalid {
		return c.Message[i+len(`": `):]
	}
	switch c.Type {
	case metav1.CauseTypeFieldValueRequired:
		return "is required"
	case metav1.CauseTypeFieldValueNotSupported:
		return "is not one of the supported values"
	}
	return "was rejected by the API server"
}
