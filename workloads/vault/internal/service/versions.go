// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

func (s *Service) registerVersions(rest huma.API) {
	huma.Register(rest, operation("read-secret", http.MethodGet, "/secrets/{path}/value", "Read a value", http.StatusGone), s.read)
	huma.Register(rest, operation("diff-secret", http.MethodGet, "/secrets/{path}/diff", "Which fields differ between two versions, without their values", http.StatusGone), s.diff)
	huma.Register(rest, operation("list-versions", http.MethodGet, "/secrets/{path}/versions", "List versions, the newest first"), s.versions)
	huma.Register(rest, operation("delete-version", http.MethodDelete, "/secrets/{path}/versions/{version}", "Delete a version; it can be undeleted", http.StatusGone), s.deleteVersion)
	huma.Register(rest, operation("undelete-version", http.MethodPost, "/secrets/{path}/versions/{version}/undelete", "Restore a deleted version", http.StatusGone), s.undeleteVersion)
	huma.Register(rest, operation("destroy-version", http.MethodPost, "/secrets/{path}/versions/{version}/destroy", "Remove a version's value permanently"), s.destroyVersion)
}

type readInput struct {
	PathInput
	Version int64 `query:"version" minimum:"0" doc:"0 is the newest"`
}

// secretReply is never cached.
type secretReply[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

func (s *Service) read(ctx context.Context, in *readInput) (*secretReply[wire.Read], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	const action = "secret.read"
	if err := s.allow(ctx, vaultv1.VerbRead, action, in.Path); err != nil {
		return nil, err
	}
	out, err := s.Store.Read(ctx, in.Path, in.Version)
	number := out.Version.Version
	if err != nil {
		number = in.Version
	}
	if err := s.readEvent(ctx, action, object(in.Path, number), err); err != nil {
		return nil, err
	}
	return &secretReply[wire.Read]{"no-store", out}, nil
}

// readEvent records a read, and returns its outcome. Nothing has been sent yet, and without the event nothing will be.
func (s *Service) readEvent(ctx context.Context, action, object string, err error) error {
	if full := s.Trail.Record(ctx, s.Trail.Done(ctx, action, object, err)); full != nil {
		return full
	}
	return answerRead(err)
}

// answerRead names the fields of a read's parameters.
func answerRead(err error) error {
	if field, ok := errors.AsType[*material.FieldError](err); ok && field.Field == "path" {
		return answerIn("path.", err)
	}
	return answerIn("query.", err)
}

type diffInput struct {
	PathInput
	From int64 `query:"from" minimum:"0" doc:"older version; 0 is the one before to"`
	To   int64 `query:"to" minimum:"0" doc:"newer version; 0 is the newest"`
}

func (s *Service) diff(ctx context.Context, in *diffInput) (*api.Reply[[]wire.FieldDiff], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbList, "secret.diff", in.Path); err != nil {
		return nil, err
	}
	out, err := s.Store.Diff(ctx, in.Path, in.From, in.To)
	if err != nil {
		return nil, answerIn("query.", err)
	}
	if out == nil {
		out = []wire.FieldDiff{}
	}
	return api.Body(out), nil
}

type versionsInput struct {
	PathInput
	api.Page
}

func (s *Service) versions(ctx context.Context, in *versionsInput) (*api.Reply[wire.Page[wire.Version]], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, vaultv1.VerbList, "secret.versions", in.Path); err != nil {
		return nil, err
	}
	scope := api.Scope("versions", in.Path)
	options := store.VersionsOptions{Limit: in.Limit}
	if err := s.Cursors.Decode(scope, in.Cursor, &options.Before); err != nil {
		return nil, err
	}
	versions, more, err := s.Store.Versions(ctx, in.Path, options)
	if err != nil {
		return nil, answerIn("query.", err)
	}
	page := wire.Page[wire.Version]{Items: versions}
	if page.Items == nil {
		page.Items = []wire.Version{}
	}
	if more && len(versions) > 0 {
		page.Next = s.Cursors.Encode(scope, versions[len(versions)-1].Version)
	}
	return api.Body(page), nil
}

type versionInput struct {
	PathInput
	Version int64 `path:"version" minimum:"1"`
}

func (s *Service) deleteVersion(ctx context.Context, in *versionInput) (*api.Empty, error) {
	return s.version(ctx, in, vaultv1.VerbDelete, "version.delete", s.Store.DeleteVersion)
}

func (s *Service) undeleteVersion(ctx context.Context, in *versionInput) (*api.Empty, error) {
	return s.version(ctx, in, vaultv1.VerbWrite, "version.undelete", s.Store.UndeleteVersion)
}

func (s *Service) destroyVersion(ctx context.Context, in *versionInput) (*api.Empty, error) {
	return s.version(ctx, in, vaultv1.VerbDelete, "version.destroy", s.Store.DestroyVersion)
}

// version runs an operation on one version.
func (s *Service) version(ctx context.Context, in *versionInput, verb vaultv1.Verb, action string, do func(context.Context, string, int64) error) (*api.Empty, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.allow(ctx, verb, action, in.Path); err != nil {
		return nil, err
	}
	err := s.Trail.Do(ctx, action, object(in.Path, in.Version), func() (auditlog.Result, error) {
		return auditlog.Result{}, do(ctx, in.Path, in.Version)
	})
	if err == nil {
		s.Resources.touched(ctx, in.Path)
	}
	return nil, err
}
