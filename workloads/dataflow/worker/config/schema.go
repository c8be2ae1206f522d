// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
	"github.com/itechsmart/operator/workloads/internal/schema"
)

// Formats that a schema's strings may have beyond those of JSON Schema; each is checked.
const (
	FormatCEL       = "cel"        // an expression of any type
	FormatCELBool   = "cel-bool"   // an expression that gives a bool
	FormatCELString = "cel-string" // an expression that gives a string
	FormatDuration  = "go-duration"
	FormatRegexp    = "go-regexp" // RE2 syntax
	FormatFieldPath = "field-path"
)

// FieldError says what is wrong with one field of a configuration.
type FieldError = schema.FieldError

// Schema is a JSON Schema (draft 2020-12), compiled. It is safe for concurrent use.
type Schema = schema.Schema

// CompileSchema reads a schema. References to other documents are refused.
func CompileSchema(document json.RawMessage) (*Schema, error) {
	return schema.Compile(document, formats)
}

// JoinPath appends a field's name or an index to a path: a.b, a[0], a["x.y"].
func JoinPath(path, part string) string { return schema.JoinPath(path, part) }

var formats = map[string]func(string) error{
	FormatCEL:       func(text string) error { return compiles(text, expr.Any) },
	FormatCELBool:   func(text string) error { return compiles(text, expr.Bool) },
	FormatCELString: func(text string) error { return compiles(text, expr.String) },
	FormatDuration: func(text string) error {
		if _, err := time.ParseDuration(text); err != nil {
			return errors.New(`want a number with a unit, such as "1.5s"`)
		}
		return nil
	},
	FormatRegexp: func(text string) error {
		_, err := regexp.Compile(text)
		return err
	},
	FormatFieldPath: func(text string) error {
		_, err := expr.ParsePath(text)
		return err
	},
}

func compiles(text string, want expr.Type) error {
	_, err := expr.Compile(text, want)
	return err
}
