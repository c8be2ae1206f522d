// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// CompressConfig configures the types compress and decompress.
type CompressConfig struct {
	Field     schema.FieldPath `json:"field,omitempty" jsonschema:"description=A text field; compressed it is base64 text. Default: the record's bytes"`
	Algorithm string           `json:"algorithm,omitempty" jsonschema:"enum=gzip,enum=zstd,enum=snappy,default=gzip"`
	MaxBytes  int64            `json:"maxBytes,omitempty" jsonschema:"minimum=1,maximum=268435456,default=16777216,description=decompress: the largest result"`
}

type compressor struct {
	field *field
	work  func([]byte) ([]byte, error)
	// toText and fromText convert a field before and after compression.
	fromText func(string) ([]byte, error)
	toText   func([]byte) string
}

func compressSpec() Spec {
	return specOf("compress", "Compresses the record's bytes or a text field: gzip, zstd or snappy.", func(cfg CompressConfig, _ Env) (any, error) {
		work, err := compressing(cfg.Algorithm)
		if err != nil {
			return nil, err
		}
		at, err := optionalField("field", cfg.Field)
		return &compressor{
			field: at, work: work, toText: base64.StdEncoding.EncodeToString,
			fromText: func(text string) ([]byte, error) { return []byte(text), nil },
		}, err
	})
}

func decompressSpec() Spec {
	return specOf("decompress", "Decompresses the record's bytes or a base64 text field: gzip, zstd or snappy.", func(cfg CompressConfig, _ Env) (any, error) {
		at, err := optionalField("field", cfg.Field)
		return &compressor{
			field: at, work: decompressing(cfg.Algorithm, cfg.MaxBytes), toText: func(data []byte) string { return string(data) },
			fromText: func(text string) ([]byte, error) {
				data, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					return nil, errors.New("the text is not valid base64")
				}
				return data, nil
			},
		}, err
	})
}

// Map compresses the bytes or the field.
func (c *compressor) Map(_ context.Context, r *record.Record) error {
	if c.field == nil {
		data, err := r.Bytes()
		if err != nil {
			return err
		}
		out, err := c.work(data)
		if err != nil {
			return err
		}
		r.SetBytes(out)
		return nil
	}
	object, err := r.Object()
	if err != nil {
		return err
	}
	value, _ := c.field.get(object)
	text, ok := value.(string)
	if !ok {
		return c.field.errorf("want a string, got %s", article(value))
	}
	data, err := c.fromText(text)
	if err == nil {
		data, err = c.work(data)
	}
	if err != nil {
		return c.field.errorf("%w", err)
	}
	r.Changed()
	return c.field.set(object, c.toText(data))
}

func compressing(algorithm string) (func([]byte) ([]byte, error), error) {
	switch algorithm {
	case "zstd":
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, errAt("algorithm", "%w", err)
		}
		return func(data []byte) ([]byte, error) { return encoder.EncodeAll(data, nil), nil }, nil
	case "snappy":
		return func(data []byte) ([]byte, error) { return s2.EncodeSnappy(nil, data), nil }, nil
	default:
		writer := gzip.NewWriter(io.Discard)
		return func(data []byte) ([]byte, error) {
			var out bytes.Buffer
			writer.Reset(&out)
			if _, err := writer.Write(data); err != nil {
				return nil, fmt.Errorf("compress: %w", err)
			}
			err := writer.Close()
			return out.Bytes(), err
		}, nil
	}
}

var errTooLarge = errors.New("the decompressed data is larger than maxBytes")

func decompressing(algorithm string, limit int64) func([]byte) ([]byte, error) {
	broken := errors.New("the data is not valid " + algorithm)
	switch algorithm {
	case "snappy":
		return func(data []byte) ([]byte, error) {
			size, err := s2.DecodedLen(data)
			if err != nil {
				return nil, broken
			}
			if int64(size) > limit {
				return nil, errTooLarge
			}
			out, err := s2.Decode(nil, data)
			if err != nil {
				return nil, broken
			}
			return out, nil
		}
	case "zstd":
		return func(data []byte) ([]byte, error) {
			reader, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)+1<<20))
			if err != nil {
				return nil, broken
			}
			defer reader.Close()
			return limited(reader, limit, broken)
		}
	default:
		return func(data []byte) ([]byte, error) {
			reader, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return nil, broken
			}
			return limited(reader, limit, broken)
		}
	}
}

func limited(reader io.Reader, limit int64, broken error) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(reader, limit+1))
	if int64(len(out)) > limit {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, broken
	}
	return out, nil
}
