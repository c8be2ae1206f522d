// SPDX-License-Identifier: Apache-2.0

// Package s3 connects to object stores that speak the protocol of Amazon S3.
package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/itechsmart/operator/internal/backend"
)

// Store holds objects by key in a bucket, or below a prefix of it. A key's first segment is its folder. Methods
// wrap sentinels of package backend. Safe for concurrent use.
type Store interface {
	// Put writes or replaces an object, atomically.
	Put(ctx context.Context, key string, data []byte) error
	// Get reads an object. ErrNotFound refers only to the object: a missing bucket, which may be restored, is
	// ErrUnavailable. ErrInvalid, and nothing read, if it has more than limit bytes.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)
	// Delete removes objects; missing ones count as deleted.
	Delete(ctx context.Context, keys ...string) error
	// DeleteFolder removes all objects of a folder; a missing one counts as deleted.
	DeleteFolder(ctx context.Context, folder string) error
	// Folders returns the names of at most limit folders after the given one, in the order of their keys; more
	// reports whether there are others.
	Folders(ctx context.Context, after string, limit int) (names []string, more bool, err error)
	// Ping checks that the bucket exists and can be listed. The protocol has no version: it is empty.
	Ping(ctx context.Context) (version string, err error)
	// Close releases the connections.
	Close() error
}

// Keys of a binding, besides those of every system.
const (
	KeyBucket    = "bucket"
	KeyPrefix    = "prefix"
	KeyRegion    = "region"
	KeyAccessKey = "access-key"
	KeySecretKey = "secret-key"
)

const (
	// callTimeout limits a call, whatever its context: a store that sends byte after byte must not block a
	// caller forever.
	callTimeout = 2 * time.Minute
	// batch is how many keys the protocol lists, or deletes, in one request.
	batch = 1000
)

// Bucket is the real Store.
type Bucket struct {
	binding      backend.Binding
	client       *minio.Client
	transport    *http.Transport
	name, prefix string // the prefix ends in a slash, or is empty
}

var _ Store = (*Bucket)(nil)

// Open returns the bucket of the binding's key bucket, below the key prefix, without connecting yet. ErrInvalid
// names the missing or invalid key.
func Open(b backend.Binding) (*Bucket, error) {
	if err := b.Require(KeyBucket); err != nil {
		return nil, err
	}
	name, prefix := b.Extra[KeyBucket], b.Extra[KeyPrefix]
	if err := s3utils.CheckValidBucketName(name); err != nil {
		return nil, fmt.Errorf("binding key %q: %w: %w", KeyBucket, backend.ErrInvalid, err)
	}
	if prefix != "" {
		prefix = strings.TrimSuffix(prefix, "/") + "/"
		if err := checkKey(prefix + "x"); err != nil {
			return nil, fmt.Errorf("binding key %q: %w", KeyPrefix, err)
		}
	}
	client, transport, err := dial(b)
	if err != nil {
		return nil, err
	}
	return &Bucket{binding: b, client: client, transport: transport, name: name, prefix: prefix}, nil
}

// checkKey refuses keys that some stores treat as another key.
func checkKey(key string) error {
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("a key is segments with one slash between them, none of which is %q, %q or empty: %w", ".", "..", backend.ErrInvalid)
		}
	}
	return nil
}

// checkFolder limits the deletion of a folder to a single one.
func checkFolder(folder string) error {
	if strings.Contains(folder, "/") {
		return fmt.Errorf("a folder is one segment: %w", backend.ErrInvalid)
	}
	return checkKey(folder)
}

func (b *Bucket) error(op string, err error) error { return Error(b.binding, op, err) }

