// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

func (s *Service) registerSecrets(rest huma.API) {
	huma.Register(rest, operation("list-secrets", http.MethodGet, "/secrets", "List secrets without their values"), s.list)
	huma.Register(rest, api.Created(operation("create-secret", http.MethodPost, "/secrets", "Store a new secret", http.StatusPreconditionFailed)), s.create)
	huma.Register(rest, operation("get-secret", http.MethodGet, "/secrets/{path}", "Get a secret without its value"), s.get)
	huma.Register(rest, operation("put-secret", http.MethodPut, "/secrets/{path}", "Store a new version", http.StatusPreconditionFailed, http.StatusConflict), s.put)
	huma.Register(rest, operation("delete-secret", http.MethodDelete, "/secrets/{path}", "Delete all versions of a secret, or destroy it"), s.remove)
	huma.Register(rest, operation("apply-secret", http.MethodPost, "/secrets/{path}/apply", "Store the value that a resource declares (called by its controller)", http.StatusGone), s.apply)
	huma.Register(rest, operation("rotate-secret", http.MethodPost, "/secrets/{path}/rotate", "Add a new version of a generated or issued secret", http.StatusGone), s.rotate)
	huma.Register(rest, operation("rollback-secret", http.MethodPost, "/secrets/{path}/rollback", "Add a new version with the value of an old one", http.StatusGone), s.rollback)
	huma.Register(rest, operation("list-consumers", http.MethodGet, "/secrets/{path}/consumers", "Which workloads consume which version"), s.consumers)
}

// PathInput is the secret of a request: one escaped segment of the URL. huma sees only exported types when they are
// embedded.
type PathInput struct {
	Path string `path:"path" minLength:"1" maxLength:"253" pattern:"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$" patternDescription:"segments of a-z, 0-9, '.', '_' and '-' between slashes, each beginning and ending with a letter or digit" doc:"path of the secret, slashes escaped: db%2Fpassword" example:"db/password"`
}

// check refuses an invalid path before anything else is done.
func (p *PathInput) check() error { return answerIn("path.", store.CheckPath(p.Path)) }

type listInput struct {
	api.Page
	Prefix string `query:"prefix" maxLength:"253" doc:"only paths that start with it"`
	Type   string `query:"type" enum:"Text,File,Certificate,APIKey" doc:"only secrets of this type"`
}

// maxScan limits how many secrets that the caller may not see a page skips.
const maxScan = 5000

func (s *Service) list(ctx context.Context, in *listInput) (*api.Reply[wire.Page[wire.Secret]], error) {
	p := auth.From(ctx)
	if p == nil {
		return nil, auth.Unauthenticated("a login is needed")
	}
	if err := s.access.ready(p); err != nil {
		return nil, err
	}
	scope := api.Scope("secrets", in.Prefix, in.Type)
	options := store.ListOptions{Prefix: in.Prefix, Type: in.Type, Limit: in.Limit}
	if err := s.Cursors.Decode(scope, in.Cursor, &options.After); err != nil {
		return nil, err
	}
	request := requestOf(ctx)
	page := wire.Page[wire.Secret]{Items: []wire.Secret{}}
	for scanned := 0; ; {
		secrets, more, err := s.Store.List(ctx, options)
		if err != nil {
			return nil, answerIn("query.", err)
		}
		for i := range secrets {
			options.After = secrets[i].Path
			if s.access.mayList(p, secrets[i].Path, request) {
				page.Items = append(page.Items, secrets[i])
			}
			if len(page.Items) == in.Limit && (more || i < len(secrets)-1) {
				page.Next = s.Cursors.Encode(scope, options.After)
				return api.Body(page), nil
			}
		}
		scanned += len(secrets)
		if !more {
			return api.Body(page), nil
		}
		if scanned >= maxScan {
			page.Next = s.Cursors.Encode(scope, options.After)
			return api.Body(page), nil
		}
	}
}

type createInput struct {
	Body struct {
		Path string `json:"path" minLength:"1" maxLength:"253" pattern:"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$" patternDescription:"segments of a-z, 0-9, '.', '_' and '-' between slashes, each beginning and ending with a letter or digit" doc:"path of the secret, such as db/password"`
		wire.Write
	}
}

func (s *Service) create(ctx context.Context, in *createInput) (*api.Tagged[wire.Secret], error) {
	path, write := in.Body.Path, in.Body.Write
	if err := answer(store.CheckPath(path)); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbWrite, "secret.create", path); err != nil {
		return nil, err
	}
	if err := s.Resources.mayWrite(path); err != nil {
		return nil, err
	}
	var out wire.Secret
	err := s.Trail.Do(ctx, "secret.create", object(path, 0), func() (r auditlog.Result, err error) {
		if write.CheckAndSet != nil && *write.CheckAndSet != 0 {
			return r, store.ErrStale
		}
		out, err = s.Store.Create(ctx, path, write, auth.Name(ctx))
		r.Object = object(path, out.Version)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	s.Resources.created(ctx, out)
	return api.Versioned(out.Version, out), nil
}

func (s *Service) get(ctx context.Context, in *PathInput) (*api.Tagged[wire.Secret], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbList, "secret.get", in.Path); err != nil {
		return nil, err
	}
	out, err := s.Store.Get(ctx, in.Path)
	if err != nil {
		return nil, answer(err)
	}
	return api.Versioned(out.Version, out), nil
}

