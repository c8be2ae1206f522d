// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// valueWriter returns a function that appends one column's value as JSON. Common types have their own; the
// others (lists, structs, decimals) use the library's.
func valueWriter(column arrow.Array) func([]byte, int) ([]byte, error) {
	write := typedWriter(column)
	if column.NullN() == 0 {
		return write
	}
	return func(dst []byte, i int) ([]byte, error) {
		if column.IsNull(i) {
			return append(dst, "null"...), nil
		}
		return write(dst, i)
	}
}

func typedWriter(column arrow.Array) func([]byte, int) ([]byte, error) {
	switch c := column.(type) {
	case *array.Int64:
		return func(dst []byte, i int) ([]byte, error) { return strconv.AppendInt(dst, c.Value(i), 10), nil }
	case *array.Int32:
		return func(dst []byte, i int) ([]byte, error) { return strconv.AppendInt(dst, int64(c.Value(i)), 10), nil }
	case *array.Float64:
		return func(dst []byte, i int) ([]byte, error) { return appendFloat(dst, c.Value(i), 64), nil }
	case *array.Float32:
		return func(dst []byte, i int) ([]byte, error) { return appendFloat(dst, float64(c.Value(i)), 32), nil }
	case *array.Boolean:
		return func(dst []byte, i int) ([]byte, error) { return strconv.AppendBool(dst, c.Value(i)), nil }
	case *array.String:
		return func(dst []byte, i int) ([]byte, error) { return appendText(dst, c.Value(i)) }
	case *array.LargeString:
		return func(dst []byte, i int) ([]byte, error) { return appendText(dst, c.Value(i)) }
	case *array.Timestamp:
		return timestampWriter(c)
	case *array.Date32:
		return func(dst []byte, i int) ([]byte, error) {
			return appendTime(dst, c.Value(i).ToTime(), time.DateOnly), nil
		}
	}
	return func(dst []byte, i int) ([]byte, error) {
		text, err := json.Marshal(column.GetOneForMarshal(i))
		if err != nil {
			return dst, fmt.Errorf("value of type %s: %w", column.DataType(), backend.ErrInvalid)
		}
		return append(dst, text...), nil
	}
}

// timestampWriter writes instants as RFC 3339, and local times likewise but without a zone.
func timestampWriter(c *array.Timestamp) func([]byte, int) ([]byte, error) {
	kind := c.DataType().(*arrow.TimestampType)
	layout := "2006-01-02T15:04:05.999999999"
	if kind.TimeZone != "" {
		layout += "Z"
	}
	return func(dst []byte, i int) ([]byte, error) {
		return appendTime(dst, c.Value(i).ToTime(kind.Unit), layout), nil
	}
}

func appendTime(dst []byte, at time.Time, layout string) []byte {
	dst = append(dst, '"')
	dst = at.UTC().AppendFormat(dst, layout)
	return append(dst, '"')
}

// appendFloat appends null for values that JSON cannot represent.
func appendFloat(dst []byte, value float64, bits int) []byte {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, value, 'g', -1, bits)
}

func appendText(dst []byte, text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return dst, fmt.Errorf("%w: %w", record.ErrNotUTF8, backend.ErrInvalid)
	}
	return appendString(dst, text), nil
}
