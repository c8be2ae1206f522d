// SPDX-License-Identifier: Apache-2.0

// Package schema derives JSON Schemas from Config structs and decodes
// configurations by them.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/invopop/jsonschema"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Types for Config fields whose text has a syntax of its own; it is checked together with the schema, in the
// controller already.
type (
	// CEL is an expression of any type.
	CEL string
	// CELBool is an expression that returns a bool.
	CELBool string
	// CELString is an expression that returns a string.
	CELString string
	// Regexp is a regular expression in RE2 syntax.
	Regexp string
	// FieldPath names a field: a.b, items.0.id, with \. for a dot in a name.
	FieldPath string
)

var formats = map[reflect.Type]string{
	reflect.TypeFor[CEL]():             config.FormatCEL,
	reflect.TypeFor[CELBool]():         config.FormatCELBool,
	reflect.TypeFor[CELString]():       config.FormatCELString,
	reflect.TypeFor[Regexp]():          config.FormatRegexp,
	reflect.TypeFor[FieldPath]():       config.FormatFieldPath,
	reflect.TypeFor[config.Duration](): config.FormatDuration,
}

// Of returns the JSON Schema, draft 2020-12, of a Config (a struct or a pointer to one): one document without
// references. Fields are optional unless tagged `jsonschema:"required"`, and unknown fields are refused.
func Of(cfg any) (json.RawMessage, error) {
	reflector := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true,
		Mapper: builtinSchema,
	}
	reflected := reflector.Reflect(cfg)
	reflected.Version = ""
	data, err := json.Marshal(reflected)
	if err != nil {
		return nil, fmt.Errorf("schema of %T: %w", cfg, err)
	}
	return data, nil
}

// builtinSchema returns the schema of one of the types above, or of a map by field path.
func builtinSchema(t reflect.Type) *jsonschema.Schema {
	if format, ok := formats[t]; ok {
		return &jsonschema.Schema{Type: "string", Format: format}
	}
	if t.Kind() != reflect.Map || t.Key() != reflect.TypeFor[FieldPath]() {
		return nil
	}
	out := &jsonschema.Schema{Type: "object", PropertyNames: &jsonschema.Schema{Format: config.FormatFieldPath}}
	switch item := builtinSchema(t.Elem()); {
	case item != nil:
		out.AdditionalProperties = item
	case t.Elem().Kind() == reflect.String:
		out.AdditionalProperties = &jsonschema.Schema{Type: "string"}
	}
	return out
}

// compiled caches schemas by type: a Config's schema never changes.
var compiled sync.Map // reflect.Type → *config.Schema

func compiledOf(cfg any) (*config.Schema, error) {
	t := reflect.TypeOf(cfg)
	if found, ok := compiled.Load(t); ok {
		return found.(*config.Schema), nil
	}
	data, err := Of(cfg)
	if err != nil {
		return nil, err
	}
	schema, err := config.CompileSchema(data)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", cfg, err)
	}
	compiled.Store(t, schema)
	return schema, nil
}

// Decode reads raw into a new value of cfg's type, which is a pointer to a struct, and returns a pointer of
// that type. Absent fields get the schema's defaults. The error joins one config.FieldError per invalid field,
// with paths below base.
func Decode(cfg any, raw json.RawMessage, base string) (any, error) {
	s, err := compiledOf(cfg)
	if err != nil {
		return nil, err
	}
	filled, err := s.Defaults(raw)
	if err != nil {
		return nil, config.FieldError{Path: base, Message: err.Error()}
	}
	if problems := s.Check(filled, base); len(problems) > 0 {
		joined := make([]error, len(problems))
		for i, problem := range problems {
			joined[i] = problem
		}
		return nil, errors.Join(joined...)
	}
	out := reflect.New(reflect.TypeOf(cfg).Elem()).Interface()
	decoder := json.NewDecoder(bytes.NewReader(filled))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return nil, config.FieldError{Path: base, Message: err.Error()}
	}
	return out, nil
}