// Put implements Store.
func (b *Bucket) Put(ctx context.Context, key string, data []byte) error {
	if err := checkKey(key); err != nil {
		return b.error("write object", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// One request: incomplete multipart uploads would stay in the bucket, and cost.
	options := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true}
	options.DisableContentSha256 = len(data) == 0 // otherwise it has no Content-Length, which some stores require
	_, err := b.client.PutObject(ctx, b.name, b.prefix+key, bytes.NewReader(data), int64(len(data)), options)
	return b.error("write object", err)
}

// Get implements Store.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	const op = "read object"
	if err := checkKey(key); err != nil {
		return nil, b.error(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The plain request: minio's own reader requests the size first.
	body, info, _, err := minio.Core{Client: b.client}.GetObject(ctx, b.name, b.prefix+key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchBucket {
		return nil, b.binding.Error("s3: "+op, backend.ErrUnavailable, err)
	}
	if err != nil {
		return nil, b.error(op, err)
	}
	defer body.Close() //nolint:errcheck // only read
	var data bytes.Buffer
	size := info.Size // negative: the store does not report it
	if size <= limit {
		data.Grow(int(max(size, 0)) + bytes.MinRead)
		if size, err = data.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
			return nil, b.error(op, err)
		}
	}
	if size > limit {
		return nil, b.error(op, tooLarge(limit))
	}
	return data.Bytes(), nil
}

func tooLarge(limit int64) error {
	return fmt.Errorf("it has more than %d bytes: %w", limit, backend.ErrInvalid)
}

// Delete implements Store.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return b.error("delete objects", err)
		}
	}
	return b.remove(ctx, "delete objects", func(yield func(string, error) bool) {
		for _, key := range keys {
			if !yield(b.prefix+key, nil) {
				return
			}
		}
	})
}

// DeleteFolder implements Store.
func (b *Bucket) DeleteFolder(ctx context.Context, folder string) error {
	if err := checkFolder(folder); err != nil {
		return b.error("delete folder", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := minio.ListObjectsOptions{Prefix: b.prefix + folder + "/", Recursive: true, MaxKeys: batch}
	return b.remove(ctx, "delete folder", func(yield func(string, error) bool) {
		for object := range b.client.ListObjectsIter(ctx, b.name, options) {
			if !yield(object.Key, object.Err) {
				return
			}
		}
	})
}

// remove deletes whole keys in batches; it stops at the first failure.
func (b *Bucket) remove(ctx context.Context, op string, keys iter.Seq2[string, error]) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var failed error
	objects := func(yield func(minio.ObjectInfo) bool) {
		for key, err := range keys {
			if err != nil {
				failed = err
				return
			}
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}
	results, err := b.client.RemoveObjectsWithIter(ctx, b.name, objects, minio.RemoveObjectsOptions{})
	if err != nil {
		return b.error(op, err)
	}
	for result := range results {
		if result.Err != nil && minio.ToErrorResponse(result.Err).Code != minio.NoSuchKey {
			return b.error(op, result.Err)
		}
	}
	if failed == nil {
		failed = ctx.Err() // minio's iterators end without an error when the context has ended
	}
	return b.error(op, failed)
}

// Folders implements Store.
func (b *Bucket) Folders(ctx context.Context, after string, limit int) ([]string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: batch}
	if after != "" {
		// The byte after the slash: after all of that folder, before the next one.
		options.StartAfter = b.prefix + after + string('/'+1)
	}
	var names []string
	for object := range b.client.ListObjectsIter(ctx, b.name, options) {
		if object.Err != nil {
			return nil, false, b.error("list folders", object.Err)
		}
		name, folder := strings.CutSuffix(strings.TrimPrefix(object.Key, b.prefix), "/")
		if !folder || name == "" || after != "" && name+"/" <= after+"/" {
			continue // an object outside folders, a folder's marker, or a store without start-after
		}
		if len(names) == limit {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, b.error("list folders", ctx.Err())
}

// Ping implements Store.
func (b *Bucket) Ping(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := error(nil)
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: 1}) {
		err = object.Err
		break
	}
	if err == nil {
		err = ctx.Err()
	}
	return "", b.error(fmt.Sprintf("list bucket %q", b.name), err)
}

// Close implements Store.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}
