// SPDX-License-Identifier: Apache-2.0

// Package schema validates JSON against a JSON Schema, and names the invalid fields without quoting their values.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// FieldError describes one invalid field of a configuration.
type FieldError struct {
	// Path is the field: sinks[0].config.table.
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Error returns "path: message".
func (e FieldError) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// Schema is a JSON Schema (draft 2020-12), compiled. It is safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
	document any
	formats  map[string]func(string) error
}

// Document returns the schema itself, decoded. It must not be changed.
func (s *Schema) Document() any { return s.document }

// Compile compiles a schema. References to other documents are refused. formats adds formats of strings to those of JSON
// Schema, each with its check.
func Compile(schema json.RawMessage, formats map[string]func(string) error) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, errors.New("schema is not valid JSON")
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	compiler.AssertFormat()
	for name, check := range formats {
		compiler.RegisterFormat(&jsonschema.Format{Name: name, Validate: onStrings(check)})
	}
	const root = "urn:schema"
	if err := compiler.AddResource(root, document); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	compiled, err := compiler.Compile(root)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return &Schema{compiled: compiled, document: document, formats: formats}, nil
}

// noLoader prevents a schema from reading files or URLs.
type noLoader struct{}

func (noLoader) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not allowed")
}

func onStrings(check func(string) error) func(any) error {
	return func(value any) error {
		if text, ok := value.(string); ok {
			return check(text)
		}
		return nil
	}
}

// Check validates a JSON document (an empty one counts as an empty object) and names the invalid fields by their path
// below base. Messages quote the schema, and of the document only names of fields.
func (s *Schema) Check(value json.RawMessage, base string) []FieldError {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(OrEmpty(value)))
	if err != nil {
		return []FieldError{{base, "is not valid JSON"}}
	}
	return s.CheckTree(document, base)
}

// CheckTree is Check for a decoded value.
func (s *Schema) CheckTree(tree any, base string) []FieldError {
	err := s.compiled.Validate(tree)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []FieldError{{base, "cannot be validated"}}
	}
	var out []FieldError
	s.leaves(invalid, base, &out)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

// leaves collects the errors without a cause of their own.
func (s *Schema) leaves(e *jsonschema.ValidationError, base string, out *[]FieldError) {
	location := e.InstanceLocation
	if exact, ok := byKeyword(e.SchemaURL); ok {
		location = exact
	}
	path := base
	for _, part := range location {
		path = JoinPath(path, part)
	}
	if k, ok := e.ErrorKind.(*kind.PropertyNames); ok {
		// The causes describe the name as if it were a document of its own.
		for _, cause := range e.Causes {
			s.leaves(&jsonschema.ValidationError{ErrorKind: cause.ErrorKind, Causes: cause.Causes}, JoinPath(path, k.Property), out)
		}
		return
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			s.leaves(cause, base, out)
		}
		return
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			*out = append(*out, FieldError{JoinPath(path, name), "is required"})
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*out = append(*out, FieldError{JoinPath(path, name), "is not a known field"})
		}
	default:
		*out = append(*out, FieldError{path, s.message(k)})
	}
}

// byKeyword derives the location of a propertyNames error from its schema's: the location of the validator (6.0.3) shares
// memory that it reuses. It works only where the schema has fixed names.
func byKeyword(url string) ([]string, bool) {
	_, pointer, _ := strings.Cut(url, "#/")
	parts := strings.Split(pointer, "/")
	last := len(parts) - 1
	if parts[last] != "propertyNames" || last%2 == 1 {
		return nil, false
	}
	var out []string
	for i := 0; i < last; i += 2 {
		if parts[i] != "properties" {
			return nil, false
		}
		out = append(out, strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[i+1]))
	}
	return out, true
}

// message describes a violation without the invalid value.
func (s *Schema) message(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("want %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		words := make([]string, len(k.Want))
		for i, want := range k.Want {
			words[i] = fmt.Sprint(want)
		}
		return "want one of " + strings.Join(words, ", ")
	case *kind.Const:
		return fmt.Sprintf("want %v", k.Want)
	case *kind.Format:
		if _, ours := s.formats[k.Want]; ours {
			return k.Err.Error()
		}
		return "is not a valid " + k.Want
	case *kind.Pattern:
		return "does not match pattern " + k.Want
	case *kind.MinLength:
		return fmt.Sprintf("want at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("want at most %d characters", k.Want)
	case *kind.Minimum:
		return "want at least " + k.Want.RatString()
	case *kind.Maximum:
		return "want at most " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "want more than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "want less than " + k.Want.RatString()
	case *kind.MultipleOf:
		return "want a multiple of " + k.Want.RatString()
	case *kind.MinItems:
		return fmt.Sprintf("want at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("want at most %d items", k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("want at least %d fields", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("want at most %d fields", k.Want)
	case *kind.UniqueItems:
		return "want distinct items"
	case *kind.OneOf:
		return "want exactly one of the alternatives"
	case *kind.FalseSchema:
		return "is not allowed"
	default:
		return "violates " + strings.Join(k.KeywordPath(), ".")
	}
}

// JoinPath appends a field's name or an index to a path: a.b, a[0], a["x.y"].
func JoinPath(path, part string) string {
	if _, err := strconv.Atoi(part); err == nil {
		return path + "[" + part + "]"
	}
	if part == "" || strings.ContainsAny(part, `.[]" `) {
		return path + "[" + strconv.Quote(part) + "]"
	}
	if path == "" {
		return part
	}
	return path + "." + part
}

// Defaults fills in the schema's defaults for absent fields, in the objects that are present.
func (s *Schema) Defaults(value json.RawMessage) (json.RawMessage, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(OrEmpty(value)))
	if err != nil {
		return nil, errors.New("is not valid JSON")
	}
	return json.Marshal(fill(s.document, document))
}

func fill(schema, value any) any {
	object, ok := schema.(map[string]any)
	if !ok {
		return value
	}
	switch v := value.(type) {
	case map[string]any:
		properties, _ := object["properties"].(map[string]any)
		for name, property := range properties {
			if current, present := v[name]; present {
				v[name] = fill(property, current)
			} else if about, ok := property.(map[string]any); ok {
				if preset, has := about["default"]; has {
					v[name] = preset
				}
			}
		}
		for name, current := range v {
			if _, known := properties[name]; !known {
				v[name] = fill(object["additionalProperties"], current)
			}
		}
	case []any:
		for i := range v {
			v[i] = fill(object["items"], v[i])
		}
	}
	return value
}

// OrEmpty returns a JSON document, or an empty object for nothing and for null.
func OrEmpty(value json.RawMessage) json.RawMessage {
	if trimmed := bytes.TrimSpace(value); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		return json.RawMessage("{}")
	}
	return value
}
