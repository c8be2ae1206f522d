// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

type jsonOptions struct {
	Layout string `json:"layout,omitempty" jsonschema:"enum=auto,enum=lines,enum=array,default=auto,description=How a file holds its records: one per line or as one array; auto looks at the first byte."`
}

type jsonCodec struct{ layout string }

func newJSON(o jsonOptions) (Codec, error) {
	switch o.Layout {
	case "":
		o.Layout = "auto"
	case "auto", "lines", "array":
	default:
		return nil, fmt.Errorf("codec.options.layout: %q is not one of auto, lines, array: %w", o.Layout, backend.ErrInvalid)
	}
	return &jsonCodec{layout: o.Layout}, nil
}

func (c *jsonCodec) Unmarshal(value []byte) ([]record.Record, error) {
	return []record.Record{record.New(value)}, nil
}

func (c *jsonCodec) Passthrough() bool { return true }

func (c *jsonCodec) Extension() string { return ".jsonl" }

func (c *jsonCodec) Marshal(dst []byte, r *record.Record) ([]byte, error) {
	data, err := r.Bytes()
	if err != nil {
		return dst, err
	}
	return append(dst, data...), nil
}

func (c *jsonCodec) Scan(ctx context.Context, r io.Reader, maxRecordBytes int64, yield func(record.Record) error, bad func([]byte, error) error) error {
	buffered := bufio.NewReaderSize(r, 256<<10)
	first, err := firstByte(buffered)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.layout == "array" || (c.layout == "auto" && first == '[') {
		return scanArray(ctx, buffered, maxRecordBytes, yield, bad)
	}
	var memory arena
	return scanLines(ctx, buffered, []byte{'\n'}, maxRecordBytes,
		func(number int64, line []byte) error {
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				return nil
			}
			if err := CheckJSON(line); err != nil {
				return bad(memory.copy(line), atLine(number, err))
			}
			return yield(record.New(memory.copy(line)))
		},
		func(number int64) error { return bad(nil, atLine(number, ErrTooLarge)) })
}

// CheckJSON returns an error unless data is exactly one JSON value in valid UTF-8.
func CheckJSON(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: %w", record.ErrNotUTF8, backend.ErrInvalid)
	}
	if !gjson.ValidBytes(data) {
		return fmt.Errorf("%w: %w", record.ErrNotJSON, backend.ErrInvalid)
	}
	return nil
}

// firstByte peeks at the first byte that is neither white space nor part of a byte-order mark.
func firstByte(r *bufio.Reader) (byte, error) {
	if mark, _ := r.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
	}
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return b, r.UnreadByte()
	}
}

// scanArray streams the elements of one JSON array. A malformed element, or one far over the limit, ends the
// scan: the start of the next one cannot be found.
func scanArray(ctx context.Context, r io.Reader, limit int64, yield func(record.Record) error, bad func([]byte, error) error) error {
	bounded := &budget{r: r, left: limit}
	decoder := json.NewDecoder(bounded)
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return fmt.Errorf("not an array of records: %w", ErrMalformed)
	}
	for number := int64(1); decoder.More(); number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		// The decoder reads ahead, so limit what one element adds.
		bounded.left = limit + 1
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return fmt.Errorf("element %d: %w", number, elementError(err))
		}
		if int64(len(element)) > limit {
			if err := bad(nil, fmt.Errorf("element %d: %w", number, ErrTooLarge)); err != nil {
				return err
			}
			continue
		}
		if !utf8.Valid(element) {
			if err := bad(element, fmt.Errorf("element %d: %w: %w", number, record.ErrNotUTF8, backend.ErrInvalid)); err != nil {
				return err
			}
			continue
		}
		if err := yield(record.New(element)); err != nil {
			return err
		}
		bounded.left = limit + 1
	}
	if _, err := decoder.Token(); err != nil {
		return fmt.Errorf("the array does not end: %w", elementError(err))
	}
	return nil
}

// elementError keeps transport errors and turns the parser's into ErrMalformed, because its text may quote the
// data.
func elementError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return ErrMalformed
	}
	return err
}

func (c *jsonCodec) Writer(w io.Writer) Writer { return &jsonWriter{w: w} }

type jsonWriter struct {
	w    io.Writer
	line []byte
}

func (w *jsonWriter) Write(r *record.Record) error {
	var err error
	if w.line, err = AppendLine(w.line[:0], r); err != nil {
		return err
	}
	_, err = w.w.Write(w.line)
	return err
}

func (w *jsonWriter) Close() error { return nil }

// AppendLine appends the record as one line of JSON lines, newline included. A value that is
// not exactly one JSON value is refused with an error that wraps backend.ErrInvalid.
func AppendLine(dst []byte, r *record.Record) ([]byte, error) {
	_, wasRaw := r.Raw()
	data, err := r.Bytes()
	if err != nil {
		return dst, fmt.Errorf("%w: %w", err, backend.ErrInvalid)
	}
	if wasRaw {
		if err := CheckJSON(data); err != nil {
			return dst, err
		}
	}
	if bytes.IndexByte(data, '\n') < 0 {
		return append(append(dst, data...), '\n'), nil
	}
	compact := bytes.NewBuffer(dst)
	if err := json.Compact(compact, data); err != nil {
		return dst, fmt.Errorf("%w: %w", record.ErrNotJSON, backend.ErrInvalid)
	}
	return append(compact.Bytes(), '\n'), nil
}
