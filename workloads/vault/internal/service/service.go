// SPDX-License-Identifier: Apache-2.0

// Package service is Vault's REST API on the store: authorization, audit, and the updates of the resources.
package service

import (
	"context"
	"log/slog"

	"github.com/danielgtaylor/huma/v2"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// maxBody is enough for a value of 1 MiB in base64.
const maxBody = 2 << 20

// Options of a Service.
type Options struct {
	Namespace string
	Store     store.Vault
	Trail     *auditlog.Trail
	Cursors   *api.Cursors
	Log       *slog.Logger
	// Resources of this Vault.
	Resources *Resources
	// Passphrase returns the secret that derives the root key; nil: it is split into Shares, of which Threshold unseal.
	Passphrase        func(context.Context) ([]byte, error)
	Shares, Threshold int
	// WhySealed returns why the vault did not unseal itself; empty: it did, or shares unseal it.
	WhySealed func() string
}

// Service answers the requests of one Vault.
type Service struct {
	Options
	access  *access
	rewraps chan struct{} // holds one while a re-wrap runs
	// life ends with the process: it bounds work that outlives its request.
	life context.Context
}

// New returns a service whose background work ends with life.
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

// operation describes an endpoint. errs are the error statuses besides those of all endpoints.
func operation(id, method, path, summary string, errs ...int) huma.Operation {
	op := api.Operation(productName, id, method, path, summary, errs...)
	op.MaxBodyBytes = maxBody
	return op
}

// allow checks that the caller may use a verb on a path, and records a refusal.
func (s *Service) allow(ctx context.Context, verb vaultv1.Verb, action, path string) error {
	if err := s.access.allow(ctx, verb, path); err != nil {
		return s.Trail.Denied(ctx, action, object(path, 0), err)
	}
	return nil
}
