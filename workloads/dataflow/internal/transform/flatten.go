// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// FlattenConfig configures the type flatten.
type FlattenConfig struct {
	Field     schema.FieldPath `json:"field,omitempty" jsonschema:"description=The object to flatten, in its place; default: the whole value"`
	Separator string           `json:"separator,omitempty" jsonschema:"default=.,minLength=1"`
	Arrays    bool             `json:"arrays,omitempty" jsonschema:"description=Flatten arrays too, with the index as the name"`
	MaxDepth  int              `json:"maxDepth,omitempty" jsonschema:"minimum=0,description=Levels to flatten; 0 means all"`
}

type flattener struct {
	cfg FlattenConfig
	at  *field
}

func flattenSpec() Spec {
	return specOf("flatten", "Turns a nested object into one of a single level: {a: {b: 1}} becomes {a.b: 1}.", func(cfg FlattenConfig, _ Env) (any, error) {
		at, err := optionalField("field", cfg.Field)
		return &flattener{cfg: cfg, at: at}, err
	})
}

func optionalField(property string, path schema.FieldPath) (*field, error) {
	if path == "" {
		return nil, nil
	}
	parsed, err := newField(path)
	if err != nil {
		return nil, fmt.Errorf(".%s: %w", property, err)
	}
	return &parsed, nil
}

// Map flattens; a value without nested objects keeps its bytes.
func (t *flattener) Map(_ context.Context, r *record.Record) error {
	return replaceObject(r, t.at, func(object map[string]any) (map[string]any, error) {
		out := make(map[string]any, len(object))
		return out, t.into(out, "", object, 1)
	})
}

// replaceObject changes the object at a field, or the whole value if there is no field.
func replaceObject(r *record.Record, at *field, change func(map[string]any) (map[string]any, error)) error {
	root, err := r.Object()
	if err != nil {
		return err
	}
	object := root
	if at != nil {
		value, ok := at.get(root)
		if !ok {
			return at.errorf("is missing")
		}
		if object, ok = value.(map[string]any); !ok {
			return at.errorf("want an object, got %s", article(value))
		}
	}
	changed, err := change(object)
	if err != nil {
		return err
	}
	if at == nil {
		r.SetTree(changed)
		return nil
	}
	r.Changed()
	return at.set(root, changed)
}

func (t *flattener) into(out map[string]any, prefix string, value any, depth int) error {
	deeper := t.cfg.MaxDepth == 0 || depth <= t.cfg.MaxDepth+1
	switch v := value.(type) {
	case map[string]any:
		if deeper && (len(v) > 0 || prefix == "") {
			for name, item := range v {
				if err := t.into(out, t.join(prefix, name), item, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
	case []any:
		if t.cfg.Arrays && deeper && len(v) > 0 {
			for i, item := range v {
				if err := t.into(out, t.join(prefix, strconv.Itoa(i)), item, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if _, exists := out[prefix]; exists {
		return fmt.Errorf("two fields flatten to the name %q", prefix)
	}
	out[prefix] = value
	return nil
}

func (t *flattener) join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + t.cfg.Separator + name
}

// UnflattenConfig configures the type unflatten.
type UnflattenConfig struct {
	Field     schema.FieldPath `json:"field,omitempty" jsonschema:"description=The object to nest, in its place; default: the whole value"`
	Separator string           `json:"separator,omitempty" jsonschema:"default=.,minLength=1"`
}

type unflattener struct {
	at        *field
	separator string
}

func unflattenSpec() Spec {
	return specOf("unflatten", "Turns names with separators into nested objects: {a.b: 1} becomes {a: {b: 1}}.", func(cfg UnflattenConfig, _ Env) (any, error) {
		at, err := optionalField("field", cfg.Field)
		return &unflattener{at: at, separator: cfg.Separator}, err
	})
}

// maxNesting limits how deep a name may nest.
const maxNesting = 64

// Map nests the object's fields, in the order of their names.
func (t *unflattener) Map(_ context.Context, r *record.Record) error {
	return replaceObject(r, t.at, func(object map[string]any) (map[string]any, error) {
		out := make(map[string]any, len(object))
		for _, name := range sortedKeys(object) {
			parts := strings.Split(name, t.separator)
			if len(parts) > maxNesting {
				return nil, fmt.Errorf("a field's name has more than %d levels", maxNesting)
			}
			place := out
			for _, part := range parts[:len(parts)-1] {
				next, ok := place[part].(map[string]any)
				if !ok {
					if _, exists := place[part]; exists {
						return nil, field{text: name}.errorf("%q is a value already, not an object", part)
					}
					next = map[string]any{}
					place[part] = next
				}
				place = next
			}
			last := parts[len(parts)-1]
			if _, exists := place[last]; exists {
				return nil, field{text: name}.errorf("is there twice")
			}
			place[last] = object[name]
		}
		return out, nil
	})
}
