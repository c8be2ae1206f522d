// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/tree"
)

// SetConfig configures the type set.
type SetConfig struct {
	Values      map[schema.FieldPath]any        `json:"values,omitempty" jsonschema:"description=Fields and the constants to set them to"`
	Expressions map[schema.FieldPath]schema.CEL `json:"expressions,omitempty" jsonschema:"description=Fields and the CEL expressions for their values; all see the record as it was before"`
	IfMissing   bool                            `json:"ifMissing,omitempty" jsonschema:"description=Leave a field that exists and is not null"`
}

type setter struct {
	assignments []assignment
	fields      []field
	ifMissing   bool
	values      []any // scratch
}

func setSpec() Spec {
	return specOf("set", "Sets fields to constants or to the results of CEL expressions.", newSet)
}

func newSet(cfg SetConfig, env Env) (any, error) {
	if len(cfg.Values)+len(cfg.Expressions) == 0 {
		return nil, errors.New(": want 'values' or 'expressions'")
	}
	out := &setter{ifMissing: cfg.IfMissing}
	for _, path := range sortedKeys(cfg.Values) {
		to, err := newField(path)
		if err != nil {
			return nil, fmt.Errorf(".values: %w", err)
		}
		out.assignments = append(out.assignments, assignment{to: to, value: plain(cfg.Values[path])})
	}
	computed, err := assignmentsOf("expressions", cfg.Expressions, env)
	if err != nil {
		return nil, err
	}
	out.assignments = append(out.assignments, computed...)
	for i := range out.assignments {
		out.fields = append(out.fields, out.assignments[i].to)
	}
	out.values = make([]any, len(out.assignments))
	return out, nil
}

// plain converts a constant of a config to the types of a decoded record: whole numbers are int64.
func plain(value any) any {
	switch v := value.(type) {
	case float64:
		if whole := int64(v); float64(whole) == v {
			return whole
		}
	case map[string]any:
		for name, item := range v {
			v[name] = plain(item)
		}
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	}
	return value
}

// Map evaluates everything before it sets anything.
func (s *setter) Map(_ context.Context, r *record.Record) error {
	for i := range s.assignments {
		value, err := s.assignments[i].eval(r)
		if err != nil {
			return err
		}
		s.values[i] = value
	}
	defer clear(s.values)
	if s.onBytes(r) {
		return nil
	}
	object, err := r.Object()
	if err != nil {
		return err
	}
	r.Changed()
	for i := range s.assignments {
		to := s.assignments[i].to
		if s.ifMissing {
			if current, ok := to.get(object); ok && current != nil {
				continue
			}
		}
		if err := to.set(object, s.values[i]); err != nil {
			return err
		}
	}
	return nil
}

// onBytes sets the fields without decoding the record, where possible.
func (s *setter) onBytes(r *record.Record) bool {
	e, ok := edit(r, s.fields)
	if !ok {
		return false
	}
	changed := false
	for i, f := range s.fields {
		if s.ifMissing {
			if current := e.get(f); current.Exists() && current.Type != gjson.Null {
				continue
			}
		}
		value, err := tree.Append(nil, s.values[i])
		if err != nil || !e.set(f, value) {
			return false
		}
		changed = true
	}
	if changed {
		r.SetBytes(e.raw)
	}
	return true
}
