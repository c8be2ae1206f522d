// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// epoch is the time of every file in every image.
var epoch = time.Unix(1735689600, 0).UTC() // 2025-01-01

// layer is a gzip'd tar in a file, with its digests computed while it was written.
type layer struct {
	file           string
	digest, diffID v1.Hash
	size           int64
}

func (l *layer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *layer) Size() (int64, error)                { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return os.Open(l.file) }
func (l *layer) Uncompressed() (_ io.ReadCloser, e error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e != nil {
			_ = f.Close()
		}
	}()
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

// layerWriter writes a layer whose bytes depend only on its entries and their order, not on time, owner names or the file
// system's order.
type layerWriter struct {
	file *os.File
	buf  *bufio.Writer
	gz   *gzip.Writer
	tar  *tar.Writer
	diff hash.Hash // of the tar
	sum  hash.Hash // of the gzip'd tar
	dirs map[string]bool
}

func newLayer(dir string) (*layerWriter, error) {
	f, err := os.CreateTemp(dir, "layer-*.tar.gz")
	if err != nil {
		return nil, err
	}
	w := &layerWriter{file: f, diff: sha256.New(), sum: sha256.New(), dirs: map[string]bool{"": true}}
	w.buf = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 1<<20)
	// Fast: layers are loaded on this machine, not sent over a network.
	if w.gz, err = gzip.NewWriterLevel(w.buf, gzip.BestSpeed); err != nil {
		return nil, err
	}
	w.tar = tar.NewWriter(io.MultiWriter(w.gz, w.diff))
	return w, nil
}

// clean returns a path as stored in a layer: without a leading slash, "" for the root.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	return name
}

// entry writes one file, directory or link; content is as long as h.Size. Missing parents are added.
func (w *layerWriter) entry(h tar.Header, content io.Reader) error {
	name := clean(h.Name)
	if name == "" {
		return nil
	}
	if err := w.parents(path.Dir(name), h.ModTime); err != nil {
		return err
	}
	out := tar.Header{Name: name, Linkname: h.Linkname, Typeflag: h.Typeflag, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Size: h.Size, ModTime: epoch, Format: tar.FormatPAX}
	switch h.Typeflag {
	case tar.TypeDir:
		if w.dirs[name] {
			return nil
		}
		w.dirs[name] = true
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = clean(h.Linkname)
	case tar.TypeReg, tar.TypeSymlink:
	default:
		return fmt.Errorf("%s: a file of type %q is not supported in an image", name, h.Typeflag)
	}
	if err := w.tar.WriteHeader(&out); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	_, err := io.CopyN(w.tar, content, h.Size)
	return err
}

func (w *layerWriter) parents(dir string, modified time.Time) error {
	if dir == "." || w.dirs[dir] {
		return nil
	}
	return w.entry(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: modified}, nil)
}

// dir adds a directory.
func (w *layerWriter) dir(name string, mode int64, owner int) error {
	return w.entry(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: owner, Gid: owner}, nil)
}

// link adds a symbolic link.
func (w *layerWriter) link(name, target string) error {
	return w.entry(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil)
}

// bytes adds a file.
func (w *layerWriter) bytes(name string, mode int64, content []byte) error {
	return w.entry(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))}, strings.NewReader(string(content)))
}

// copy adds a file of this machine.
func (w *layerWriter) copy(name string, mode int64, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return w.entry(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: info.Size()}, f)
}

// close finishes the layer.
func (w *layerWriter) close() (*layer, error) {
	err := errors.Join(w.tar.Close(), w.gz.Close(), w.buf.Flush())
	info, statErr := w.file.Stat()
	if err = errors.Join(err, statErr, w.file.Close()); err != nil {
		w.abort()
		return nil, err
	}
	return &layer{file: w.file.Name(), digest: digest(w.sum), diffID: digest(w.diff), size: info.Size()}, nil
}

// abort discards the layer.
func (w *layerWriter) abort() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

func digest(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// fileHash returns the SHA-256 of a file in hex.
func fileHash(file string) (string, error) {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
