// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	wire "github.com/itechsmart/operator/internal/backend/vault"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
)

func (s *Service) registerAudit(rest huma.API) {
	huma.Register(rest, operation("list-audit", http.MethodGet, "/audit", "List what was done, the newest first"), s.listAudit)
	export := operation("export-audit", http.MethodGet, "/audit/export", "The whole audit log as JSON lines, for the offline verifier")
	export.Responses = map[string]*huma.Response{"200": {
		Description: "JSON lines", Content: map[string]*huma.MediaType{typeLines: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(rest, export, s.exportAudit)
	huma.Register(rest, operation("get-audit-key", http.MethodGet, "/audit/key", "The public key that verifies the audit log"), s.auditKey)
}

const typeLines = "application/jsonl"

type auditInput struct {
	api.Page
	User   string    `query:"user" maxLength:"320" doc:"the principal's name"`
	Action string    `query:"action" maxLength:"64" doc:"such as secret.read; secret.* is a prefix"`
	Object string    `query:"object" maxLength:"512" doc:"such as secret/db/password@3; secret/db/* is a prefix"`
	Since  time.Time `query:"since" doc:"from this time on"`
	Until  time.Time `query:"until" doc:"before this time"`
}

func (s *Service) listAudit(ctx context.Context, in *auditInput) (*reply[wire.Page[audit.Entry]], error) {
	if err := s.admin(ctx, "audit.read", "audit"); err != nil {
		return nil, err
	}
	f := audit.Filter{User: in.User, Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until, Limit: in.Limit}
	scope := api.Scope("audit", in.User, in.Action, in.Object, in.Since, in.Until)
	if err := s.Cursors.Decode(scope, in.Cursor, &f.Before); err != nil {
		return nil, err
	}
	entries, next, err := s.Audit.List(ctx, f)
	if err != nil {
		return nil, answer(err)
	}
	page := wire.Page[audit.Entry]{Items: entries}
	if next > 0 {
		page.Next = s.Cursors.Encode(scope, next)
	}
	return &reply[wire.Page[audit.Entry]]{page}, nil
}

// exportTime bounds an export: it holds a snapshot of the database.
const exportTime = 10 * time.Minute

func (s *Service) exportAudit(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if err := s.admin(ctx, "audit.export", "audit"); err != nil {
		return nil, err
	}
	if err := s.Audit.Record(ctx, s.event(ctx, "audit.export", "audit", audit.Allowed)); err != nil {
		return nil, auditFull(err)
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		limited, cancel := context.WithTimeout(ctx, exportTime)
		defer cancel()
		_ = h.SetReadDeadline(time.Time{})
		out := &lines{h: h}
		if err := s.Audit.Export(limited, out); err != nil {
			if !out.begun {
				request, writer := humago.Unwrap(h)
				api.Write(writer, request, answer(err))
				return
			}
			s.Log.WarnContext(ctx, "the audit log's export was interrupted", "error", err)
			// The client must not take what it has for all: the verifier misses the signed end as well.
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// lines sends its headers with the first byte, so that a database that is away answers an error.
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

// AuditKey verifies the audit log.
type AuditKey struct {
	ID        string `json:"id" doc:"as in the keyID of each signature"`
	PublicKey []byte `json:"publicKey" doc:"Ed25519, 32 bytes"`
}

func (s *Service) auditKey(ctx context.Context, _ *struct{}) (*reply[AuditKey], error) {
	if err := s.admin(ctx, "audit.key", "audit"); err != nil {
		return nil, err
	}
	key := s.Audit.Public()
	return &reply[AuditKey]{AuditKey{audit.KeyID(key), key}}, nil
}
