// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"slices"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// MetadataConfig configures the type metadata.
type MetadataConfig struct {
	Key           schema.CEL            `json:"key,omitempty" jsonschema:"description=A CEL expression for the record's key: a text\\, number or boolean\\, or null for none"`
	Headers       map[string]schema.CEL `json:"headers,omitempty" jsonschema:"description=Headers to set and the CEL expressions for their values"`
	RemoveHeaders []string              `json:"removeHeaders,omitempty" jsonschema:"description=Headers to remove"`
}

type metadata struct {
	key     *evaluator
	names   []string
	values  []*evaluator
	removed []string
}

func metadataSpec() Spec {
	return specOf("metadata", "Sets the record's key and headers by CEL expressions.", newMetadata)
}

func newMetadata(cfg MetadataConfig, env Env) (any, error) {
	if cfg.Key == "" && len(cfg.Headers) == 0 && len(cfg.RemoveHeaders) == 0 {
		return nil, errors.New(": want 'key', 'headers' or 'removeHeaders'")
	}
	out := &metadata{removed: cfg.RemoveHeaders}
	var err error
	if cfg.Key != "" {
		if out.key, err = compileCEL("key", cfg.Key, expr.Any, env); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(cfg.Headers) {
		value, err := compileCEL("headers."+name, cfg.Headers[name], expr.Any, env)
		if err != nil {
			return nil, err
		}
		out.names, out.values = append(out.names, name), append(out.values, value)
	}
	return out, nil
}

// Map evaluates everything before it changes anything.
func (m *metadata) Map(_ context.Context, r *record.Record) error {
	var key []byte
	if m.key != nil {
		text, err := scalar(m.key, r, "key")
		if err != nil {
			return err
		}
		key = text
	}
	// Sources may share one headers slice among records: never change it in place.
	headers := slices.DeleteFunc(slices.Clone(r.Headers), func(h record.Header) bool {
		return slices.Contains(m.removed, h.Key) || slices.Contains(m.names, h.Key)
	})
	for i, name := range m.names {
		text, err := scalar(m.values[i], r, "header "+name)
		if err != nil {
			return err
		}
		if text != nil {
			headers = append(headers, record.Header{Key: name, Value: text})
		}
	}
	if m.key != nil {
		r.Key = key
	}
	r.Headers = headers
	return nil
}

func scalar(e *evaluator, r *record.Record, what string) ([]byte, error) {
	value, err := e.value(r)
	if err != nil {
		return nil, field{text: what}.errorf("%w", err)
	}
	if value == nil {
		return nil, nil
	}
	text, ok := textOf(value)
	if !ok {
		return nil, field{text: what}.errorf("want a text, number or boolean, got %s", article(value))
	}
	return []byte(text), nil
}
