// SPDX-License-Identifier: Apache-2.0

// Package files reads and writes named files of records, wherever they are stored. The connectors file and s3
// share it.
package files

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/klauspost/compress/zstd"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Entry is one file.
type Entry struct {
	Name     string // with slashes, relative to the store
	Size     int64
	Modified time.Time
}

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// Store holds named files.
type Store interface {
	// List returns files whose names are greater than after, in byte order of their names: at least one if
	// there is one; more is set if there may be others after the last.
	List(ctx context.Context, after string) (entries []Entry, more bool, err error)
	Open(ctx context.Context, entry Entry) (File, error)
	// Put makes a whole file durable at once: readers see all of it or nothing. An existing file is replaced.
	Put(ctx context.Context, name string, data []byte) error
	// LoadState returns nil if there is none.
	LoadState(ctx context.Context, name string) ([]byte, error)
	SaveState(ctx context.Context, name string, data []byte) error
	Close() error
}

// SourceConfig holds what every source of files has.
type SourceConfig struct {
	Pattern     string          `json:"pattern,omitempty" jsonschema:"default=**,description=Which files to read: a glob on the path where ** stands for any number of directories. Names that start with a dot are never read."`
	Watch       bool            `json:"watch,omitempty" jsonschema:"default=false,description=Continue with files that are added later; otherwise the source finishes after the last file."`
	Interval    config.Duration `json:"interval,omitempty" jsonschema:"default=5s,description=How often to look for new files when watching."`
	Settle      config.Duration `json:"settle,omitempty" jsonschema:"default=0s,description=Leave a file alone until it has not changed for so long; for writers that do not rename complete files into place."`
	Order       string          `json:"order,omitempty" jsonschema:"default=name,enum=name,enum=modified,description=The order of reading; files that are added later must sort after those that were read."`
	Compression string          `json:"compression,omitempty" jsonschema:"default=auto,enum=auto,enum=none,enum=gzip,enum=zstd,description=auto goes by the extension .gz or .zst."`
}

// Check returns an error that names an invalid field.
func (c *SourceConfig) Check() error {
	if c.Pattern == "" {
		c.Pattern = "**"
	}
	if !doublestar.ValidatePattern(c.Pattern) {
		return fmt.Errorf("config.pattern: %q is not a glob: %w", c.Pattern, backend.ErrInvalid)
	}
	if c.Interval <= 0 {
		c.Interval = config.Duration(5 * time.Second)
	}
	return nil
}

// Wants reports whether the file is to be read.
func (c *SourceConfig) Wants(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	ok, err := doublestar.Match(c.Pattern, name)
	return ok && err == nil
}

// SinkConfig holds what every sink of files has.
type SinkConfig struct {
	Prefix      string `json:"prefix,omitempty" jsonschema:"maxLength=512,description=What the files' names begin with; {date} and {hour} stand for the UTC time of a file's first record: events/{date}/."`
	Compression string `json:"compression,omitempty" jsonschema:"default=none,enum=none,enum=gzip,enum=zstd,description=Compression of whole files; not for parquet which compresses by itself."`
}

// Check returns an error that names an invalid field.
func (c *SinkConfig) Check() error {
	name := strings.NewReplacer("{date}", "d", "{hour}", "h").Replace(c.Prefix) + "x"
	if !CleanName(name) {
		return fmt.Errorf("config.prefix: %q leaves its directory: %w", c.Prefix, backend.ErrInvalid)
	}
	return nil
}

// CleanName reports whether a name stays below its root: relative, without . and .. parts.
func CleanName(name string) bool {
	return name != "" && path.Clean(name) == name && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\x00\\")
}

// decompress wraps r according to the extension or the config.
func decompress(r io.Reader, name, compression string) (io.ReadCloser, error) {
	if compression == "auto" || compression == "" {
		switch path.Ext(name) {
		case ".gz":
			compression = "gzip"
		case ".zst":
			compression = "zstd"
		}
	}
	below := &watched{r: r}
	switch compression {
	case "gzip":
		reader, err := gzip.NewReader(below)
		if err != nil {
			return nil, below.blame(err)
		}
		return &unpacked{ReadCloser: reader, below: below}, nil
	case "zstd":
		// One goroutine and a bounded window: a file cannot use more memory than this.
		decoder, err := zstd.NewReader(below, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, err
		}
		return &unpacked{ReadCloser: decoder.IOReadCloser(), below: below}, nil
	}
	return io.NopCloser(r), nil
}

// watched records whether reading itself failed, to distinguish a broken connection from damaged data.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// blame replaces a decompressor's error by its cause.
func (w *watched) blame(err error) error {
	if w.err != nil {
		return w.err
	}
	return fmt.Errorf("decompress: %w: %w", err, codec.ErrMalformed)
}

type unpacked struct {
	io.ReadCloser
	below *watched
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = u.below.blame(err)
	}
	return n, err
}

// Blocks reads a remote file in large pieces and caches the last ones, for formats with random access.
type Blocks struct {
	r     io.ReaderAt
	size  int64
	cache map[int64][]byte
	order []int64
}

const (
	blockBytes = 1 << 20
	blockCount = 32
)

// NewBlocks returns a reader of size bytes for one goroutine.
func NewBlocks(r io.ReaderAt, size int64) *Blocks {
	return &Blocks{r: r, size: size, cache: map[int64][]byte{}}
}

// ReadAt implements io.ReaderAt.
func (b *Blocks) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= b.size {
			return n, io.EOF
		}
		block, err := b.block(off / blockBytes)
		if err != nil {
			return n, err
		}
		copied := copy(p[n:], block[off%blockBytes:])
		n, off = n+copied, off+int64(copied)
	}
	return n, nil
}

func (b *Blocks) block(index int64) ([]byte, error) {
	if block, ok := b.cache[index]; ok {
		return block, nil
	}
	start := index * blockBytes
	block := make([]byte, min(blockBytes, b.size-start))
	if n, err := b.r.ReadAt(block, start); n < len(block) {
		return nil, fmt.Errorf("read at %d: %w", start, err)
	}
	if len(b.order) == blockCount {
		delete(b.cache, b.order[0])
		b.order = b.order[1:]
	}
	b.cache[index], b.order = block, append(b.order, index)
	return block, nil
}
