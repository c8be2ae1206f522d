// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the page
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// pagePolicy allows the page its own style, and nothing from elsewhere.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}()

// maxFieldDepth is how deeply a schema is expanded.
const maxFieldDepth = 6

type page struct {
	Title, Version string
	Style          template.HTML
	Operations     []pageOperation
}

type pageOperation struct {
	ID, Method, Path, Summary, Description string
	Parameters, Body                       []pageField
	Answers, Errors                        []pageAnswer
}

type pageField struct {
	Name, Type, Description string
	Required                bool
}

type pageAnswer struct {
	Status, Description string
	Fields              []pageField
}

// makePage renders the document for people: without scripts, so that it works under the strictest policy.
func makePage(api *huma.OpenAPI) ([]byte, error) {
	parsed, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	p := page{Title: api.Info.Title, Version: api.Info.Version, Style: template.HTML("<style>" + pageCSS + "</style>")} //nolint:gosec // our own file
	u := unfolder{registry: api.Components.Schemas}
	for _, path := range slices.Sorted(maps.Keys(api.Paths)) {
		item := api.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				p.Operations = append(p.Operations, u.operation(op))
			}
		}
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return out.Bytes(), nil
}

// unfolder turns schemas into tables.
type unfolder struct{ registry huma.Registry }

func (u unfolder) operation(op *huma.Operation) pageOperation {
	out := pageOperation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		out.Parameters = append(out.Parameters, pageField{Name: p.Name, Type: u.typeOf(p.Schema) + " in " + p.In, Description: p.Description, Required: p.Required})
	}
	if op.RequestBody != nil {
		for _, media := range op.RequestBody.Content {
			out.Body = append(out.Body, u.fields("", media.Schema, 0)...)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		response := op.Responses[status]
		answer := pageAnswer{Status: status, Description: response.Description}
		if response.Content[problem.TypeProblem] != nil {
			out.Errors = append(out.Errors, answer)
			continue
		}
		if media := response.Content[problem.TypeJSON]; media != nil {
			schema := u.resolve(media.Schema)
			if data := schema.Properties["data"]; data != nil && !bare(op) {
				schema = data
			}
			answer.Fields = u.fields("", schema, 0)
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

func (u unfolder) resolve(s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		s = u.registry.SchemaFromRef(s.Ref)
	}
	if s == nil {
		s = &huma.Schema{}
	}
	return s
}

// fields lists the properties of a schema, those of nested objects with their path.
func (u unfolder) fields(prefix string, s *huma.Schema, depth int) []pageField {
	s = u.resolve(s)
	switch {
	case depth == maxFieldDepth:
		return nil
	case s.Items != nil:
		return u.fields(prefix+"[]", s.Items, depth+1)
	}
	var out []pageField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		path := strings.TrimPrefix(prefix+"."+name, ".")
		description := property.Description
		if description == "" {
			description = u.resolve(property).Description
		}
		out = append(out, pageField{Name: path, Type: u.typeOf(property), Description: description, Required: slices.Contains(s.Required, name)})
		out = append(out, u.fields(path, property, depth+1)...)
	}
	return out
}

func (u unfolder) typeOf(s *huma.Schema) string {
	s = u.resolve(s)
	text := s.Type
	switch {
	case s.Items != nil:
		text = "array of " + u.typeOf(s.Items)
	case s.Format != "":
		text += " (" + s.Format + ")"
	case s.Extensions["contentEncoding"] != nil:
		text += " (" + s.PatternDescription + ")"
	}
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = fmt.Sprint(v)
		}
		text += ": " + strings.Join(values, ", ")
	}
	return text
}
