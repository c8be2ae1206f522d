// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// composite converts a list or a map to JSON types.
func composite(value ref.Val, depth int) (any, error) {
	switch v := value.(type) {
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			name, ok := key.(types.String)
			if !ok {
				return nil, errors.New("the keys of a map must be strings")
			}
			element, err := plain(v.Get(key), depth+1)
			if err != nil {
				return nil, err
			}
			out[string(name)] = element
		}
		return out, nil
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			element, err := plain(it.Next(), depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, element)
		}
		return out, nil
	}
	if err, ok := value.(*types.Err); ok {
		return nil, errors.New("evaluation failed: " + typeName(err))
	}
	return nil, errors.New("the value is not JSON")
}

func typeName(v ref.Val) string { return v.Type().TypeName() }

// Decode decodes JSON for expressions, with int64 for integers that fit and float64 for other numbers.
func Decode(data json.RawMessage) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one JSON value")
	}
	return numbers(tree)
}

func numbers(tree any) (any, error) {
	var err error
	switch v := tree.(type) {
	case json.Number:
		if whole, wrong := v.Int64(); wrong == nil {
			return whole, nil
		}
		float, wrong := v.Float64()
		if wrong != nil {
			return nil, errors.New("a number is too large")
		}
		return float, nil
	case map[string]any:
		for key, value := range v {
			if v[key], err = numbers(value); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, value := range v {
			if v[i], err = numbers(value); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// fits reports whether a value is of the type, and returns it converted: a whole float64 is also an integer, since JSON has only
// one type of number.
func (t InputType) fits(value any) (any, bool) {
	ok := false
	switch v := value.(type) {
	case string:
		ok = t == String || t == ""
	case bool:
		ok = t == Boolean
	case int64:
		ok = t == Integer || t == Number
	case int:
		return t.fits(int64(v))
	case float64:
		if t == Integer && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), true
		}
		ok = t == Number
	case map[string]any:
		ok = t == Object
	case []any:
		ok = t == Array
	}
	return value, ok
}

// words returns the type for a message.
func (t InputType) words() string {
	switch t {
	case Integer:
		return "a whole number"
	case Number:
		return "a number"
	case Boolean:
		return "true or false"
	case Object:
		return "an object"
	case Array:
		return "a list"
	}
	return "a string"
}
