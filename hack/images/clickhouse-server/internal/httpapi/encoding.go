// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

// frameSize is how much of a result goes into one frame of ClickHouse's own compression.
const frameSize = 1 << 20

// requestBody decodes the encodings of a request's body: HTTP's Content-Encoding, then ClickHouse's own frames
// (decompress=1), whose checksums are verified.
func requestBody(r *http.Request, query url.Values) (io.Reader, *engine.Error) {
	body := io.Reader(r.Body)
	var err error
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		body, err = gzip.NewReader(body)
	case "deflate":
		body, err = zlib.NewReader(body)
	case "br":
		body = brotli.NewReader(body)
	case "zstd":
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1)); err == nil {
			body = decoder.IOReadCloser()
		}
	case "lz4":
		body = lz4.NewReader(body)
	default:
		return nil, exception(codeNotImplemented, "NOT_IMPLEMENTED", "Content-Encoding %q is not supported", encoding)
	}
	if err != nil {
		return nil, exception(codeDecompress, "CANNOT_DECOMPRESS", "Content-Encoding: %s", err)
	}
	if enabled(query.Get("decompress")) {
		body = newFrameReader(body)
	}
	return body, nil
}

// responseBody encodes a result as the client requested: ClickHouse's own frames for compress=1, or else HTTP's
// Content-Encoding if enable_http_compression=1. Close ends the encoding; it does not close w.
func responseBody(w http.ResponseWriter, r *http.Request, query url.Values) io.WriteCloser {
	if enabled(query.Get("compress")) {
		method := compress.LZ4
		if strings.EqualFold(query.Get("network_compression_method"), "ZSTD") {
			method = compress.ZSTD
		}
		return &frameWriter{out: w, frame: compress.NewWriter(0, method)}
	}
	if enabled(query.Get("enable_http_compression")) {
		for encoding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
			encoding, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(encoding)), ";")
			if encoder := newEncoder(encoding, w); encoder != nil {
				w.Header().Set("Content-Encoding", encoding)
				return encoder
			}
		}
	}
	return plainWriter{w}
}

func newEncoder(encoding string, w io.Writer) io.WriteCloser {
	switch encoding {
	case "gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "br":
		return brotli.NewWriterLevel(w, brotli.DefaultCompression)
	case "lz4":
		return lz4.NewWriter(w)
	case "zstd":
		if encoder, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); err == nil {
			return encoder
		}
	}
	return nil
}

// plainWriter passes the bytes on unchanged.
type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// frameWriter writes ClickHouse's compressed frames: checksum, method, sizes, block.
type frameWriter struct {
	out   io.Writer
	frame *compress.Writer
}

func (f *frameWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		piece := p[:min(len(p), frameSize)]
		if err := f.frame.Compress(piece); err != nil {
			return written, err
		}
		if _, err := f.out.Write(f.frame.Data); err != nil {
			return written, err
		}
		written += len(piece)
		p = p[len(piece):]
	}
	return written, nil
}

func (f *frameWriter) Close() error { return nil }

// enabled parses a boolean parameter.
func enabled(value string) bool {
	return value != "" && value != "0" && !strings.EqualFold(value, "false")
}
