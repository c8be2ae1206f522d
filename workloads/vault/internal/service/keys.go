// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

func (s *Service) registerKeys(rest huma.API) {
	huma.Register(rest, api.Public(operation("seal-status", http.MethodGet, "/seal-status", "Whether values can be read, and the progress of a re-wrap")), s.sealStatus)
	huma.Register(rest, api.Public(operation("sealing-key", http.MethodGet, "/sealing-key", "The public key that values are sealed to")), s.sealingKey)
	huma.Register(rest, operation("initialize", http.MethodPost, "/init", "Create the root key of a Vault that is unsealed by shares"), s.initialize)
	huma.Register(rest, operation("unseal", http.MethodPost, "/unseal", "Submit one share of the unseal secret"), s.unseal)
	huma.Register(rest, operation("seal", http.MethodPost, "/seal", "Discard the root key of this replica"), s.seal)
	huma.Register(rest, operation("rewrap", http.MethodPost, "/rewrap", "Start wrapping all data keys by the newest root key"), s.rewrap)
	huma.Register(rest, operation("rotate-root-key", http.MethodPost, "/keys/rotate", "Create a new root key"), s.rotateRoot)
	huma.Register(rest, operation("rotate-sealing-key", http.MethodPost, "/sealing-key/rotate", "Create a new sealing key; values sealed before still open"), s.rotateSealing)
}

func (s *Service) sealStatus(ctx context.Context, _ *struct{}) (*api.Reply[wire.SealStatus], error) {
	status, err := s.Store.Status(ctx)
	if err != nil {
		return nil, answer(err)
	}
	if status.Sealed {
		status.Reason = s.WhySealed()
	}
	return api.Body(status), nil
}

func (s *Service) sealingKey(ctx context.Context, _ *struct{}) (*api.Reply[wire.SealingKey], error) {
	key, err := s.Store.SealingKey(ctx)
	if err != nil {
		return nil, answer(err)
	}
	return api.Body(key), nil
}

// Shares of an unseal secret. They are shown once.
type Shares struct {
	KeyID  string   `json:"keyID,omitempty"`
	Shares []string `json:"shares,omitempty" doc:"shown once and stored nowhere: give each to another person"`
}

func (s *Service) initialize(ctx context.Context, _ *struct{}) (*secretReply[Shares], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "vault.init", productName); err != nil {
		return nil, err
	}
	if s.Passphrase != nil {
		return nil, api.Conflict("this vault is initialized by its configuration: a passphrase, or a key in an HSM")
	}
	var out Shares
	err := s.Trail.Do(ctx, "vault.init", productName, func() (r auditlog.Result, err error) {
		out.Shares, err = s.Store.InitShares(ctx, s.Shares, s.Threshold)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return &secretReply[Shares]{"no-store", out}, nil
}

type unsealInput struct {
	Body struct {
		Share string `json:"share" minLength:"1" maxLength:"1024" doc:"one share"`
	}
}

// unseal requires only a role: the shares prove the rest.
func (s *Service) unseal(ctx context.Context, in *unsealInput) (*api.Reply[wire.SealStatus], error) {
	if err := auth.Require(ctx, productName, s.Namespace, auth.RoleViewer); err != nil {
		return nil, s.Trail.Denied(ctx, "vault.unseal", productName, err)
	}
	var out wire.SealStatus
	err := s.Trail.Do(ctx, "vault.unseal", productName, func() (r auditlog.Result, err error) {
		out, err = s.Store.UnsealShare(ctx, in.Body.Share)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return api.Body(out), nil
}

func (s *Service) seal(ctx context.Context, _ *struct{}) (*api.Empty, error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "vault.seal", productName); err != nil {
		return nil, err
	}
	return nil, s.Trail.Do(ctx, "vault.seal", productName, func() (auditlog.Result, error) {
		s.Store.Seal()
		return auditlog.Result{}, nil
	})
}

func (s *Service) rewrap(ctx context.Context, _ *struct{}) (*api.Reply[wire.SealStatus], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "vault.rewrap", productName); err != nil {
		return nil, err
	}
	if s.Store.Sealed() {
		return nil, answer(store.ErrSealed)
	}
	err := s.Trail.Do(ctx, "vault.rewrap", productName, func() (auditlog.Result, error) {
		s.startRewrap()
		return auditlog.Result{}, nil
	})
	if err != nil {
		return nil, err
	}
	return s.sealStatus(ctx, nil)
}

// startRewrap runs one re-wrap in the background; one that already runs is enough.
func (s *Service) startRewrap() {
	select {
	case s.rewraps <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.rewraps }()
		if err := s.Store.Rewrap(s.life); err != nil && !errors.Is(err, context.Canceled) {
			s.Log.Error("the re-wrap stopped; POST /rewrap continues it", "error", err)
		}
	}()
}

func (s *Service) rotateRoot(ctx context.Context, _ *struct{}) (*secretReply[Shares], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "key.rotate", productName); err != nil {
		return nil, err
	}
	var out store.Rotated
	err := s.Trail.Do(ctx, "key.rotate", productName, func() (r auditlog.Result, err error) {
		if s.Passphrase == nil {
			out, err = s.Store.RotateRootShares(ctx, s.Shares, s.Threshold)
		} else {
			out, err = s.rotateByPassphrase(ctx)
		}
		r.Details = map[string]string{"keyID": out.KeyID}
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return &secretReply[Shares]{"no-store", Shares{out.KeyID, out.Shares}}, nil
}

func (s *Service) rotateByPassphrase(ctx context.Context) (store.Rotated, error) {
	passphrase, err := s.Passphrase(ctx)
	if err != nil {
		return store.Rotated{}, api.Because(api.Unavailable(promptly, "the key in the HSM cannot be used: see the log"), err)
	}
	defer clear(passphrase)
	return s.Store.RotateRoot(ctx, passphrase)
}

func (s *Service) rotateSealing(ctx context.Context, _ *struct{}) (*api.Reply[wire.SealingKey], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "sealing-key.rotate", productName); err != nil {
		return nil, err
	}
	var out wire.SealingKey
	err := s.Trail.Do(ctx, "sealing-key.rotate", productName, func() (r auditlog.Result, err error) {
		out, err = s.Store.RotateSealingKey(ctx)
		r.Details = map[string]string{"keyID": out.ID}
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return api.Body(out), nil
}