type putInput struct {
	PathInput
	IfMatch string `header:"If-Match" doc:"entity tag of the newest version that the writer knows"`
	Body    wire.Write
}

func (s *Service) put(ctx context.Context, in *putInput) (*api.Tagged[wire.Secret], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	match, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	write := in.Body
	if match != nil && *match != api.AnyVersion {
		if write.CheckAndSet != nil && *write.CheckAndSet != *match {
			return nil, api.Invalid("body.checkAndSet", "it differs from header If-Match")
		}
		write.CheckAndSet = match
	}
	if err := s.allow(ctx, vaultv1.VerbWrite, "secret.write", in.Path); err != nil {
		return nil, err
	}
	if err := s.Resources.mayWrite(in.Path); err != nil {
		return nil, err
	}
	return s.newVersion(ctx, "secret.write", in.Path, func() (wire.Secret, error) {
		return s.Store.Put(ctx, in.Path, write, auth.Name(ctx))
	})
}

// newVersion runs write, which adds a version, and records the version on the resource.
func (s *Service) newVersion(ctx context.Context, action, path string, write func() (wire.Secret, error)) (*api.Tagged[wire.Secret], error) {
	var out wire.Secret
	err := s.Trail.Do(ctx, action, object(path, 0), func() (r auditlog.Result, err error) {
		out, err = write()
		r.Object = object(path, out.Version)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	s.Resources.changed(ctx, out)
	return api.Versioned(out.Version, out), nil
}

type removeInput struct {
	PathInput
	Destroy bool `query:"destroy" doc:"remove the secret and all its versions permanently"`
}

func (s *Service) remove(ctx context.Context, in *removeInput) (*api.Empty, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	action, remove := "secret.delete", s.Store.Delete
	if in.Destroy {
		action, remove = "secret.destroy", s.Store.Destroy
	}
	if err := s.allow(ctx, vaultv1.VerbDelete, action, in.Path); err != nil {
		return nil, err
	}
	err := s.Trail.Do(ctx, action, object(in.Path, 0), func() (auditlog.Result, error) { return auditlog.Result{}, remove(ctx, in.Path) })
	if err != nil {
		return nil, err
	}
	if in.Destroy {
		s.Resources.destroyed(ctx, in.Path)
	}
	return nil, nil
}

type applyInput struct {
	PathInput
	Body wire.Apply
}

func (s *Service) apply(ctx context.Context, in *applyInput) (*api.Tagged[wire.Applied], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "secret.apply", object(in.Path, 0)); err != nil {
		return nil, err
	}
	var out wire.Applied
	err := s.Trail.Do(ctx, "secret.apply", object(in.Path, 0), func() (r auditlog.Result, err error) {
		out, err = s.Store.Apply(ctx, in.Path, in.Body, auth.Name(ctx))
		r.Object, r.Silent = object(in.Path, out.Version), !out.Changed
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return api.Versioned(out.Version, out), nil
}

func (s *Service) rotate(ctx context.Context, in *PathInput) (*api.Tagged[wire.Secret], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbRotate, "secret.rotate", in.Path); err != nil {
		return nil, err
	}
	return s.newVersion(ctx, "secret.rotate", in.Path, func() (wire.Secret, error) {
		return s.Store.Rotate(ctx, in.Path, auth.Name(ctx))
	})
}

type rollbackInput struct {
	PathInput
	Body struct {
		Version int64 `json:"version" minimum:"1" doc:"version whose value is restored"`
	}
}

func (s *Service) rollback(ctx context.Context, in *rollbackInput) (*api.Tagged[wire.Secret], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbWrite, "secret.rollback", in.Path); err != nil {
		return nil, err
	}
	return s.newVersion(ctx, "secret.rollback", in.Path, func() (wire.Secret, error) {
		return s.Store.Rollback(ctx, in.Path, in.Body.Version, auth.Name(ctx))
	})
}

// Consumer is a workload and the version that it was started with, or has mounted.
type Consumer struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Via     string `json:"via,omitempty" doc:"Volume, Environment or Registry"`
	Version int64  `json:"version,omitempty" doc:"0: unknown"`
}

func (s *Service) consumers(ctx context.Context, in *PathInput) (*api.Reply[wire.Page[Consumer]], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbList, "secret.consumers", in.Path); err != nil {
		return nil, err
	}
	if _, err := s.Store.Get(ctx, in.Path); err != nil {
		return nil, answer(err)
	}
	return api.Body(wire.Page[Consumer]{Items: s.Resources.consumers(in.Path)}), nil
}
