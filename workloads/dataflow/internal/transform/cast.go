// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// CastConfig configures the type cast.
type CastConfig struct {
	Fields  []CastField `json:"fields" jsonschema:"required,minItems=1"`
	Missing Missing     `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Error,description=What to do with an absent or null field"`
}

// CastField is one field and its new type.
type CastField struct {
	Field  schema.FieldPath `json:"field" jsonschema:"required"`
	To     string           `json:"to" jsonschema:"required,enum=int,enum=float,enum=string,enum=bool,enum=timestamp,enum=json"`
	Format string           `json:"format,omitempty" jsonschema:"description=For timestamp: its current format (see the transform timestamp); default rfc3339"`
}

type caster struct {
	fields  []field
	change  []func(any) (any, error)
	missing Missing
}

func castSpec() Spec {
	return specOf("cast", "Converts fields to another type: int, float, string, bool, timestamp or json.", newCast)
}

func newCast(cfg CastConfig, _ Env) (any, error) {
	out := &caster{missing: cfg.Missing}
	for i, item := range cfg.Fields {
		f, err := newField(item.Field)
		if err != nil {
			return nil, fmt.Errorf(".fields[%d].field: %w", i, err)
		}
		change, err := castTo(item)
		if err != nil {
			return nil, fmt.Errorf(".fields[%d].format: %w", i, err)
		}
		out.fields, out.change = append(out.fields, f), append(out.change, change)
	}
	return out, nil
}

func castTo(item CastField) (func(any) (any, error), error) {
	if item.Format != "" && item.To != "timestamp" {
		return nil, errors.New("goes with timestamp only")
	}
	switch item.To {
	case "int":
		return toInt, nil
	case "float":
		return toFloat, nil
	case "bool":
		return toBool, nil
	case "json":
		return onText(func(text string) (any, error) { return record.Decode([]byte(text)) }), nil
	case "timestamp":
		format := item.Format
		if format == "" {
			format = "rfc3339"
		}
		parse, err := timeParser([]string{format}, time.UTC)
		if err != nil {
			return nil, err
		}
		return func(value any) (any, error) {
			at, err := parse(value)
			if err != nil {
				return nil, err
			}
			return at.UTC().Format(time.RFC3339Nano), nil
		}, nil
	default:
		return toText, nil
	}
}

// Map casts every field, or none if one of them fails.
func (c *caster) Map(_ context.Context, r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return err
	}
	for i := range c.fields {
		f := &c.fields[i]
		value, ok := f.get(object)
		if !ok || value == nil {
			if c.missing == MissingSkip {
				continue
			}
			return f.errorf("is missing")
		}
		result, err := c.change[i](value)
		if err != nil {
			return f.errorf("%w", err)
		}
		r.Changed()
		if err := f.set(object, result); err != nil {
			return err
		}
	}
	return nil
}

func toInt(value any) (any, error) {
	switch v := value.(type) {
	case int64:
		return v, nil
	case float64:
		return floatToInt(v)
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case string:
		text := strings.TrimSpace(v)
		if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
			return whole, nil
		}
		if float, err := strconv.ParseFloat(text, 64); err == nil && float == math.Trunc(float) {
			return floatToInt(float)
		}
		return nil, errors.New("the text is not a whole number")
	default:
		return nil, fmt.Errorf("cannot make an int of %s", article(value))
	}
}

// floatToInt truncates the fraction.
func floatToInt(v float64) (any, error) {
	whole := math.Trunc(v)
	if math.IsNaN(v) || whole < -(1<<63) || whole >= 1<<63 {
		return nil, errors.New("the number does not fit an int")
	}
	return int64(whole), nil
}

func toFloat(value any) (any, error) {
	switch v := value.(type) {
	case float64:
		return v, nil
	case int64:
		return float64(v), nil
	case bool:
		if v {
			return 1.0, nil
		}
		return 0.0, nil
	case string:
		float, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || math.IsNaN(float) || math.IsInf(float, 0) {
			return nil, errors.New("the text is not a finite number")
		}
		return float, nil
	default:
		return nil, fmt.Errorf("cannot make a float of %s", article(value))
	}
}

func toBool(value any) (any, error) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	case float64:
		return v != 0, nil
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "t", "yes", "y", "on", "1":
			return true, nil
		case "false", "f", "no", "n", "off", "0":
			return false, nil
		}
		return nil, errors.New("the text is neither true nor false")
	default:
		return nil, fmt.Errorf("cannot make a bool of %s", article(value))
	}
}

// toText encodes objects and arrays as JSON.
func toText(value any) (any, error) {
	if text, ok := textOf(value); ok {
		return text, nil
	}
	return jsonText(value)
}
