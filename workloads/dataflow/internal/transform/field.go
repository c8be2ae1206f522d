// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"fmt"
	"strconv"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// field is a parsed field path. A numeric part is an index where the value is an array.
type field struct {
	text  string
	parts []string
}

func newField(path schema.FieldPath) (field, error) {
	parts, err := expr.ParsePath(string(path))
	return field{text: string(path), parts: parts}, err
}

// fieldsOf parses the paths of the config property `fields`.
func fieldsOf(paths []schema.FieldPath) ([]field, error) {
	out := make([]field, len(paths))
	for i, path := range paths {
		parsed, err := newField(path)
		if err != nil {
			return nil, fmt.Errorf(".fields[%d]: %w", i, err)
		}
		out[i] = parsed
	}
	return out, nil
}

// errorf returns an error that names the field.
func (f field) errorf(format string, args ...any) error {
	return fmt.Errorf("field %q: "+format, append([]any{f.text}, args...)...)
}

// get finds the field in a decoded value.
func (f field) get(tree any) (any, bool) {
	for _, part := range f.parts {
		next, ok := child(tree, part)
		if !ok {
			return nil, false
		}
		tree = next
	}
	return tree, true
}

func child(tree any, part string) (any, bool) {
	switch v := tree.(type) {
	case map[string]any:
		value, ok := v[part]
		return value, ok
	case []any:
		if i, ok := index(part, len(v)); ok {
			return v[i], true
		}
	}
	return nil, false
}

func index(part string, length int) (int, bool) {
	i, err := strconv.Atoi(part)
	return i, err == nil && i >= 0 && i < length
}

// set sets the field and creates missing objects above it. An index may be at most the array's length, which
// appends. The root must be an object or an array.
func (f field) set(root, value any) error {
	if !holds(root) {
		return f.errorf("the record is a JSON %s, want an object", kindOf(root))
	}
	_, err := f.place(root, f.parts, value)
	return err
}

func holds(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// place returns the node with the value in it, because appending moves an array.
func (f field) place(node any, parts []string, value any) (any, error) {
	if len(parts) == 0 {
		return value, nil
	}
	switch v := node.(type) {
	case map[string]any:
		next, err := f.place(v[parts[0]], parts[1:], value)
		if err != nil {
			return nil, err
		}
		v[parts[0]] = next
		return v, nil
	case []any:
		i, err := strconv.Atoi(parts[0])
		if err != nil || i < 0 || i > len(v) {
			return nil, f.errorf("%q is not an index of the array of length %d", parts[0], len(v))
		}
		if i == len(v) {
			v = append(v, nil)
		}
		next, err := f.place(v[i], parts[1:], value)
		if err != nil {
			return nil, err
		}
		v[i] = next
		return v, nil
	case nil:
		object := map[string]any{}
		return f.place(object, parts, value)
	default:
		return nil, f.errorf("%q cannot be set within a %s", parts[0], kindOf(node))
	}
}

// remove removes the field and reports whether it existed.
func (f field) remove(root any) bool {
	last := len(f.parts) - 1
	parent, ok := field{parts: f.parts[:last]}.get(root)
	if !ok {
		return false
	}
	switch v := parent.(type) {
	case map[string]any:
		if _, ok := v[f.parts[last]]; !ok {
			return false
		}
		delete(v, f.parts[last])
		return true
	case []any:
		i, ok := index(f.parts[last], len(v))
		if !ok {
			return false
		}
		shorter := append(append(make([]any, 0, len(v)-1), v[:i]...), v[i+1:]...)
		return field{text: f.text, parts: f.parts[:last]}.replace(root, shorter)
	}
	return false
}

// replace sets a field that exists below the root.
func (f field) replace(root, value any) bool {
	return len(f.parts) > 0 && f.set(root, value) == nil
}

// kindOf returns the JSON type of a decoded value.
func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case int64, float64, int:
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return fmt.Sprintf("%T", value)
	}
}

// clone returns a deep copy of a decoded value.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			out[name] = clone(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = clone(item)
		}
		return out
	default:
		return value
	}
}
