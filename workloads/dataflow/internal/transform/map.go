// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// MapConfig configures the type map: exactly one of Expression and Fields.
type MapConfig struct {
	Expression schema.CEL                      `json:"expression,omitempty" jsonschema:"description=The new value: a CEL expression; an object is written as {'name': this.name}"`
	Fields     map[schema.FieldPath]schema.CEL `json:"fields,omitempty" jsonschema:"description=Fields of the new object and the CEL expressions for their values"`
}

type mapper struct {
	whole  *evaluator
	fields []assignment
}

func mapSpec() Spec {
	return specOf("map", "Builds a new value from CEL expressions over the old one.", newMap)
}

func newMap(cfg MapConfig, env Env) (any, error) {
	if (cfg.Expression == "") == (len(cfg.Fields) == 0) {
		return nil, errors.New(": want exactly one of 'expression' and 'fields'")
	}
	if cfg.Expression != "" {
		whole, err := compileCEL("expression", cfg.Expression, expr.Any, env)
		return &mapper{whole: whole}, err
	}
	fields, err := assignmentsOf("fields", cfg.Fields, env)
	return &mapper{fields: fields}, err
}

// Map replaces the value.
func (m *mapper) Map(_ context.Context, r *record.Record) error {
	if m.whole != nil {
		value, err := m.whole.value(r)
		if err != nil {
			return err
		}
		r.SetTree(value)
		return nil
	}
	object := make(map[string]any, len(m.fields))
	for i := range m.fields {
		value, err := m.fields[i].eval(r)
		if err != nil {
			return err
		}
		if err := m.fields[i].to.set(object, value); err != nil {
			return err
		}
	}
	r.SetTree(object)
	return nil
}
