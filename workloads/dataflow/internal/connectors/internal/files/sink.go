// SPDX-License-Identifier: Apache-2.0

package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/batchid"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// sink writes each batch as one file, because a batch must be durable when Write returns. The name is derived
// from the content, so a batch that is written again replaces its own file.
type sink struct {
	cfg   SinkConfig
	codec codec.Codec
	store Store
	names *batchid.Namer
}

// OpenSink takes ownership of the store.
func OpenSink(cfg SinkConfig, store Store, env connector.Env) connector.Sink {
	return &sink{cfg: cfg, codec: env.Codec, store: store, names: batchid.New()}
}

// Write encodes the batch in memory and stores it in one step.
func (s *sink) Write(ctx context.Context, batch *record.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if batch.Len() == 0 {
		return nil
	}
	var file bytes.Buffer
	refused, err := s.encode(&file, batch)
	if err != nil {
		return err
	}
	if len(refused.ByIndex) < batch.Len() {
		if err := s.store.Put(ctx, s.name(batch, file.Bytes()), file.Bytes()); err != nil {
			return err
		}
	}
	s.names.Done()
	return refused.OrNil()
}

func (s *sink) encode(file *bytes.Buffer, batch *record.Batch) (*record.Errors, error) {
	packed, err := s.compress(file)
	if err != nil {
		return nil, err
	}
	writer := s.codec.Writer(packed)
	refused := &record.Errors{}
	for i := range batch.Records {
		// A copy: a codec may decode the record, and the batch goes to other sinks too.
		r := batch.Records[i]
		if err := writer.Write(&r); err != nil {
			if !errors.Is(err, backend.ErrInvalid) {
				return nil, fmt.Errorf("encode a record: %w", err)
			}
			refused.Add(i, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("encode the file: %w", err)
	}
	return refused, packed.Close()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (s *sink) compress(w io.Writer) (io.WriteCloser, error) {
	switch s.compression() {
	case "gzip":
		return gzip.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nopCloser{w}, nil
}

func (s *sink) compression() string {
	if _, own := s.codec.(codec.FileCodec); own {
		return "none"
	}
	return s.cfg.Compression
}

// name joins prefix, time of the first record, digest and extension.
func (s *sink) name(batch *record.Batch, data []byte) string {
	at := batch.Records[0].Time.UTC()
	prefix := strings.NewReplacer("{date}", at.Format("2006-01-02"), "{hour}", at.Format("15")).Replace(s.cfg.Prefix)
	name := prefix + at.Format("20060102T150405.000000Z") + "-" + s.names.ID(batch, data)[:16] + s.codec.Extension()
	switch s.compression() {
	case "gzip":
		name += ".gz"
	case "zstd":
		name += ".zst"
	}
	return name
}

// Close releases the store.
func (s *sink) Close(context.Context) error { return s.store.Close() }
