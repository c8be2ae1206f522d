// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// RemoveConfig configures the type remove.
type RemoveConfig struct {
	Fields []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1,description=Fields to remove; absent ones are ignored"`
}

type remover struct{ fields []field }

func removeSpec() Spec {
	return specOf("remove", "Removes fields.", func(cfg RemoveConfig, _ Env) (any, error) {
		fields, err := fieldsOf(cfg.Fields)
		return &remover{fields: fields}, err
	})
}

// Map removes the fields; a record without any of them keeps its bytes.
func (t *remover) Map(_ context.Context, r *record.Record) error {
	if t.onBytes(r) {
		return nil
	}
	object, err := r.Object()
	if err != nil {
		return err
	}
	for i := range t.fields {
		if t.fields[i].remove(object) {
			r.Changed()
		}
	}
	return nil
}

func (t *remover) onBytes(r *record.Record) bool {
	e, ok := edit(r, t.fields)
	if !ok {
		return false
	}
	before := len(e.raw)
	for i := range t.fields {
		if !e.remove(t.fields[i]) {
			return false
		}
	}
	if len(e.raw) != before {
		r.SetBytes(e.raw)
	}
	return true
}

// SelectConfig configures the type select.
type SelectConfig struct {
	Fields []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1,description=Fields to keep; all others are removed"`
}

type selector struct{ fields []field }

func selectSpec() Spec {
	return specOf("select", "Keeps the named fields and removes all others.", func(cfg SelectConfig, _ Env) (any, error) {
		fields, err := fieldsOf(cfg.Fields)
		return &selector{fields: fields}, err
	})
}

// Map builds an object of the fields that exist.
func (t *selector) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	out := make(map[string]any, len(t.fields))
	for i := range t.fields {
		if value, ok := t.fields[i].get(object); ok {
			if err := t.fields[i].set(out, value); err != nil {
				return err
			}
		}
	}
	r.SetTree(out)
	return nil
}

// RenameConfig configures the type rename.
type RenameConfig struct {
	Fields  map[schema.FieldPath]schema.FieldPath `json:"fields" jsonschema:"required,minProperties=1,description=Old field path to new field path"`
	Missing Missing                               `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip,description=What to do with an absent field"`
}

type renamer struct {
	from, to []field
	missing  Missing
	values   []any
	present  []bool
}

func renameSpec() Spec {
	return specOf("rename", "Moves fields to other names or paths.", newRename)
}

func newRename(cfg RenameConfig, _ Env) (any, error) {
	out := &renamer{missing: cfg.Missing}
	for _, path := range sortedKeys(cfg.Fields) {
		from, err := newField(path)
		if err != nil {
			return nil, fmt.Errorf(".fields: %w", err)
		}
		to, err := newField(cfg.Fields[path])
		if err != nil {
			return nil, fmt.Errorf(".fields: %w", err)
		}
		out.from, out.to = append(out.from, from), append(out.to, to)
	}
	out.values, out.present = make([]any, len(out.from)), make([]bool, len(out.from))
	return out, nil
}

// Map removes all fields before it sets any, so that names can be swapped.
func (t *renamer) Map(_ context.Context, r *record.Record) error {
	if t.onBytes(r) {
		return nil
	}
	object, err := r.Object()
	if err != nil {
		return err
	}
	some := false
	for i := range t.from {
		t.values[i], t.present[i] = t.from[i].get(object)
		if !t.present[i] && t.missing == MissingError {
			return t.from[i].errorf("is missing")
		}
		some = some || t.present[i]
	}
	if !some {
		return nil
	}
	r.Changed()
	for i := range t.from {
		if t.present[i] {
			t.from[i].remove(object)
		}
	}
	for i := range t.to {
		if !t.present[i] {
			continue
		}
		if err := t.to[i].set(object, t.values[i]); err != nil {
			return err
		}
	}
	clear(t.values)
	return nil
}

// onBytes renames one field; several might be swapped.
func (t *renamer) onBytes(r *record.Record) bool {
	if len(t.from) != 1 {
		return false
	}
	e, ok := edit(r, t.from, t.to)
	if !ok {
		return false
	}
	found := e.get(t.from[0])
	if !found.Exists() {
		return t.missing == MissingSkip
	}
	if !e.remove(t.from[0]) || !e.set(t.to[0], []byte(found.Raw)) {
		return false
	}
	r.SetBytes(e.raw)
	return true
}
