// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// WrapConfig configures the type wrap.
type WrapConfig struct {
	Field schema.FieldPath `json:"field" jsonschema:"required,description=The field of the new object that gets the value"`
	As    string           `json:"as,omitempty" jsonschema:"enum=json,enum=text,enum=base64,default=json,description=What the value is: text and base64 take any bytes"`
}

type wrapper struct {
	field field
	as    string
}

func wrapSpec() Spec {
	return specOf("wrap", "Puts the whole value into a field of a new object; turns plain text into JSON.", func(cfg WrapConfig, _ Env) (any, error) {
		at, err := newField(cfg.Field)
		if err != nil {
			return nil, fmt.Errorf(".field: %w", err)
		}
		return &wrapper{field: at, as: cfg.As}, nil
	})
}

// Map wraps.
func (w *wrapper) Map(_ context.Context, r *record.Record) error {
	value, err := w.value(r)
	if err != nil {
		return err
	}
	object := map[string]any{}
	if err := w.field.set(object, value); err != nil {
		return err
	}
	r.SetTree(object)
	return nil
}

func (w *wrapper) value(r *record.Record) (any, error) {
	if w.as == "json" {
		return r.Tree()
	}
	data, err := r.Bytes()
	if err != nil {
		return nil, err
	}
	if w.as == "base64" {
		return base64.StdEncoding.EncodeToString(data), nil
	}
	if !utf8.Valid(data) {
		return nil, record.ErrNotUTF8
	}
	return string(data), nil
}

// UnwrapConfig configures the type unwrap.
type UnwrapConfig struct {
	Field schema.FieldPath `json:"field" jsonschema:"required,description=The field whose value becomes the record"`
}

type unwrapper struct{ field field }

func unwrapSpec() Spec {
	return specOf("unwrap", "Replaces the record with the value of one field, such as the 'after' of a change event.", func(cfg UnwrapConfig, _ Env) (any, error) {
		at, err := newField(cfg.Field)
		if err != nil {
			return nil, fmt.Errorf(".field: %w", err)
		}
		return &unwrapper{field: at}, nil
	})
}

// Map unwraps.
func (u *unwrapper) Map(_ context.Context, r *record.Record) error {
	value, ok, err := u.field.read(r)
	if err != nil {
		return err
	}
	if !ok {
		return u.field.errorf("is missing")
	}
	r.SetTree(value)
	return nil
}

// DefaultConfig configures the type default.
type DefaultConfig struct {
	Values map[schema.FieldPath]any `json:"values" jsonschema:"required,minProperties=1,description=Fields and their values when absent or null"`
}

func defaultSpec() Spec {
	return specOf("default", "Sets fields that are absent or null.", func(cfg DefaultConfig, env Env) (any, error) {
		return newSet(SetConfig{Values: cfg.Values, IfMissing: true}, env)
	})
}

// CompactConfig configures the type compact.
type CompactConfig struct {
	EmptyText bool `json:"emptyText,omitempty" jsonschema:"description=Also remove fields with an empty text"`
	Empty     bool `json:"empty,omitempty" jsonschema:"description=Also remove empty objects and arrays"`
}

type compactor struct{ cfg CompactConfig }

func compactSpec() Spec {
	return specOf("compact", "Removes null fields, at every level.", func(cfg CompactConfig, _ Env) (any, error) {
		return &compactor{cfg: cfg}, nil
	})
}

// Map compacts; a record with nothing to remove keeps its bytes.
func (c *compactor) Map(_ context.Context, r *record.Record) error {
	tree, err := r.Tree()
	if err != nil {
		return err
	}
	if c.compact(tree) {
		r.Changed()
	}
	return nil
}

// compact reports whether anything was removed. Array items keep their indexes.
func (c *compactor) compact(value any) bool {
	changed := false
	switch v := value.(type) {
	case map[string]any:
		for name, item := range v {
			changed = c.compact(item) || changed
			if c.goes(item) {
				delete(v, name)
				changed = true
			}
		}
	case []any:
		for _, item := range v {
			changed = c.compact(item) || changed
		}
	}
	return changed
}

func (c *compactor) goes(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return c.cfg.EmptyText && v == ""
	case map[string]any:
		return c.cfg.Empty && len(v) == 0
	case []any:
		return c.cfg.Empty && len(v) == 0
	}
	return false
}

// RenameKeysConfig configures the type renameKeys.
type RenameKeysConfig struct {
	Case    string `json:"case" jsonschema:"required,enum=snake,enum=camel,enum=pascal,enum=kebab,enum=lower,enum=upper"`
	Shallow bool   `json:"shallow,omitempty" jsonschema:"description=Only the record's own fields\\, not those of objects within"`
}

type keyRenamer struct {
	rename  func(string) string
	shallow bool
}

func renameKeysSpec() Spec {
	return specOf("renameKeys", "Writes all field names in one style: snake_case, camelCase, PascalCase, kebab-case, lower or upper.", func(cfg RenameKeysConfig, _ Env) (any, error) {
		return &keyRenamer{rename: keyStyles[cfg.Case], shallow: cfg.Shallow}, nil
	})
}

var keyStyles = map[string]func(string) string{
	"lower": strings.ToLower, "upper": strings.ToUpper,
	"snake": func(name string) string { return strings.ToLower(strings.Join(words(name), "_")) },
	"kebab": func(name string) string { return strings.ToLower(strings.Join(words(name), "-")) },
	"camel": func(name string) string {
		parts := titled(words(name))
		if len(parts) > 0 {
			parts[0] = strings.ToLower(parts[0])
		}
		return strings.Join(parts, "")
	},
	"pascal": func(name string) string { return strings.Join(titled(words(name)), "") },
}

func titled(parts []string) []string {
	for i, part := range parts {
		first, size := utf8.DecodeRuneInString(part)
		parts[i] = string(unicode.ToUpper(first)) + strings.ToLower(part[size:])
	}
	return parts
}

// words splits a name at separators and case changes: HTTPStatus_code → HTTP Status code.
func words(name string) []string {
	var out []string
	runes, start := []rune(name), 0
	flush := func(end int) {
		if end > start {
			out = append(out, string(runes[start:end]))
		}
		start = end
	}
	for i, c := range runes {
		switch {
		case !unicode.IsLetter(c) && !unicode.IsDigit(c):
			flush(i)
			start = i + 1
		case i > start && unicode.IsUpper(c) && (unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) ||
			i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			flush(i)
		}
	}
	flush(len(runes))
	return out
}

// Map renames the keys.
func (k *keyRenamer) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	renamed, err := k.object(object)
	if err != nil {
		return err
	}
	r.SetTree(renamed)
	return nil
}

func (k *keyRenamer) object(object map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(object))
	for name, value := range object {
		to := k.rename(name)
		if to == "" {
			to = name
		}
		if _, exists := out[to]; exists {
			return nil, fmt.Errorf("two fields would have the name %q", to)
		}
		inner, err := k.value(value)
		if err != nil {
			return nil, err
		}
		out[to] = inner
	}
	return out, nil
}

func (k *keyRenamer) value(value any) (any, error) {
	if k.shallow {
		return value, nil
	}
	switch v := value.(type) {
	case map[string]any:
		return k.object(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			var err error
			if out[i], err = k.value(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return value, nil
}
