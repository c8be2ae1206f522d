// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

var parquetCompressions = map[string]compress.Compression{
	"zstd": compress.Codecs.Zstd, "snappy": compress.Codecs.Snappy,
	"gzip": compress.Codecs.Gzip, "none": compress.Codecs.Uncompressed,
}

var parquetTypes = map[string]arrow.DataType{
	"boolean": arrow.FixedWidthTypes.Boolean, "int64": arrow.PrimitiveTypes.Int64, "double": arrow.PrimitiveTypes.Float64,
	"string": arrow.BinaryTypes.String, "json": arrow.BinaryTypes.String,
	"timestamp": arrow.FixedWidthTypes.Timestamp_us, "date": arrow.FixedWidthTypes.Date32,
}

func (c *parquetCodec) schemaOf(columns []parquetColumn) (*arrow.Schema, error) {
	fields := make([]arrow.Field, 0, len(columns))
	seen := map[string]bool{}
	for i, column := range columns {
		kind, ok := parquetTypes[column.Type]
		switch {
		case column.Name == "" || seen[column.Name]:
			return nil, fmt.Errorf("codec.options.columns[%d].name: %q is empty or given twice: %w", i, column.Name, backend.ErrInvalid)
		case !ok:
			return nil, fmt.Errorf("codec.options.columns[%d].type: %q is not one of boolean, int64, double, string, timestamp, date, json: %w", i, column.Type, backend.ErrInvalid)
		}
		seen[column.Name] = true
		c.jsonColumns[column.Name] = column.Type == "json"
		fields = append(fields, arrow.Field{Name: column.Name, Type: kind, Nullable: true})
	}
	return arrow.NewSchema(fields, nil), nil
}

// sampleRows is how many records the columns are inferred from when none are configured.
const sampleRows = 1000

func (c *parquetCodec) Writer(w io.Writer) Writer {
	return &parquetWriter{codec: c, w: w, schema: c.schema}
}

type parquetWriter struct {
	codec  *parquetCodec
	w      io.Writer
	schema *arrow.Schema
	sample []map[string]any
	rows   int

	builder *array.RecordBuilder
	file    *pqarrow.FileWriter
}

func (w *parquetWriter) Write(r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrInvalid)
	}
	if w.schema == nil {
		w.sample = append(w.sample, object)
		if len(w.sample) < sampleRows {
			return nil
		}
		return w.flushSample()
	}
	return w.append(object)
}

func (w *parquetWriter) flushSample() error {
	schema, err := w.codec.infer(w.sample)
	if err != nil {
		return err
	}
	w.schema = schema
	for _, object := range w.sample {
		if err := w.append(object); err != nil {
			return err
		}
	}
	w.sample = nil
	return nil
}

// infer gives each field the narrowest type that holds all its values.
func (c *parquetCodec) infer(objects []map[string]any) (*arrow.Schema, error) {
	kinds := map[string]string{}
	for _, object := range objects {
		for name, value := range object {
			kinds[name] = widen(kinds[name], kindOf(value))
		}
	}
	var columns []parquetColumn
	for _, name := range sortedKeys(kinds) {
		if kinds[name] == "" {
			kinds[name] = "string" // only nulls so far
		}
		columns = append(columns, parquetColumn{Name: name, Type: kinds[name]})
	}
	return c.schemaOf(columns)
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return ""
	case bool:
		return "boolean"
	case int64:
		return "int64"
	case float64:
		return "double"
	case string:
		return "string"
	default:
		return "json"
	}
}

func widen(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	case (a == "int64" && b == "double") || (a == "double" && b == "int64"):
		return "double"
	default:
		return "json"
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// append checks the whole row before it adds to any column, so that a refused record leaves no partial row.
func (w *parquetWriter) append(object map[string]any) error {
	if w.builder == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	fields := w.schema.Fields()
	values := make([]any, len(fields))
	matched := 0
	for i, field := range fields {
		raw, present := object[field.Name]
		if present {
			matched++
		}
		value, ok := convert(raw, field.Type, w.codec.jsonColumns[field.Name])
		if !ok {
			return fmt.Errorf("field %q is not a %s: %w", field.Name, field.Type, backend.ErrInvalid)
		}
		values[i] = value
	}
	if matched < len(object) {
		return fmt.Errorf("record has fields that are not columns of the file: %w", backend.ErrInvalid)
	}
	for i, value := range values {
		appendColumn(w.builder.Field(i), value)
	}
	if w.rows++; w.rows < w.codec.rowGroupRows {
		return nil
	}
	return w.flush()
}

func convert(value any, kind arrow.DataType, asJSON bool) (any, bool) {
	if value == nil {
		return nil, true
	}
	if asJSON {
		text, err := json.Marshal(value)
		return string(text), err == nil
	}
	switch kind.ID() {
	case arrow.BOOL:
		v, ok := value.(bool)
		return v, ok
	case arrow.INT64:
		v, ok := value.(int64)
		return v, ok
	case arrow.FLOAT64:
		if whole, ok := value.(int64); ok {
			return float64(whole), true
		}
		v, ok := value.(float64)
		return v, ok
	case arrow.STRING:
		v, ok := value.(string)
		return v, ok
	case arrow.TIMESTAMP:
		at, ok := timeOf(value)
		return arrow.Timestamp(at.UnixMicro()), ok
	case arrow.DATE32:
		at, ok := timeOf(value)
		return arrow.Date32FromTime(at), ok
	}
	return nil, false
}

func timeOf(value any) (time.Time, bool) {
	text, ok := value.(string)
	if !ok {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func appendColumn(builder array.Builder, value any) {
	switch v := value.(type) {
	case nil:
		builder.AppendNull()
	case bool:
		builder.(*array.BooleanBuilder).Append(v)
	case int64:
		builder.(*array.Int64Builder).Append(v)
	case float64:
		builder.(*array.Float64Builder).Append(v)
	case string:
		builder.(*array.StringBuilder).Append(v)
	case arrow.Timestamp:
		builder.(*array.TimestampBuilder).Append(v)
	case arrow.Date32:
		builder.(*array.Date32Builder).Append(v)
	}
}

func (w *parquetWriter) open() error {
	properties := parquet.NewWriterProperties(parquet.WithCompression(parquetCompressions[w.codec.compression]))
	out, err := pqarrow.NewFileWriter(w.schema, w.w, properties, pqarrow.DefaultWriterProps())
	if err != nil {
		return fmt.Errorf("start Parquet file: %w", err)
	}
	w.file, w.builder = out, array.NewRecordBuilder(memory.DefaultAllocator, w.schema)
	return nil
}

func (w *parquetWriter) flush() error {
	if w.rows == 0 {
		return nil
	}
	batch := w.builder.NewRecordBatch()
	defer batch.Release()
	w.rows = 0
	if err := w.file.Write(batch); err != nil {
		return fmt.Errorf("write Parquet row group: %w", err)
	}
	return nil
}

// Close writes the last row group and the footer. A file without records is written only if its columns are
// known.
func (w *parquetWriter) Close() error {
	if w.schema == nil && len(w.sample) > 0 {
		if err := w.flushSample(); err != nil {
			return err
		}
	}
	if w.schema == nil {
		return nil
	}
	if w.builder == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.builder.Release()
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("write Parquet footer: %w", err)
	}
	return nil
}
