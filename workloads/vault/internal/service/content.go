// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

const (
	typeContent = "application/octet-stream"
	contentPath = "/secrets/{path}/content"

	// contentTime limits a transfer. Each contentStep bytes of it have stepTime, which is less than the database allows a
	// transaction to be idle.
	contentTime = 10 * time.Minute
	contentStep = 256 << 10
	stepTime    = 20 * time.Second
)

// largeBodies returns the routes whose bodies are streams.
func largeBodies(maxFile int64) map[string]int64 {
	return map[string]int64{http.MethodPut + " " + api.Base + contentPath: cmp.Or(maxFile, store.DefaultMaxFileBytes)}
}

func (s *Service) registerContents(rest huma.API) {
	binary := map[string]*huma.MediaType{typeContent: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	upload := operation("put-content", http.MethodPut, contentPath, "Store a File from a stream: a new version, or a new secret",
		http.StatusPreconditionFailed, http.StatusConflict)
	upload.RequestBody = &huma.RequestBody{Required: true, Content: binary}
	upload.Responses = map[string]*huma.Response{"200": {Description: "A new version"}}
	huma.Register(rest, upload, s.upload)
	created := *upload.Responses["200"]
	created.Description = "A new secret"
	upload.Responses["201"] = &created
	download := operation("get-content", http.MethodGet, contentPath, "Read a File as a stream", http.StatusGone)
	download.Responses = map[string]*huma.Response{"200": {Description: "The content; a response that ends early is incomplete", Content: binary}}
	huma.Register(rest, download, s.download)
}

type uploadInput struct {
	PathInput
	IfMatch     string    `header:"If-Match" doc:"entity tag of the newest version that the writer knows; * creates no secret"`
	IfNoneMatch string    `header:"If-None-Match" enum:"*" doc:"* only creates a secret, and adds no version to an existing one"`
	Filename    string    `query:"filename" maxLength:"255" doc:"name of the file, without directories"`
	Metadata    []string  `query:"metadata,explode" maxItems:"32" nullable:"false" doc:"name=value, once for each"`
	ExpiresAt   time.Time `query:"expiresAt" doc:"when the file expires"`

	request *http.Request
	writer  http.ResponseWriter
}

// Resolve implements huma.Resolver: the body is not read.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.request, in.writer = humago.Unwrap(ctx)
	return nil
}

// plan returns the upload that the parameters and headers describe.
func (in *uploadInput) plan() (store.Upload, error) {
	u := store.Upload{Filename: in.Filename}
	if kind, _, err := mime.ParseMediaType(in.request.Header.Get("Content-Type")); err != nil || kind != typeContent {
		return u, api.Error(http.StatusUnsupportedMediaType, "content_type", "the body must be "+typeContent, api.Detail{Field: "header.Content-Type", Message: "it is not " + typeContent})
	}
	match, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return u, err
	}
	switch {
	case match != nil && in.IfNoneMatch != "":
		return u, api.Invalid("header.If-None-Match", "it contradicts header If-Match")
	case in.IfNoneMatch != "":
		u.CheckAndSet = new(int64)
	case match != nil && *match == api.AnyVersion:
		u.Replace = true
	case match != nil:
		u.CheckAndSet, u.Replace = match, true
	}
	if !in.ExpiresAt.IsZero() {
		u.ExpiresAt = &in.ExpiresAt
	}
	for _, pair := range in.Metadata {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := u.Metadata[name]; !ok || twice {
			return u, api.Invalid("query.metadata", "must be name=value, each name once")
		}
		if u.Metadata == nil {
			u.Metadata = map[string]string{}
		}
		u.Metadata[name] = value
	}
	return u, nil
}

// stored is the response to an upload.
type stored struct {
	Status int
	ETag   string `header:"ETag" doc:"the newest version, for If-Match"`
	Body   wire.Secret
}

