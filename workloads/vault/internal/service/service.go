// SPDX-License-Identifier: Apache-2.0

// Package service is Vault's REST API on the store: who may, what is audited, and what the resources hear of it.
package service

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// base is below what all paths of the service are.
const base = "/api/v1"

// maxBody holds a value of 1 MiB in base64 and what is around it.
const maxBody = 2 << 20

// Options of a Service.
type Options struct {
	Namespace string
	Store     store.Vault
	Trail     *auditlog.Trail
	Cursors   *api.Cursors
	Log       *slog.Logger
	// Resources are those of this Vault.
	Resources *Resources
	// Passphrase gives what the root key is made with; nil: Shares and Threshold do.
	Passphrase        func(context.Context) ([]byte, error)
	Shares, Threshold int
	// WhySealed tells why the vault did not unseal itself; empty: it did, or shares do.
	WhySealed func() string
}

// Service answers the requests of one Vault.
type Service struct {
	Options
	access  *access
	rewraps chan struct{} // holds one while a re-wrap runs
	// life ends with the process: what goes on after a request is bound to it.
	life context.Context
}

// New makes a service; what it does in the background ends with life.
func New(life context.Context, o Options) *Service {
	s := &Service{Options: o, access: &access{namespace: o.Namespace, log: o.Log}, rewraps: make(chan struct{}, 1), life: life}
	o.Resources.onChange(s.access.update)
	return s
}

// Register adds all operations.
func (s *Service) Register(rest huma.API) {
	s.registerSecrets(rest)
	s.registerVersions(rest)
	s.registerContents(rest)
	s.registerPolicies(rest)
	s.Trail.Register(rest)
	s.registerKeys(rest)
}

// operation describes one endpoint. errs are the statuses that it answers beside the kit's.
func operation(id, method, path, summary string, errs ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: base + path, Summary: summary, Errors: errs, Tags: []string{"vault"}, MaxBodyBytes: maxBody,
	}
}

// created makes the answer of an operation 201.
func created(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusCreated
	return op
}

// open lets an operation be called without a login.
func open(op huma.Operation) huma.Operation {
	op.Security = []map[string][]string{}
	return op
}

// reply is an answer with a body.
type reply[T any] struct{ Body T }

// tagged is an answer with the version as its entity tag.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"the newest version, for If-Match"`
	Body T
}

// done is the answer of what has nothing to tell.
type done struct{}

// name of the caller, kept with a version.
func caller(ctx context.Context) string {
	if p := auth.From(ctx); p != nil {
		return p.Name
	}
	return ""
}

// allow asks for a verb on a path, and records a refusal.
func (s *Service) allow(ctx context.Context, verb vaultv1.Verb, action, path string) error {
	if err := s.access.allow(ctx, verb, path); err != nil {
		return s.Trail.Denied(ctx, action, object(path, 0), err)
	}
	return nil
}
