// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

type parquetOptions struct {
	Columns      []parquetColumn `json:"columns,omitempty" jsonschema:"description=Columns of the files that a sink writes; inferred from the first records when not given."`
	Compression  string          `json:"compression,omitempty" jsonschema:"enum=zstd,enum=snappy,enum=gzip,enum=none,default=zstd,description=How a sink compresses."`
	RowGroupRows int             `json:"rowGroupRows,omitempty" jsonschema:"default=100000,minimum=1,maximum=10000000,description=Rows per row group that a sink writes; they are held in memory."`
}

type parquetColumn struct {
	Name string `json:"name" jsonschema:"required,minLength=1"`
	Type string `json:"type" jsonschema:"required,enum=boolean,enum=int64,enum=double,enum=string,enum=timestamp,enum=date,enum=json"`
}

type parquetCodec struct {
	schema       *arrow.Schema // nil: inferred from the first records
	jsonColumns  map[string]bool
	compression  string
	rowGroupRows int
}

func newParquet(o parquetOptions) (Codec, error) {
	c := &parquetCodec{compression: o.Compression, rowGroupRows: o.RowGroupRows, jsonColumns: map[string]bool{}}
	if c.compression == "" {
		c.compression = "zstd"
	}
	if _, ok := parquetCompressions[c.compression]; !ok {
		return nil, fmt.Errorf("codec.options.compression: %q is not one of zstd, snappy, gzip, none: %w", o.Compression, backend.ErrInvalid)
	}
	if c.rowGroupRows <= 0 {
		c.rowGroupRows = 100_000
	}
	if len(o.Columns) > 0 {
		schema, err := c.schemaOf(o.Columns)
		if err != nil {
			return nil, err
		}
		c.schema = schema
	}
	return c, nil
}

func (c *parquetCodec) Passthrough() bool { return false }

func (c *parquetCodec) Extension() string { return ".parquet" }

// Unmarshal decodes a message that is one whole Parquet file.
func (c *parquetCodec) Unmarshal(value []byte) ([]record.Record, error) {
	var out []record.Record
	err := c.ScanAt(context.Background(), bytes.NewReader(value), int64(len(value)), 0, 1<<40,
		func(r record.Record) error { out = append(out, r); return nil },
		func(_ []byte, err error) error { return err })
	return out, err
}

// Marshal writes a whole file with one row.
func (c *parquetCodec) Marshal(dst []byte, r *record.Record) ([]byte, error) {
	buffer := bytes.NewBuffer(dst)
	w := c.Writer(buffer)
	if err := w.Write(r); err != nil {
		return dst, err
	}
	if err := w.Close(); err != nil {
		return dst, err
	}
	return buffer.Bytes(), nil
}

// Scan is refused: the format's directory is at the file's end.
func (c *parquetCodec) Scan(context.Context, io.Reader, int64, func(record.Record) error, func([]byte, error) error) error {
	return fmt.Errorf("codec.format: parquet needs files (types file and s3), not a stream: %w", backend.ErrInvalid)
}

// scanRows is how many rows are held in memory at once.
const scanRows = 8192

// ScanAt reads one row group after another. Pages are read on demand, so memory use does not grow with the
// file.
func (c *parquetCodec) ScanAt(ctx context.Context, r io.ReaderAt, size, skip, maxRecordBytes int64, yield func(record.Record) error, bad func([]byte, error) error) (err error) {
	defer func() {
		// The library panics on some damaged files; one file's damage must not end the worker.
		if p := recover(); p != nil {
			err = fmt.Errorf("read Parquet file: %v: %w", p, ErrMalformed)
		}
	}()
	properties := parquet.NewReaderProperties(memory.DefaultAllocator)
	properties.BufferedStreamEnabled = true
	reader, err := file.NewParquetReader(io.NewSectionReader(r, 0, size), file.WithReadProps(properties))
	if err != nil {
		return fmt.Errorf("open Parquet file: %w: %w", err, ErrMalformed)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	table, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{BatchSize: scanRows}, memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("open Parquet file: %w: %w", err, ErrMalformed)
	}
	groups := []int{}
	for i := range reader.NumRowGroups() {
		if rows := reader.MetaData().RowGroup(i).NumRows(); len(groups) == 0 && skip >= rows {
			skip -= rows
			continue
		}
		groups = append(groups, i)
	}
	if len(groups) == 0 {
		return nil
	}
	batches, err := table.GetRecordReader(ctx, nil, groups)
	if err != nil {
		return fmt.Errorf("read Parquet file: %w: %w", err, ErrMalformed)
	}
	defer batches.Release()
	out := rowWriter{limit: maxRecordBytes, yield: yield, bad: bad}
	for batches.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch := batches.RecordBatch()
		from := min(skip, batch.NumRows())
		skip -= from
		if err := out.rows(batch, int(from)); err != nil {
			return err
		}
	}
	if err := batches.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read Parquet file: %w: %w", err, ErrMalformed)
	}
	return nil
}

// rowWriter turns columns into one JSON object per row.
type rowWriter struct {
	limit  int64
	memory arena
	row    []byte
	yield  func(record.Record) error
	bad    func([]byte, error) error
}

type columnWriter struct {
	key   []byte // `"name":`
	value func(dst []byte, i int) ([]byte, error)
}

func (w *rowWriter) rows(batch arrow.RecordBatch, from int) error {
	columns := make([]columnWriter, batch.NumCols())
	for i := range columns {
		key, _ := json.Marshal(batch.ColumnName(i)) // a string always marshals
		columns[i] = columnWriter{key: append(key, ':'), value: valueWriter(batch.Column(i))}
	}
	for i := from; i < int(batch.NumRows()); i++ {
		row := append(w.row[:0], '{')
		var err error
		for c := range columns {
			if c > 0 {
				row = append(row, ',')
			}
			row = append(row, columns[c].key...)
			if row, err = columns[c].value(row, i); err != nil {
				err = fmt.Errorf("column %q: %w", batch.ColumnName(c), err)
				break
			}
		}
		row = append(row, '}')
		w.row = row
		if err == nil && int64(len(row)) > w.limit {
			err = ErrTooLarge
		}
		if err != nil {
			err = w.bad(nil, err)
		} else {
			err = w.yield(record.New(w.memory.copy(row)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
