// SPDX-License-Identifier: Apache-2.0

// Package service is Workflow's REST API, its webhooks and its live events, on the engine: who may, what is audited, and what
// a refusal says.
package service

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/live"
)

// productName is Workflow's in grants.
const productName = "workflow"

// base is below what all paths of the service are.
const base = "/api/v1"

// maxBody bounds the body of a request that is no webhook.
const maxBody = 1 << 20

// Options of a Service.
type Options struct {
	*Deps
	Trail   *auditlog.Trail
	Streams *live.Streams
}

// Service answers the requests of one Platform's Workflows.
type Service struct {
	Options
	answers *api.PostgresStore // which signatures came already
	decoy   []byte             // the key of webhooks that there are not
	sending chan struct{}      // holds one for each output that is sent
}

// New makes a service.
func New(o Options) *Service {
	return &Service{Options: o, answers: api.NewPostgresStore(o.Pool), decoy: newDecoy(), sending: make(chan struct{}, outputsAtOnce)}
}

// Register adds all operations.
func (s *Service) Register(rest huma.API) {
	s.registerWorkflows(rest)
	s.registerRuns(rest)
	s.registerOutputs(rest)
	s.registerControl(rest)
	s.registerLive(rest)
	s.registerWebhooks(rest)
	s.Trail.Register(rest)
}

// operation describes one endpoint. errs are the statuses that it answers beside the kit's.
func operation(id, method, path, summary string, errs ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: base + path, Summary: summary, Errors: errs, Tags: []string{productName}, MaxBodyBytes: maxBody,
		Responses: map[string]*huma.Response{}, // which the registration fills in, for statuses
	}
}

// statuses documents successes beside the default one, which have the same body.
func statuses(op huma.Operation, of map[string]string) {
	for status, description := range of {
		same := *op.Responses["200"]
		same.Description = description
		op.Responses[status] = &same
	}
}

// reply is an answer with a body.
type reply[T any] struct{ Body T }

// tagged is an answer with an entity tag.
type tagged[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"of this state"`
	Body   T
}

// done is the answer of what has nothing to tell.
type done struct{}

// caller is who sends a request; empty: nobody has logged in.
func caller(ctx context.Context) string {
	if p := auth.From(ctx); p != nil {
		return p.Name
	}
	return ""
}

// views asks for the right to see.
func (s *Service) views(ctx context.Context, action, object string) error {
	return s.Trail.Require(ctx, auth.RoleViewer, action, object)
}

// edits asks for the right to start, end and change.
func (s *Service) edits(ctx context.Context, action, object string) error {
	return s.Trail.Require(ctx, auth.RoleEditor, action, object)
}

// unless answers 304 to who has this state already.
func unless[T any](header string, version int64, out *tagged[T]) *tagged[T] {
	out.ETag = api.ETag(version)
	if header != "" && !api.NoneMatch(header, version) {
		return &tagged[T]{Status: http.StatusNotModified, ETag: out.ETag}
	}
	return out
}
