// SPDX-License-Identifier: Apache-2.0

// Package codec turns a stream of bytes into records and back. One message of
// a broker is decoded by Unmarshal; a file or a response body by Scan.
package codec

import (
	"context"
	"io"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Codec is one format.
type Codec interface {
	// Unmarshal decodes one message into records, usually one. It does not copy value.
	Unmarshal(value []byte) ([]record.Record, error)
	// Passthrough reports whether Unmarshal always returns exactly one record with the same bytes, so that a
	// caller may skip it.
	Passthrough() bool
	// Scan reads a stream to its end and passes each record to yield; it stops at yield's first error. A
	// malformed record goes to bad with its bytes (nil if they are too many), and scanning continues; where the
	// next record's start cannot be found, Scan returns the error instead.
	Scan(ctx context.Context, r io.Reader, maxRecordBytes int64, yield func(record.Record) error, bad func(value []byte, err error) error) error
	// Marshal appends one record to dst as a message.
	Marshal(dst []byte, r *record.Record) ([]byte, error)
	// Writer starts a stream of records (a file): Write each, then Close for the footer.
	Writer(w io.Writer) Writer
	// Extension is the file name extension, with the dot: ".jsonl".
	Extension() string
}

// Writer writes records to one stream.
type Writer interface {
	Write(r *record.Record) error
	// Close writes what remains; it does not close the underlying stream.
	Close() error
}

// FileCodec is a Codec whose files need random access rather than a stream (Parquet has its directory at the
// end). Files of a FileCodec go through ScanAt.
type FileCodec interface {
	// ScanAt is Scan over size bytes; it skips the first skip records, without decoding them where the format
	// allows.
	ScanAt(ctx context.Context, r io.ReaderAt, size, skip, maxRecordBytes int64, yield func(record.Record) error, bad func(value []byte, err error) error) error
}
