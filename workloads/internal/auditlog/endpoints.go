// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// Register adds the operations that read the log, for administrators.
func (t *Trail) Register(rest huma.API) {
	huma.Register(rest, operation("list-audit", "", "List what was done, the newest first"), t.list)
	export := operation("export-audit", "/export", "The whole audit log as JSON lines, for the offline verifier")
	export.Responses = map[string]*huma.Response{"200": {
		Description: "JSON lines", Content: map[string]*huma.MediaType{typeLines: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(rest, export, t.export)
	huma.Register(rest, operation("get-audit-key", "/key", "The public key that verifies the audit log"), t.key)
}

func operation(id, path, summary string) huma.Operation {
	return api.Operation("audit", id, http.MethodGet, "/audit"+path, summary)
}

const typeLines = "application/jsonl"

type listInput struct {
	api.Page
	User   string    `query:"user" maxLength:"320" doc:"the principal's name"`
	Action string    `query:"action" maxLength:"64" doc:"such as secret.read; secret.* is a prefix"`
	Object string    `query:"object" maxLength:"512" doc:"such as secret/db/password@3; secret/db/* is a prefix"`
	Since  time.Time `query:"since" doc:"from this time on"`
	Until  time.Time `query:"until" doc:"before this time"`
}

func (t *Trail) list(ctx context.Context, in *listInput) (*api.Reply[api.List[audit.Entry]], error) {
	if err := t.Require(ctx, auth.RoleAdmin, "audit.read", "audit"); err != nil {
		return nil, err
	}
	f := audit.Filter{User: in.User, Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until, Limit: in.Limit}
	scope := api.Scope("audit", in.User, in.Action, in.Object, in.Since, in.Until)
	if err := t.Cursors.Decode(scope, in.Cursor, &f.Before); err != nil {
		return nil, err
	}
	entries, next, err := t.Log.List(ctx, f)
	if err != nil {
		return nil, t.Answer(err)
	}
	page := api.List[audit.Entry]{Items: entries}
	if next > 0 {
		page.Next = t.Cursors.Encode(scope, next)
	}
	return api.Body(page), nil
}

// exportTime limits an export, which holds a snapshot of the database.
const exportTime = 10 * time.Minute

func (t *Trail) export(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if err := t.Require(ctx, auth.RoleAdmin, "audit.export", "audit"); err != nil {
		return nil, err
	}
	if err := t.Record(ctx, t.Event(ctx, "audit.export", "audit", audit.Allowed)); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		limited, cancel := context.WithTimeout(ctx, exportTime)
		defer cancel()
		_ = h.SetReadDeadline(time.Time{})
		out := &lines{h: h}
		if err := t.Log.Export(limited, out); err != nil {
			if !out.begun {
				request, writer := humago.Unwrap(h)
				api.Write(writer, request, t.Answer(err))
				return
			}
			t.Logger.WarnContext(ctx, "the audit log's export was interrupted", "error", err)
			// The client must not mistake a part for the whole log; the verifier would also miss the signed end.
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// lines sends its headers with the first byte, so that an earlier error can still become the response.
type lines struct {
	h     huma.Context
	begun bool
}

// Write implements io.Writer.
func (l *lines) Write(data []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.h.SetHeader("Content-Type", typeLines)
		l.h.SetHeader("Cache-Control", "no-store")
		l.h.SetStatus(http.StatusOK)
	}
	return l.h.BodyWriter().Write(data)
}

// Key verifies the audit log.
type Key struct {
	ID        string `json:"id" doc:"as in the keyID of each signature"`
	PublicKey []byte `json:"publicKey" doc:"Ed25519, 32 bytes"`
}

func (t *Trail) key(ctx context.Context, _ *struct{}) (*api.Reply[Key], error) {
	if err := t.Require(ctx, auth.RoleAdmin, "audit.key", "audit"); err != nil {
		return nil, err
	}
	public := t.Log.Public()
	return api.Body(Key{audit.KeyID(public), public}), nil
}
