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
	// Unmarshal turns one message into records, usually one. It does not copy value.
	Unmarshal(value []byte) ([]record.Record, error)
	// Passthrough tells that Unmarshal always gives exactly one record with the same bytes,
	// so a caller may skip it.
	Passthrough() bool
	// Scan reads a stream to its end and hands over each record; it stops at yield's first error.
	// A malformed record goes to bad with its bytes (nil when they are too many), and scanning goes
	// on; where nothing tells the next record's start, Scan returns the error instead.
	Scan(ctx context.Context, r io.Reader, maxRecordBytes int64, yield func(record.Record) error, bad func(value []byte, err error) error) error
	// Marshal appends one record to dst as a message.
	Marshal(dst []byte, r *record.Record) ([]byte, error)
	// Writer starts a stream of records (a file): Write each, then Close for the footer.
	Writer(w io.Writer) Writer
	// Extension is the file name's ending, with the dot: ".jsonl".
	Extension() string
}

// Writer writes records to one stream.
type Writer interface {
	Write(r *record.Record) error
	// Close writes what remains; it does not close the stream below.
	Close() error
}

// FileCodec is a Codec whose files are read from any place rather than as a stream (Parquet
// keeps its directory at the end). Where a Codec is a FileCodec, files go through ScanAt.
type FileCodec interface {
	// ScanAt is Scan over size bytes; skip records from the file's start are passed over
	// without being decoded where the format allows.
	ScanAt(ctx context.Context, r io.ReaderAt, size, skip, maxRecordBytes int64, yield func(record.Record) error, bad func(value []byte, err error) error) error
}
