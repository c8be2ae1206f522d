// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// Missing selects what to do when a field is absent or null.
type Missing string

// What a transform does with an absent field.
const (
	MissingError Missing = "Error"
	MissingSkip  Missing = "Skip"
)

// perField is a Mapper over a list of fields of an object.
type perField struct {
	fields  []field
	missing Missing
	// target gets the result instead of the field itself; only with one field.
	target *field
	// change returns the field's new value. Its error says what is wrong, without the value.
	change func(value any) (any, error)
}

func newPerField(paths []schema.FieldPath, target schema.FieldPath, missing Missing, change func(any) (any, error)) (*perField, error) {
	fields, err := fieldsOf(paths)
	if err != nil {
		return nil, err
	}
	out := &perField{fields: fields, missing: missing, change: change}
	if target != "" {
		if len(fields) != 1 {
			return nil, fmt.Errorf(".target: goes with exactly one field, got %d", len(fields))
		}
		parsed, err := newField(target)
		if err != nil {
			return nil, fmt.Errorf(".target: %w", err)
		}
		out.target = &parsed
	}
	return out, nil
}

// Map changes every field, or none if one of them fails.
func (p *perField) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	changed := false
	for i := range p.fields {
		f := &p.fields[i]
		value, ok := f.get(object)
		if !ok || value == nil {
			if p.missing == MissingSkip {
				continue
			}
			return f.errorf("is missing")
		}
		result, err := p.change(value)
		if err != nil {
			return f.errorf("%w", err)
		}
		if !changed {
			r.Changed()
			changed = true
		}
		to := f
		if p.target != nil {
			to = p.target
		}
		if err := to.set(object, result); err != nil {
			return err
		}
	}
	return nil
}

// compileCEL compiles the expression of one config property.
func compileCEL[S ~string](property string, source S, want expr.Type, env Env) (*evaluator, error) {
	program, err := expr.Compile(string(source), want)
	if err != nil {
		return nil, fmt.Errorf(".%s: %w", property, err)
	}
	return newEvaluator(program, env.Now), nil
}

// assignment is a field and its new value.
type assignment struct {
	to    field
	value any        // a constant
	from  *evaluator // or an expression
}

func (a *assignment) eval(r *record.Record) (any, error) {
	if a.from == nil {
		return clone(a.value), nil
	}
	value, err := a.from.value(r)
	if err != nil {
		return nil, a.to.errorf("%w", err)
	}
	return value, nil
}

// assignmentsOf compiles expressions, in the order of their field paths.
func assignmentsOf(property string, sources map[schema.FieldPath]schema.CEL, env Env) ([]assignment, error) {
	var out []assignment
	for _, path := range sortedKeys(sources) {
		at := property + "[" + strconv.Quote(string(path)) + "]"
		to, err := newField(path)
		if err != nil {
			return nil, fmt.Errorf(".%s: %w", at, err)
		}
		from, err := compileCEL(at, sources[path], expr.Any, env)
		if err != nil {
			return nil, err
		}
		out = append(out, assignment{to: to, from: from})
	}
	return out, nil
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
	return keys
}

// textOf returns a scalar as text.
func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// onText adapts a function on text; other values are refused.
func onText(change func(string) (any, error)) func(any) (any, error) {
	return func(value any) (any, error) {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("want a string, got %s", article(value))
		}
		return change(text)
	}
}

func article(value any) string {
	kind := kindOf(value)
	if kind == "object" || kind == "array" {
		return "an " + kind
	}
	if kind == "null" {
		return kind
	}
	return "a " + kind
}

// errAt returns an error about one config property.
func errAt(property, format string, args ...any) error {
	return fmt.Errorf("."+property+": "+format, args...)
}
