// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
)

// ErrTooLarge reports a record over the size limit; it wraps backend.ErrInvalid.
var ErrTooLarge = fmt.Errorf("record is larger than maxRecordBytes: %w", backend.ErrInvalid)

// ErrMalformed reports a record that violates its format; it wraps backend.ErrInvalid.
var ErrMalformed = fmt.Errorf("record violates its format: %w", backend.ErrInvalid)

// Spec describes one format for the catalogue.
type Spec struct {
	Format    string // the name in a codec's `format`
	Summary   string // one sentence
	Extension string // ".jsonl"
	// Options points to the format's zero options; the JSON Schema is derived from its struct tags.
	Options any

	open func(options json.RawMessage) (Codec, error)
}

// List returns every format, in the order of the catalogue.
func List() []Spec {
	return []Spec{
		specOf(Spec{Format: "json", Extension: ".jsonl", Summary: "One JSON value per message; JSON lines, or one array of records, in files and responses."}, newJSON),
		specOf(Spec{Format: "raw", Extension: ".txt", Summary: "Bytes as they are; files are split at a delimiter."}, newRaw),
		specOf(Spec{Format: "csv", Extension: ".csv", Summary: "Comma-separated values (RFC 4180), one JSON object per row."}, newCSV),
		specOf(Spec{Format: "parquet", Extension: ".parquet", Summary: "Apache Parquet files, one JSON object per row."}, newParquet),
	}
}

// New returns the codec of a format. Options may be empty; unknown options are refused.
func New(format string, options json.RawMessage) (Codec, error) {
	var names []string
	for _, spec := range List() {
		if spec.Format == format {
			return spec.open(options)
		}
		names = append(names, spec.Format)
	}
	return nil, fmt.Errorf("codec.format: %q is not one of %s: %w", format, strings.Join(names, ", "), backend.ErrInvalid)
}

func specOf[O any](spec Spec, open func(O) (Codec, error)) Spec {
	spec.Options = new(O)
	spec.open = func(raw json.RawMessage) (Codec, error) {
		var options O
		if len(bytes.TrimSpace(raw)) > 0 {
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&options); err != nil {
				return nil, fmt.Errorf("codec.options: %w: %w", plain(err), backend.ErrInvalid)
			}
		}
		return open(options)
	}
	return spec
}

// plain renames the field of a JSON type error to what the user wrote.
func plain(err error) error {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) && typed.Field != "" {
		return fmt.Errorf("%s: want %s, got %s", typed.Field, typed.Type, typed.Value)
	}
	return err
}

// arena copies short byte strings into large chunks, so that a scan allocates once per chunk rather than once
// per record.
type arena struct{ free []byte }

const arenaChunk = 256 << 10

func (a *arena) copy(data []byte) []byte {
	if len(data) > arenaChunk/4 {
		return bytes.Clone(data)
	}
	if cap(a.free)-len(a.free) < len(data) {
		a.free = make([]byte, 0, arenaChunk)
	}
	start := len(a.free)
	a.free = append(a.free, data...)
	return a.free[start:len(a.free):len(a.free)]
}
