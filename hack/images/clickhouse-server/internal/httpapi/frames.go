// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-faster/city"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A frame of ClickHouse's compression is a CityHash128 of the rest (16 bytes), the method (1),
// the size of header and payload without the checksum (4), the size of the data (4), the payload.
const (
	frameChecksum = 16
	frameHeader   = 9
	maxFrame      = 1 << 30 // bytes; ClickHouse's own limit
	methodLZ4     = 0x82
	methodZSTD    = 0x90
	methodNone    = 0x02
)

// frameReader reads compressed frames. It ends only between two frames: a truncated stream is an error, so that a part is
// never mistaken for the whole.
type frameReader struct {
	in   io.Reader
	raw  []byte // the frame as it was read, reused for the next
	data []byte // the data of the last frame, reused for the next
	rest []byte // its unread part
	zstd *zstd.Decoder
}

func newFrameReader(in io.Reader) *frameReader { return &frameReader{in: in} }

// Read implements io.Reader.
func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: each frame is passed on as a whole, without another copy.
func (f *frameReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		n, err := w.Write(f.rest)
		total += int64(n)
		if err != nil {
			return total, err
		}
		f.rest = nil
		if err := f.next(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}

// next reads one frame. io.EOF means that there is none.
func (f *frameReader) next() error {
	f.raw = slices.Grow(f.raw[:0], frameChecksum+frameHeader)[:frameChecksum+frameHeader]
	if _, err := io.ReadFull(f.in, f.raw); errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	} else if err != nil {
		return fmt.Errorf("compressed frame: header: %w", err)
	}
	size := int64(binary.LittleEndian.Uint32(f.raw[frameChecksum+1:]))
	dataSize := int64(binary.LittleEndian.Uint32(f.raw[frameChecksum+5:]))
	if size < frameHeader || size > maxFrame || dataSize > maxFrame {
		return fmt.Errorf("compressed frame: sizes %d and %d are out of bounds", size, dataSize)
	}
	if err := f.payload(int(size) - frameHeader); err != nil {
		return fmt.Errorf("compressed frame: %w", err)
	}
	sum := city.CH128(f.raw[frameChecksum:])
	if sum.Low != binary.LittleEndian.Uint64(f.raw) || sum.High != binary.LittleEndian.Uint64(f.raw[8:]) {
		return errors.New("compressed frame: the checksum does not match")
	}
	return f.decompress(f.raw[frameChecksum], f.raw[frameChecksum+frameHeader:], int(dataSize))
}

// payload appends n bytes of the stream to the frame. Memory grows with what was read, not with what the header claims.
func (f *frameReader) payload(n int) error {
	for step := 1 << 20; n > 0; step *= 2 {
		at := len(f.raw)
		f.raw = slices.Grow(f.raw, min(n, step))[:at+min(n, step)]
		if _, err := io.ReadFull(f.in, f.raw[at:]); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		n -= len(f.raw) - at
	}
	return nil
}

func (f *frameReader) decompress(method byte, payload []byte, size int) error {
	// No method expands a byte to more than this, except ZSTD, which checks for itself.
	if method != methodZSTD && size/256 > len(payload) {
		return fmt.Errorf("compressed frame: %d bytes cannot hold %d", len(payload), size)
	}
	f.data = f.data[:0]
	if method != methodZSTD {
		f.data = slices.Grow(f.data, size)[:size]
	}
	n := 0
	var err error
	switch method {
	case methodLZ4:
		n, err = lz4.UncompressBlock(payload, f.data)
	case methodZSTD:
		if f.zstd == nil {
			if f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame)); err != nil {
				return err
			}
		}
		var data []byte
		if data, err = f.zstd.DecodeAll(payload, f.data[:0]); err == nil {
			f.data, n = data, len(data)
		}
	case methodNone:
		n = copy(f.data, payload)
	default:
		return fmt.Errorf("compressed frame: the method %#x is not supported", method)
	}
	if err != nil {
		return fmt.Errorf("compressed frame: %w", err)
	}
	if n != size {
		return fmt.Errorf("compressed frame: %d bytes of data instead of %d", n, size)
	}
	f.rest = f.data
	return nil
}
