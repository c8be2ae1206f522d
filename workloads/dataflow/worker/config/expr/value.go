// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"encoding/base64"
	"errors"
	"math"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// toNative turns a result into a decoded value.
func toNative(value ref.Val, depth int) (any, error) {
	if depth > maxNesting {
		return nil, errors.New("expression: the result is nested too deeply")
	}
	switch v := value.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if uint64(v) <= math.MaxInt64 {
			return int64(v), nil
		}
		return float64(v), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errors.New("expression: the result is not a finite number")
		}
		return float64(v), nil
	case types.String:
		return string(v), nil
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(v), nil
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return v.Duration.String(), nil
	case *lazyObject:
		return v.tree()
	case traits.Mapper:
		if object, ok := v.Value().(map[string]any); ok {
			return copied(object), nil // a part of the record, unchanged
		}
		return toObject(v, depth)
	case traits.Lister:
		if list, ok := v.Value().([]any); ok {
			return copied(list), nil
		}
		return toList(v, depth)
	default:
		return nil, errors.New("expression: a result of type " + value.Type().TypeName() + " cannot be stored in a record")
	}
}

func toObject(value traits.Mapper, depth int) (any, error) {
	out := map[string]any{}
	for it := value.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, errors.New("expression: the keys of an object must be strings")
		}
		native, err := toNative(value.Get(key), depth+1)
		if err != nil {
			return nil, err
		}
		out[string(name)] = native
	}
	return out, nil
}

func toList(value traits.Lister, depth int) (any, error) {
	size, ok := value.Size().(types.Int)
	if !ok {
		return nil, errors.New("expression: a list has no size")
	}
	out := make([]any, 0, size)
	for it := value.Iterator(); it.HasNext() == types.True; {
		native, err := toNative(it.Next(), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, native)
	}
	return out, nil
}

// copied returns a deep copy of a decoded value, so that two places of a result never share one.
func copied(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			out[name] = copied(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = copied(item)
		}
		return out
	case ref.Val: // not within a record, but a library function might mix them in
		native, err := toNative(v, 0)
		if err != nil {
			return nil
		}
		return native
	default:
		return value
	}
}
