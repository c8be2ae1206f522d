// SPDX-License-Identifier: Apache-2.0

package script

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// toStarlark converts a JSON value, with int64 for integers, to Starlark. Maps are ordered by name, so that a repeated run sees the
// same order.
func (m *meter) toStarlark(v any, path string, depth int) (starlark.Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: %w", path, errDeep)
	}
	switch v := v.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(v), nil
	case string:
		return starlark.String(v), nil
	case int:
		return starlark.MakeInt(v), nil
	case int64:
		return starlark.MakeInt64(v), nil
	case float64:
		return starlark.Float(v), nil
	case json.Number:
		return fromNumber(v, path)
	case time.Time:
		if v.IsZero() {
			return starlark.None, nil
		}
		return starlark.String(v.UTC().Format(time.RFC3339Nano)), nil
	case []any:
		if err := m.alloc(len(v)+4, slot); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list := make([]starlark.Value, len(v))
		for i, item := range v {
			var err error
			if list[i], err = m.toStarlark(item, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return nil, err
			}
		}
		return starlark.NewList(list), nil
	case map[string]string:
		wide := make(map[string]any, len(v))
		for name, item := range v {
			wide[name] = item
		}
		return m.toStarlark(wide, path, depth)
	case map[string]any:
		return m.toDict(v, path, depth)
	}
	return nil, fmt.Errorf("%s: a value of type %T does not come from JSON", path, v)
}

func (m *meter) toDict(v map[string]any, path string, depth int) (starlark.Value, error) {
	if err := m.alloc(len(v)+1, entry); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	dict := starlark.NewDict(len(v))
	for _, name := range names {
		item, err := m.toStarlark(v[name], path+"."+name, depth+1)
		if err != nil {
			return nil, err
		}
		if err := dict.SetKey(starlark.String(name), item); err != nil {
			return nil, err
		}
	}
	return dict, nil
}

func fromNumber(n json.Number, path string) (starlark.Value, error) {
	if whole, err := n.Int64(); err == nil {
		return starlark.MakeInt64(whole), nil
	}
	float, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("%s: number is out of range", path)
	}
	return starlark.Float(float), nil
}

// converter converts Starlark values to JSON values; left is the remaining limit in bytes.
type converter struct{ left int }

// fromStarlark returns nil, bool, int64, float64, string, []any or map[string]any.
func (c *converter) fromStarlark(v starlark.Value, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: %w", path, errDeep)
	}
	if err := c.take(1, path); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.Int:
		n, ok := v.Int64()
		if !ok {
			return nil, fmt.Errorf("%s: the integer needs more than 64 bits; return str() of it", path)
		}
		return n, nil
	case starlark.Float:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("%s: JSON has no number %v", path, float64(v))
		}
		return float64(v), nil
	case starlark.String:
		return c.text(string(v), path)
	case *starlark.List, starlark.Tuple, *starlark.Set:
		return c.list(v.(starlark.Iterable), path, depth)
	case *starlark.Dict:
		return c.object(v, path, depth)
	}
	return nil, fmt.Errorf("%s: JSON has no %s", path, v.Type())
}

func (c *converter) take(n int, path string) error {
	if c.left -= n; c.left < 0 {
		return fmt.Errorf("%s: the result is too large", path)
	}
	return nil
}

func (c *converter) text(s, path string) (any, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%s: text is not valid UTF-8", path)
	}
	return s, c.take(len(s), path)
}

func (c *converter) list(items starlark.Iterable, path string, depth int) (any, error) {
	out := []any{}
	for item := range starlark.Elements(items) {
		value, err := c.fromStarlark(item, path+"["+strconv.Itoa(len(out))+"]", depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}

func (c *converter) object(dict *starlark.Dict, path string, depth int) (any, error) {
	out := make(map[string]any)
	for key, item := range dict.Entries() {
		name, ok := key.(starlark.String)
		if !ok {
			return nil, fmt.Errorf("%s: the names of an object must be strings, not %s", path, key.Type())
		}
		if _, err := c.text(string(name), path); err != nil {
			return nil, err
		}
		value, err := c.fromStarlark(item, path+"."+brief(string(name)), depth+1)
		if err != nil {
			return nil, err
		}
		out[string(name)] = value
	}
	return out, nil
}

// brief truncates a text of a script for a message.
func brief(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}
