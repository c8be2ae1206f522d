// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/files"
)

// statePrefix is hidden, so that no source reads it as data.
const statePrefix = ".itechsmart/"

// pageSize is how many keys are listed at once.
const pageSize = 1000

// store is a bucket, or the part of it under a prefix.
type store struct {
	client  *minio.Client
	bucket  string
	prefix  string
	binding backend.Binding
}

func (s *store) error(op string, err error) error { return s3.Error(s.binding, op, err) }

func (s *store) List(ctx context.Context, after string) ([]files.Entry, bool, error) {
	listing, cancel := context.WithCancel(ctx)
	defer cancel() // ends the goroutine that fills the channel
	var out []files.Entry
	options := minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true, StartAfter: after, MaxKeys: pageSize}
	for object := range s.client.ListObjects(listing, s.bucket, options) {
		if object.Err != nil {
			return nil, false, s.error("list objects", object.Err)
		}
		if object.Key <= after || strings.HasSuffix(object.Key, "/") {
			continue // a store without start-after, and folders' markers
		}
		if len(out) == pageSize {
			return out, true, nil
		}
		out = append(out, files.Entry{Name: object.Key, Size: object.Size, Modified: object.LastModified.UTC()})
	}
	return out, false, ctx.Err()
}

func (s *store) Open(ctx context.Context, entry files.Entry) (files.File, error) {
	object, err := s.client.GetObject(ctx, s.bucket, entry.Name, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.error("read object", err)
	}
	if _, err := object.Stat(); err != nil { // the first request: GetObject itself sends none
		_ = object.Close()
		return nil, s.error("read object", err)
	}
	return &file{Object: object, store: s, blocks: files.NewBlocks(object, entry.Size)}, nil
}

// file reads a remote object: sequentially as a stream, at random in blocks.
type file struct {
	*minio.Object
	store  *store
	blocks *files.Blocks
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.Object.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.store.error("read object", err)
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) { return f.blocks.ReadAt(p, off) }

func (s *store) Put(ctx context.Context, name string, data []byte) error {
	// Above 16 MiB the client sends parts and completes them in one step: readers see all or nothing.
	_, err := s.client.PutObject(ctx, s.bucket, name, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{NumThreads: 2})
	if err != nil {
		return s.error("write object", err)
	}
	return nil
}

func stateKey(name string) string { return statePrefix + strings.ReplaceAll(name, "/", "_") }

func (s *store) LoadState(ctx context.Context, name string) ([]byte, error) {
	object, err := s.client.GetObject(ctx, s.bucket, stateKey(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.error("load the position", err)
	}
	defer object.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(object, 1<<20))
	if err == nil {
		return data, nil
	}
	if err = s.error("load the position", err); errors.Is(err, backend.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

func (s *store) SaveState(ctx context.Context, name string, data []byte) error {
	return s.Put(ctx, stateKey(name), data)
}

func (s *store) Close() error { return nil }
