// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

type csvOptions struct {
	Header    *bool    `json:"header,omitempty" jsonschema:"default=true,description=The first row of a file names the columns."`
	Delimiter string   `json:"delimiter,omitempty" jsonschema:"default=\\,,description=One character between fields."`
	Columns   []string `json:"columns,omitempty" jsonschema:"description=Names of the columns; needed when there is no header. In a sink: which fields are written."`
	Infer     bool     `json:"infer,omitempty" jsonschema:"default=false,description=Turn numbers and true/false into JSON numbers and booleans and empty fields into null; otherwise every value is a string."`
}

type csvCodec struct {
	header  bool
	comma   rune
	columns []string
	infer   bool
}

func newCSV(o csvOptions) (Codec, error) {
	c := &csvCodec{header: o.Header == nil || *o.Header, comma: ',', columns: o.Columns, infer: o.Infer}
	if o.Delimiter != "" {
		comma, size := utf8.DecodeRuneInString(o.Delimiter)
		if size != len(o.Delimiter) || comma == '"' || comma == '\r' || comma == '\n' || comma == utf8.RuneError {
			return nil, fmt.Errorf("codec.options.delimiter: want one character that is neither a quote nor a line end: %w", backend.ErrInvalid)
		}
		c.comma = comma
	}
	if !c.header && len(c.columns) == 0 {
		return nil, fmt.Errorf("codec.options.columns: needed because header is false: %w", backend.ErrInvalid)
	}
	return c, nil
}

func (c *csvCodec) Passthrough() bool { return false }

func (c *csvCodec) Extension() string { return ".csv" }

// Unmarshal decodes a message as rows. A message has no header of its own when columns are given.
func (c *csvCodec) Unmarshal(value []byte) ([]record.Record, error) {
	one := *c
	one.header = c.header && len(c.columns) == 0
	var out []record.Record
	// The message is in memory: its length bounds the rows well enough.
	err := one.Scan(context.Background(), bytes.NewReader(value), 1<<40,
		func(r record.Record) error { out = append(out, r); return nil },
		func(_ []byte, err error) error { return err })
	return out, err
}

func (c *csvCodec) reader(r io.Reader) *csv.Reader {
	reader := csv.NewReader(r)
	reader.Comma, reader.ReuseRecord, reader.FieldsPerRecord = c.comma, true, -1
	return reader
}

func (c *csvCodec) Scan(ctx context.Context, r io.Reader, maxRecordBytes int64, yield func(record.Record) error, bad func([]byte, error) error) error {
	bounded := &budget{r: r}
	buffered := bufio.NewReaderSize(bounded, 64<<10)
	reset := func() { bounded.left = maxRecordBytes + int64(buffered.Size()) }
	reset()
	if _, err := firstByte(buffered); errors.Is(err, io.EOF) {
		return nil
	}
	reader := c.reader(buffered)
	names := c.names(c.columns)
	wantHeader := c.header
	var memory arena
	var row []byte
	for number := int64(1); ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		reset()
		fields, err := reader.Read()
		var parse *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrTooLarge):
			if err := bad(nil, atRow(number, ErrTooLarge)); err != nil {
				return err
			}
			if err := skipLine(buffered, reset); err != nil {
				return ignoreEOF(err)
			}
			reader = c.reader(buffered)
			continue
		case errors.As(err, &parse):
			if err := bad(nil, atRow(number, ErrMalformed)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if wantHeader {
			if wantHeader = false; len(c.columns) == 0 {
				names = c.names(fields)
			}
			continue
		}
		if row, err = c.object(row[:0], names, fields); err == nil && int64(len(row)) > maxRecordBytes {
			err = ErrTooLarge
		}
		if err != nil {
			if err := bad(rowText(fields, err), atRow(number, err)); err != nil {
				return err
			}
			continue
		}
		if err := yield(record.New(memory.copy(row))); err != nil {
			return err
		}
	}
}

// rowText returns what a refused row held, for its dead letter.
func rowText(fields []string, err error) []byte {
	if errors.Is(err, ErrTooLarge) {
		return nil
	}
	text, _ := json.Marshal(fields) // strings always marshal
	return text
}

func atRow(number int64, err error) error { return fmt.Errorf("row %d: %w", number, err) }

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func skipLine(r *bufio.Reader, reset func()) error {
	for {
		reset()
		_, err := r.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// names returns the column names as quoted JSON keys, with their colon.
func (c *csvCodec) names(columns []string) [][]byte {
	out := make([][]byte, len(columns))
	for i, name := range columns {
		quoted, _ := json.Marshal(name) // a string always marshals
		out[i] = append(quoted, ':')
	}
	return out
}

func (c *csvCodec) object(dst []byte, names [][]byte, fields []string) ([]byte, error) {
	if len(fields) != len(names) {
		return dst, fmt.Errorf("%d fields, want %d: %w", len(fields), len(names), ErrMalformed)
	}
	dst = append(dst, '{')
	for i, field := range fields {
		if !utf8.ValidString(field) {
			return dst, fmt.Errorf("%w: %w", record.ErrNotUTF8, backend.ErrInvalid)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, names[i]...)
		dst = c.value(dst, field)
	}
	return append(dst, '}'), nil
}

func (c *csvCodec) value(dst []byte, field string) []byte {
	if c.infer {
		switch field {
		case "":
			return append(dst, "null"...)
		case "true", "false":
			return append(dst, field...)
		}
		if isNumber(field) {
			return append(dst, field...)
		}
	}
	return appendString(dst, field)
}

// isNumber reports whether text is a valid JSON number ("007" and "1e" are not).
func isNumber(text string) bool {
	if c := text[0]; c != '-' && (c < '0' || c > '9') {
		return false
	}
	return json.Valid([]byte(text))
}

// appendString appends text, which is valid UTF-8, as a JSON string.
func appendString(dst []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string always marshals
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}

// Marshal appends the record's fields as one row, without a header.
func (c *csvCodec) Marshal(dst []byte, r *record.Record) ([]byte, error) {
	var out bytes.Buffer
	one := *c
	one.header = false
	w := one.Writer(&out)
	if err := w.Write(r); err != nil {
		return dst, err
	}
	if err := w.Close(); err != nil {
		return dst, err
	}
	return append(dst, bytes.TrimRight(out.Bytes(), "\n")...), nil
}

func (c *csvCodec) Writer(w io.Writer) Writer {
	out := &csvWriter{codec: c, w: csv.NewWriter(w), columns: c.columns, header: c.header}
	out.w.Comma = c.comma
	return out
}

type csvWriter struct {
	codec   *csvCodec
	w       *csv.Writer
	columns []string
	header  bool
	fields  []string
}

func (w *csvWriter) Write(r *record.Record) error {
	object, err := r.Object()
	if err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrInvalid)
	}
	if len(w.columns) == 0 {
		w.columns = sortedKeys(object)
	}
	if w.header {
		if err := w.w.Write(w.columns); err != nil {
			return err
		}
		w.header = false
	}
	w.fields = w.fields[:0]
	for _, name := range w.columns {
		text, err := cell(object[name])
		if err != nil {
			return fmt.Errorf("field %q: %w: %w", name, err, backend.ErrInvalid)
		}
		w.fields = append(w.fields, text)
	}
	return w.w.Write(w.fields)
}

func (w *csvWriter) Close() error {
	w.w.Flush()
	return w.w.Error()
}

func cell(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	default:
		data, err := json.Marshal(v)
		return string(data), err
	}
}
