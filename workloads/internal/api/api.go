// SPDX-License-Identifier: Apache-2.0

// Package api is the REST layer of product services: huma on a ServeMux, with one envelope, one form of errors, strict
// JSON, and an OpenAPI 3.1 document that lists every response.
//
//	mux := http.NewServeMux()
//	rest := api.New(mux, "Echo", version)
//	huma.Register(rest, huma.Operation{OperationID: "list-secrets", Method: http.MethodGet, Path: "/api/v1/secrets"}, list)
//	s.Mount(auth.Middleware(…)(server.Routes(mux)))
package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Bare is a key of an operation's Metadata: if true its responses have no envelope.
const Bare = "bare"

// Envelope is the body of a success.
type Envelope struct {
	Success   bool      `json:"success"`
	Data      any       `json:"data"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
}

// hooks sets huma's process-wide hooks.
var hooks = sync.OnceFunc(func() {
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		clean := func(string) string { return "" }
		if r, ok := ctx.Operation().Metadata[ownerKey].(*rest); ok {
			clean = r.clean
		}
		return translate(ctx.Context(), clean, status, message, errs...)
	}
	// encoding/json accepts "PATH" for "path": the validation must not.
	huma.ValidateStrictCasing = true
})

// rest is huma's API with our responses.
type rest struct {
	huma.API
	// names holds the names of all fields and parameters.
	names map[string]bool
}

// ownerKey is a key of an operation's Metadata: its API.
const ownerKey = "api"

// New returns an API on mux, with its document at /openapi.json and /openapi.yaml and a documentation page at /docs.
// Operations are added by huma.Register. An error from Error and the like becomes the response; any other becomes a 500,
// and only the log has the cause.
func New(mux *http.ServeMux, title, version string) huma.API {
	hooks()
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: title, Version: version},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {Type: "http", Scheme: "bearer", Description: "a token of POST /api/v1/token, or of a ServiceAccount"},
				},
			},
			Security: []map[string][]string{{"bearer": {}}},
		},
		Formats:       map[string]huma.Format{problem.TypeJSON: {Marshal: encode, Unmarshal: decode}},
		DefaultFormat: problem.TypeJSON,
	}
	r := &rest{API: humago.New(mux, config), names: map[string]bool{}}
	r.UseMiddleware(before)
	r.serveDocument(mux)
	return r
}

// before runs at the start of every operation.
func before(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	server.SetRoute(ctx.Context(), op.Method+" "+op.Path)
	// huma treats a body without a type as JSON, which a form of another site can send.
	if r, w := humago.Unwrap(ctx); op.RequestBody != nil && r.ContentLength != 0 && r.Header.Get("Content-Type") == "" {
		Write(w, r, problem.New(http.StatusUnsupportedMediaType, codes[http.StatusUnsupportedMediaType], messages[http.StatusUnsupportedMediaType],
			Detail{Field: "body", Message: "it has no Content-Type"}))
		return
	}
	next(ctx)
}

func encode(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// Negotiate implements huma.API: responses are always JSON, whatever the client accepts.
func (r *rest) Negotiate(string) (string, error) { return problem.TypeJSON, nil }

// Unmarshal implements huma.API.
func (r *rest) Unmarshal(contentType string, data []byte, v any) error {
	if err := checkContentType(contentType); err != nil {
		return err
	}
	return decode(data, v)
}

// Transform implements huma.API: it wraps responses in the envelope.
func (r *rest) Transform(ctx huma.Context, status string, v any) (any, error) {
	if e, ok := v.(*problem.Error); ok {
		if e.Cause != nil {
			server.Fail(ctx.Context(), e.Cause)
		}
		contentType, body := e.Render(ctx.Header("Accept"))
		ctx.SetHeader("Content-Type", contentType)
		return body, nil
	}
	if bare(ctx.Operation()) {
		return v, nil
	}
	code, err := strconv.Atoi(status)
	if err != nil || code >= http.StatusBadRequest {
		return v, nil
	}
	return Envelope{Success: true, Data: v, Message: http.StatusText(code), Timestamp: time.Now().UTC()}, nil
}

func bare(op *huma.Operation) bool {
	is, _ := op.Metadata[Bare].(bool)
	return is
}
