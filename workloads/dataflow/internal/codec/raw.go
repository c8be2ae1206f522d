// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

type rawOptions struct {
	Delimiter *string `json:"delimiter,omitempty" jsonschema:"description=The delimiter after each record in a file; a newline when not given; empty: the whole file is one record."`
}

type rawCodec struct{ delimiter []byte }

func newRaw(o rawOptions) (Codec, error) {
	delimiter := "\n"
	if o.Delimiter != nil {
		delimiter = *o.Delimiter
	}
	return &rawCodec{delimiter: []byte(delimiter)}, nil
}

func (c *rawCodec) Unmarshal(value []byte) ([]record.Record, error) {
	return []record.Record{record.New(value)}, nil
}

func (c *rawCodec) Passthrough() bool { return true }

func (c *rawCodec) Extension() string { return ".txt" }

func (c *rawCodec) Marshal(dst []byte, r *record.Record) ([]byte, error) {
	data, err := r.Bytes()
	if err != nil {
		return dst, err
	}
	return append(dst, data...), nil
}

func (c *rawCodec) Scan(ctx context.Context, r io.Reader, maxRecordBytes int64, yield func(record.Record) error, bad func([]byte, error) error) error {
	if len(c.delimiter) == 0 {
		return scanWhole(r, maxRecordBytes, yield, bad)
	}
	var memory arena
	return scanLines(ctx, bufio.NewReaderSize(r, 256<<10), c.delimiter, maxRecordBytes,
		func(_ int64, piece []byte) error { return yield(record.New(memory.copy(piece))) },
		func(number int64) error { return bad(nil, atLine(number, ErrTooLarge)) })
}

func scanWhole(r io.Reader, limit int64, yield func(record.Record) error, bad func([]byte, error) error) error {
	data, err := io.ReadAll(&budget{r: r, left: limit + 1})
	if errors.Is(err, ErrTooLarge) || int64(len(data)) > limit {
		return bad(nil, ErrTooLarge)
	}
	if err != nil {
		return err
	}
	return yield(record.New(data))
}

func (c *rawCodec) Writer(w io.Writer) Writer { return &rawWriter{w: w, delimiter: c.delimiter} }

type rawWriter struct {
	w         io.Writer
	delimiter []byte
	line      []byte
}

func (w *rawWriter) Write(r *record.Record) error {
	data, err := r.Bytes()
	if err != nil {
		return err
	}
	w.line = append(append(w.line[:0], data...), w.delimiter...)
	_, err = w.w.Write(w.line)
	return err
}

func (w *rawWriter) Close() error { return nil }
