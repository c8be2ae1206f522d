// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// DocumentOperation implements huma.OperationDocumenter: the document lists the envelopes, and every error from the kit
// or from op.Errors.
func (r *rest) DocumentOperation(op *huma.Operation) {
	if op.SkipValidateBody {
		panic("api: " + op.OperationID + ": strict JSON needs the validation of bodies")
	}
	// A misspelt filter must not list everything.
	op.RejectUnknownQueryParameters = true
	registry := r.OpenAPI().Components.Schemas
	tidy(registry.Map())
	r.learn(op)
	if op.Hidden {
		return
	}
	for _, response := range op.Responses {
		for kind, media := range response.Content {
			if kind == problem.TypeJSON && !bare(op) {
				media.Schema = enveloped(media.Schema)
			}
		}
	}
	if op.Method == http.MethodPost && !bare(op) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "Idempotency-Key", In: "header",
			Description: "a text chosen by the client for this request: a repeated request with the same key and body gets the first response",
			Schema:      &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(maxIdempotencyKey), Pattern: `^[!-~]+$`},
		})
	}
	for _, status := range errorsOf(op) {
		op.Responses[strconv.Itoa(status)] = ErrorResponse(r, status)
	}
	delete(op.Responses, "default")
	// OpenAPI has no parameter of several segments: there it is one with escaped slashes, which works as well.
	documented := *op
	documented.Path = strings.ReplaceAll(op.Path, "...}", "}")
	r.OpenAPI().AddOperation(&documented)
}

// ErrorResponse documents an error: the envelope, or RFC 9457. An endpoint with its own form, such as OAuth's, also
// returns the envelope, for requests that are refused before it.
func ErrorResponse(rest huma.API, status int, own ...*huma.Schema) *huma.Response {
	registry := rest.OpenAPI().Components.Schemas
	body := registry.Schema(reflect.TypeFor[problem.ErrorEnvelope](), true, "ErrorEnvelope")
	if len(own) > 0 {
		body = &huma.Schema{OneOf: append(own, body)}
	}
	return &huma.Response{
		Description: http.StatusText(status),
		Content: map[string]*huma.MediaType{
			problem.TypeJSON:    {Schema: body},
			problem.TypeProblem: {Schema: registry.Schema(reflect.TypeFor[problem.Problem](), true, "Problem")},
		},
	}
}

// learn records the names of fields and parameters, which errors may contain.
func (r *rest) learn(op *huma.Operation) {
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	op.Metadata[ownerKey] = r
	for _, p := range op.Parameters {
		r.names[p.Name] = true
	}
	for _, schema := range r.OpenAPI().Components.Schemas.Map() {
		for name := range schema.Properties {
			r.names[name] = true
		}
	}
}

// errorsOf returns the error statuses of an operation.
func errorsOf(op *huma.Operation) []int {
	set := map[int]bool{}
	for _, status := range op.Errors {
		set[status] = true
	}
	for _, status := range []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	} {
		set[status] = true
	}
	if op.RequestBody != nil {
		set[http.StatusRequestTimeout] = true
	}
	if op.Method == http.MethodPost {
		set[http.StatusConflict] = true
	}
	if strings.Contains(op.Path, "{") {
		set[http.StatusNotFound] = true
	}
	for _, p := range op.Parameters {
		if p.In == "header" && strings.EqualFold(p.Name, "If-Match") {
			set[http.StatusPreconditionFailed] = true
			// Only in the document: IfMatch checks it.
			p.Schema.Pattern = `^(\*|"(0|[1-9][0-9]{0,17})")$`
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// enveloped returns the schema of a success with this data.
func enveloped(data *huma.Schema) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject,
		Properties: map[string]*huma.Schema{
			"success":   {Type: huma.TypeBoolean, Enum: []any{true}},
			"data":      data,
			"message":   {Type: huma.TypeString},
			"timestamp": {Type: huma.TypeString, Format: "date-time"},
		},
		Required:             []string{"success", "data", "message", "timestamp"},
		AdditionalProperties: false,
	}
}

// document is the OpenAPI document in its three forms, built on the first request, when all operations are registered.
type document struct{ json, yaml, page []byte }

func (r *rest) serveDocument(mux *http.ServeMux) {
	built := sync.OnceValues(r.makeDocument)
	serve := func(contentType, policy string, part func(document) []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			d, err := built()
			if err != nil {
				Write(w, req, err)
				return
			}
			h := w.Header()
			h.Set("Content-Type", contentType)
			h.Set("Cache-Control", "no-cache")
			if policy != "" {
				h.Set("Content-Security-Policy", policy)
			}
			_, _ = w.Write(part(d))
		}
	}
	mux.HandleFunc("GET /openapi.json", serve("application/vnd.oai.openapi+json;version=3.1", "", func(d document) []byte { return d.json }))
	mux.HandleFunc("GET /openapi.yaml", serve("application/vnd.oai.openapi;version=3.1", "", func(d document) []byte { return d.yaml }))
	mux.HandleFunc("GET /docs", serve("text/html; charset=utf-8", pagePolicy, func(d document) []byte { return d.page }))
}

func (r *rest) makeDocument() (document, error) {
	api := r.OpenAPI()
	var d document
	compact, err := api.MarshalJSON()
	if err != nil {
		return d, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, compact, "", "  "); err != nil {
		return d, err
	}
	d.json = indented.Bytes()
	if d.yaml, err = api.YAML(); err != nil {
		return d, err
	}
	d.page, err = makePage(api)
	return d, err
}

// tidy corrects what huma registered. It must not run later: requests read the schemas.
func tidy(schemas map[string]*huma.Schema) {
	// huma's own form of errors, which no operation returns.
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	for _, schema := range schemas {
		for _, property := range schema.Properties {
			bytesSchema(property)
		}
	}
}

// base64Pattern matches what encoding/json decodes, except for the length.
const base64Pattern = `^[A-Za-z0-9+/]*={0,2}$`

// bytesSchema replaces huma's check of bytes, which refuses an empty text and accepts the alphabet of URLs.
func bytesSchema(s *huma.Schema) {
	if s.ContentEncoding == "base64" {
		s.ContentEncoding, s.Pattern, s.PatternDescription = "", base64Pattern, "base64"
		s.Extensions = map[string]any{"contentEncoding": "base64"}
		s.PrecomputeMessages()
	}
	if s.Items != nil {
		bytesSchema(s.Items)
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		bytesSchema(values)
	}
}