func (s *Service) upload(ctx context.Context, in *uploadInput) (*stored, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	plan, err := in.plan()
	if err != nil {
		return nil, err
	}
	const action = "secret.write"
	if err := s.allow(ctx, vaultv1.VerbWrite, action, in.Path); err != nil {
		return nil, err
	}
	if err := s.Resources.mayWrite(in.Path); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, contentTime)
	defer cancel()
	body := newPaced(in.request.Body, in.writer, stepTime)
	var out wire.Secret
	err = s.Trail.Do(ctx, action, object(in.Path, 0), func() (r auditlog.Result, err error) {
		out, err = s.Store.Upload(limited, in.Path, plan, body, auth.Name(ctx))
		r.Object = object(in.Path, out.Version)
		if body.err != nil {
			return r, api.Unread(ctx, body.err)
		}
		return r, placed(err)
	})
	if err != nil {
		return nil, err
	}
	if out.Version == 1 {
		s.Resources.created(ctx, out)
		return &stored{http.StatusCreated, api.ETag(out.Version), out}, nil
	}
	s.Resources.changed(ctx, out)
	return &stored{http.StatusOK, api.ETag(out.Version), out}, nil
}

// placed renames the fields of a store's error to those of the request.
func placed(err error) error {
	field, ok := errors.AsType[*material.FieldError](err)
	switch {
	case !ok:
		return answer(err)
	case field.Field == "content":
		return api.Invalid("body", field.Message)
	case field.Field == "path", field.Field == "type":
		return answerIn("path.", err)
	default:
		return answerIn("query.", err)
	}
}

// paced reads a body that has to arrive at a minimum rate.
type paced struct {
	in       io.Reader
	control  *http.ResponseController
	pace     time.Duration // for contentStep bytes
	end      time.Time
	received int // since the deadline was extended
	err      error
}

func newPaced(in io.Reader, w http.ResponseWriter, pace time.Duration) *paced {
	p := &paced{in: in, control: http.NewResponseController(w), pace: pace, end: time.Now().Add(contentTime)}
	_ = p.control.SetWriteDeadline(p.end.Add(pace)) // of the response
	p.step()
	return p
}

func (p *paced) step() {
	p.received = 0
	next := time.Now().Add(p.pace)
	if next.After(p.end) {
		next = p.end
	}
	_ = p.control.SetReadDeadline(next)
}

// Read implements io.Reader.
func (p *paced) Read(buf []byte) (int, error) {
	n, err := p.in.Read(buf)
	if p.received += n; p.received >= contentStep {
		p.step()
	}
	switch {
	case err == io.EOF: //nolint:errorlint // bare alone: what is wrapped is no end
		_ = p.control.SetReadDeadline(time.Time{}) // otherwise this would count as a client that has gone
	case err != nil:
		p.err = err
	}
	return n, err
}

func (s *Service) download(ctx context.Context, in *readInput) (*huma.StreamResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	const action = "secret.read"
	if err := s.allow(ctx, vaultv1.VerbRead, action, in.Path); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, contentTime)
	content, err := s.Store.Content(limited, in.Path, in.Version)
	number := in.Version
	if err == nil {
		number = content.Version.Version
	}
	if refusal := s.readEvent(ctx, action, object(in.Path, number), err); refusal != nil {
		cancel()
		if err == nil {
			_ = content.Close()
		}
		return nil, refusal
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer cancel()
		defer content.Close() //nolint:errcheck // it forgets the keys
		s.send(ctx, h, content)
	}}, nil
}

// send streams a content. An error after the first byte closes the connection: the client gets fewer bytes than
// announced, and must not accept them as the file.
func (s *Service) send(ctx context.Context, h huma.Context, content *store.Content) {
	_, writer := humago.Unwrap(h)
	control := http.NewResponseController(writer)
	header := writer.Header()
	header.Set("Content-Type", typeContent)
	header.Set("Content-Length", strconv.FormatInt(content.Size, 10))
	header.Set("ETag", api.ETag(content.Version.Version))
	disposition := mime.FormatMediaType("attachment", map[string]string{"filename": cmp.Or(content.Filename, "content")})
	header.Set("Content-Disposition", cmp.Or(disposition, "attachment"))
	writer.WriteHeader(http.StatusOK)
	buf := make([]byte, contentStep)
	defer clear(buf)
	for {
		n, err := content.Read(buf)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(stepTime))
			if _, err := writer.Write(buf[:n]); err != nil {
				return // the client closed the connection
			}
		}
		switch {
		case err == io.EOF: //nolint:errorlint // bare alone: what is wrapped is no end
			return
		case err != nil:
			s.Log.WarnContext(ctx, "a file was not sent completely", "error", err, "code", problem.From(answer(err)).Code)
			panic(http.ErrAbortHandler)
		}
	}
}
