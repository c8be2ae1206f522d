// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// SerializeConfig configures the type serialize.
type SerializeConfig struct {
	Field   schema.FieldPath `json:"field,omitempty" jsonschema:"description=The field to write as text; default: the whole value"`
	Format  string           `json:"format" jsonschema:"required,enum=json,enum=csv,enum=logfmt,enum=url"`
	Target  schema.FieldPath `json:"target,omitempty" jsonschema:"description=Where the text goes; default: in place of the field. With the whole value: default: the text becomes the record's bytes"`
	Columns []string         `json:"columns,omitempty" jsonschema:"description=csv: the fields to write\\, in order; required for objects"`
}

type serializer struct {
	from, to *field
	write    func(value any) (string, error)
}

func serializeSpec() Spec {
	return specOf("serialize", "Writes a value as text: JSON, CSV, logfmt or URL query.", newSerialize)
}

func newSerialize(cfg SerializeConfig, _ Env) (any, error) {
	out := &serializer{}
	var err error
	if out.from, err = optionalField("field", cfg.Field); err != nil {
		return nil, err
	}
	if out.to, err = optionalField("target", cfg.Target); err != nil {
		return nil, err
	}
	switch cfg.Format {
	case "csv":
		out.write = func(value any) (string, error) { return writeCSV(value, cfg.Columns) }
	case "logfmt":
		out.write = writeLogfmt
	case "url":
		out.write = writeQuery
	default:
		out.write = func(value any) (string, error) {
			text, err := jsonText(value)
			return text.(string), err
		}
	}
	return out, nil
}

// Map serializes the value.
func (s *serializer) Map(_ context.Context, r *record.Record) error {
	tree, err := r.Tree()
	if err != nil {
		return err
	}
	value := tree
	if s.from != nil {
		var ok bool
		if value, ok = s.from.get(tree); !ok {
			return s.from.errorf("is missing")
		}
	}
	text, err := s.write(value)
	if err != nil {
		if s.from != nil {
			return s.from.errorf("%w", err)
		}
		return err
	}
	to := s.to
	if to == nil {
		to = s.from
	}
	if to == nil {
		r.SetBytes([]byte(text))
		return nil
	}
	r.Changed()
	return to.set(tree, text)
}

func cells(value any, columns []string) ([]string, error) {
	items, isArray := value.([]any)
	if object, ok := value.(map[string]any); ok && len(columns) > 0 {
		items = make([]any, len(columns))
		for i, column := range columns {
			items[i] = object[column]
		}
	} else if !isArray {
		return nil, fmt.Errorf("want an array, or an object with 'columns', got %s", article(value))
	}
	row := make([]string, len(items))
	for i, item := range items {
		if item == nil {
			continue
		}
		text, err := toText(item)
		if err != nil {
			return nil, err
		}
		row[i] = text.(string)
	}
	return row, nil
}

func writeCSV(value any, columns []string) (string, error) {
	row, err := cells(value, columns)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	writer := csv.NewWriter(&out)
	if err := writer.Write(row); err != nil {
		return "", fmt.Errorf("write CSV: %w", err)
	}
	writer.Flush()
	return strings.TrimSuffix(out.String(), "\n"), writer.Error()
}

func writeLogfmt(value any) (string, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return "", fmt.Errorf("want an object, got %s", article(value))
	}
	var out strings.Builder
	for i, key := range sortedKeys(object) {
		if key == "" || strings.ContainsAny(key, "= \"\t\n") {
			return "", fmt.Errorf("the name %q cannot be a logfmt key", key)
		}
		if i > 0 {
			out.WriteByte(' ')
		}
		text, err := toText(object[key])
		if err != nil {
			return "", err
		}
		word := text.(string)
		if object[key] == nil {
			word = ""
		}
		if strings.ContainsAny(word, " =\"\t\r\n\\") {
			word = strconv.Quote(word)
		}
		out.WriteString(key + "=" + word)
	}
	return out.String(), nil
}

func writeQuery(value any) (string, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return "", fmt.Errorf("want an object, got %s", article(value))
	}
	values := url.Values{}
	for name, item := range object {
		list, ok := item.([]any)
		if !ok {
			list = []any{item}
		}
		for _, one := range list {
			text, err := toText(one)
			if err != nil {
				return "", err
			}
			values.Add(name, text.(string))
		}
	}
	return values.Encode(), nil
}
