// SPDX-License-Identifier: Apache-2.0

// Package service is Workflow's REST API, with webhooks and live events, on top of the engine: authorization, audit, and error
// responses.
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

// productName is Workflow's name in grants.
const productName = "workflow"

// maxBody bounds the body of a request, except for webhooks.
const maxBody = 1 << 20

// Options configure a Service.
type Options struct {
	*Deps
	Trail   *auditlog.Trail
	Streams *live.Streams
}

// Service serves the Workflows of one Platform.
type Service struct {
	Options
	answers *api.PostgresStore // used signatures
	decoy   []byte             // the key of webhooks that do not exist
	sending chan struct{}      // holds one for each output being sent
}

// New returns a service.
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

// operation describes an endpoint. errs are its error statuses besides the common ones.
func operation(id, method, path, summary string, errs ...int) huma.Operation {
	op := api.Operation(productName, id, method, path, summary, errs...)
	op.MaxBodyBytes = maxBody
	return op
}

// tagged is a response with a status and an entity tag.
type tagged[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"of this version"`
	Body   T
}

// views checks that the caller is a viewer.
func (s *Service) views(ctx context.Context, action, object string) error {
	return s.Trail.Require(ctx, auth.RoleViewer, action, object)
}

// edits checks that the caller is an editor.
func (s *Service) edits(ctx context.Context, action, object string) error {
	return s.Trail.Require(ctx, auth.RoleEditor, action, object)
}

// ifChanged returns 304 if the client has this version.
func ifChanged[T any](header string, version int64, out *tagged[T]) *tagged[T] {
	out.ETag = api.ETag(version)
	if header != "" && !api.NoneMatch(header, version) {
		return &tagged[T]{Status: http.StatusNotModified, ETag: out.ETag}
	}
	return out
}
