// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// ExplodeConfig configures the type explode.
type ExplodeConfig struct {
	Field  schema.FieldPath `json:"field,omitempty" jsonschema:"description=The array; default: the whole value is the array"`
	Target schema.FieldPath `json:"target,omitempty" jsonschema:"description=The field that gets the item; default: the array's"`
	Unwrap bool             `json:"unwrap,omitempty" jsonschema:"description=The item becomes the whole record, without the other fields"`
	Index  schema.FieldPath `json:"index,omitempty" jsonschema:"description=A field that gets the item's index"`
	Empty  string           `json:"empty,omitempty" jsonschema:"enum=Drop,enum=Keep,default=Drop,description=What to do with a record whose array is empty, absent or null"`
}

type exploder struct {
	from, target, index *field
	unwrap, keepEmpty   bool
}

func explodeSpec() Spec {
	return specOf("explode", "Makes one record of every item of an array.", newExplode)
}

func newExplode(cfg ExplodeConfig, _ Env) (any, error) {
	out := &exploder{unwrap: cfg.Unwrap || cfg.Field == "", keepEmpty: cfg.Empty == "Keep"}
	var err error
	if out.from, err = optionalField("field", cfg.Field); err != nil {
		return nil, err
	}
	if out.target, err = optionalField("target", cfg.Target); err != nil {
		return nil, err
	}
	if out.target == nil {
		out.target = out.from
	}
	out.index, err = optionalField("index", cfg.Index)
	return out, err
}

// Reshape appends one record per item. Records share key, headers, time and origin.
func (t *exploder) Reshape(_ context.Context, r *record.Record, out []record.Record) ([]record.Record, error) {
	tree, err := r.Tree()
	if err != nil {
		return out, err
	}
	value, found := tree, true
	if t.from != nil {
		value, found = t.from.get(tree)
	}
	items, isArray := value.([]any)
	if found && value != nil && !isArray {
		if t.from == nil {
			return out, field{text: "this"}.errorf("want an array, got %s", article(value))
		}
		return out, t.from.errorf("want an array, got %s", article(value))
	}
	if len(items) == 0 {
		if t.keepEmpty {
			out = append(out, *r)
		}
		return out, nil
	}
	for i, item := range items {
		result, err := t.one(tree, item, i)
		if err != nil {
			return out, err
		}
		piece := record.FromTree(result)
		piece.Key, piece.Headers, piece.Time, piece.Origin, piece.Sinks = r.Key, r.Headers, r.Time, r.Origin, r.Sinks
		out = append(out, piece)
	}
	return out, nil
}

func (t *exploder) one(tree, item any, i int) (any, error) {
	result := item
	if !t.unwrap {
		// The array itself is not copied: n copies of n items would be quadratic.
		result = cloneWithout(tree, t.from.parts)
		if err := t.target.set(result, item); err != nil {
			return nil, err
		}
	}
	if t.index != nil {
		if err := t.index.set(result, int64(i)); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// cloneWithout copies a value without one of its fields; within arrays the field becomes null.
func cloneWithout(value any, parts []string) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			switch {
			case name != parts[0]:
				out[name] = clone(item)
			case len(parts) > 1:
				out[name] = cloneWithout(item, parts[1:])
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			at, ok := index(parts[0], len(v))
			switch {
			case !ok || at != i:
				out[i] = clone(item)
			case len(parts) > 1:
				out[i] = cloneWithout(item, parts[1:])
			}
		}
		return out
	default:
		return value
	}
}
