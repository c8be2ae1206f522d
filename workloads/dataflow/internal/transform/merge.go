// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// MergeConfig configures the type merge.
type MergeConfig struct {
	Fields []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1,description=Fields with objects; a later one wins"`
	Target schema.FieldPath   `json:"target,omitempty" jsonschema:"description=The field that gets the merged object; default: the record itself, where a merged field wins"`
	Keep   bool               `json:"keep,omitempty" jsonschema:"description=Also keep the merged fields where they were"`
	Deep   bool               `json:"deep,omitempty" jsonschema:"description=Merge objects within objects instead of replacing them"`
}

type merger struct {
	fields     []field
	target     *field
	keep, deep bool
}

func mergeSpec() Spec {
	return specOf("merge", "Merges objects in fields into one object, or into the record.", newMerge)
}

func newMerge(cfg MergeConfig, _ Env) (any, error) {
	fields, err := fieldsOf(cfg.Fields)
	if err != nil {
		return nil, err
	}
	target, err := optionalField("target", cfg.Target)
	return &merger{fields: fields, target: target, keep: cfg.Keep, deep: cfg.Deep}, err
}

// Map merges; absent and null fields count as empty objects.
func (m *merger) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	merged := map[string]any{}
	for i := range m.fields {
		value, _ := m.fields[i].get(object)
		part, ok := value.(map[string]any)
		if !ok && value != nil {
			return m.fields[i].errorf("want an object, got %s", article(value))
		}
		mergeInto(merged, clone(part).(map[string]any), m.deep)
	}
	r.Changed()
	if !m.keep {
		for i := range m.fields {
			m.fields[i].remove(object)
		}
	}
	if m.target != nil {
		return m.target.set(object, merged)
	}
	mergeInto(object, merged, m.deep)
	return nil
}

func mergeInto(to, from map[string]any, deep bool) {
	for name, value := range from {
		if deep {
			inner, isObject := value.(map[string]any)
			if current, both := to[name].(map[string]any); both && isObject {
				mergeInto(current, inner, deep)
				continue
			}
		}
		to[name] = value
	}
}

// LookupConfig configures the type lookup.
type LookupConfig struct {
	Field   schema.FieldPath `json:"field" jsonschema:"required"`
	Table   map[string]any   `json:"table" jsonschema:"required,description=Values of the field (numbers and booleans as text) and their results"`
	Target  schema.FieldPath `json:"target,omitempty" jsonschema:"description=The field that gets the result; default: in place of the field"`
	Default any              `json:"default,omitempty" jsonschema:"description=The result for a value that is not in the table"`
	Missing Missing          `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Error,description=What to do with an absent field; or with a value that is not in the table when there is no default"`
}

type lookupStep struct {
	from, to  field
	table     map[string]any
	otherwise any
	missing   Missing
}

func lookupSpec() Spec {
	return specOf("lookup", "Looks a field's value up in a table of the configuration.", newLookup)
}

func newLookup(cfg LookupConfig, _ Env) (any, error) {
	from, err := newField(cfg.Field)
	if err != nil {
		return nil, fmt.Errorf(".field: %w", err)
	}
	to := from
	if cfg.Target != "" {
		if to, err = newField(cfg.Target); err != nil {
			return nil, fmt.Errorf(".target: %w", err)
		}
	}
	plain(cfg.Table)
	return &lookupStep{from: from, to: to, table: cfg.Table, otherwise: plain(cfg.Default), missing: cfg.Missing}, nil
}

// Map looks up.
func (t *lookupStep) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	value, present := t.from.get(object)
	key, scalar := textOf(value)
	if present && value != nil && !scalar {
		return t.from.errorf("want a text, number or boolean, got %s", article(value))
	}
	result, known := t.table[key]
	if !scalar || !known {
		if t.otherwise == nil {
			if t.missing == MissingSkip {
				return nil
			}
			if !scalar {
				return t.from.errorf("is missing")
			}
			return t.from.errorf("has a value that is not in the table")
		}
		result = t.otherwise
	}
	r.Changed()
	return t.to.set(object, clone(result))
}
