// SPDX-License-Identifier: Apache-2.0

// Package payloads stores values that are too large for the database in a bucket. The database holds a reference instead. Users
// cannot write references: a value that looks like one is rejected wherever it comes in, and a run can only read from its own
// folders.
package payloads

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// Inline is the largest size, in bytes of JSON, of a value that stays in the database if there is a bucket.
const Inline = 256 << 10

// Bucket stores large values, each in a folder whose name is a UUID of version 7. Errors wrap the sentinel errors of package
// backend.
type Bucket interface {
	Put(ctx context.Context, key string, data []byte) error
	// Get returns at most limit bytes of an object, or backend.ErrNotFound.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)
	DeleteFolder(ctx context.Context, folder string) error
	// Folders returns names after the given one, in order, and reports whether there are more.
	Folders(ctx context.Context, after string, limit int) (names []string, more bool, err error)
	// Ping reports whether the bucket is reachable.
	Ping(ctx context.Context) (version string, err error)
	Close() error
}

// Open returns the bucket of a binding, or nil without a binding.
func Open(binding map[string]string) (Bucket, error) {
	if len(binding) == 0 {
		return nil, nil
	}
	bucket, err := s3.Open(backend.ParseBinding(binding))
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	return bucket, nil
}

// Again waits before the n-th retry of a request. It returns false to stop retrying. A nil Again never retries.
type Again func(ctx context.Context, n int) bool

// requestsAtOnce bounds the concurrent readers of API requests. Those of steps are bounded by the workers' slots.
const requestsAtOnce = 4

// Store stores values. A nil Store stores none, but recognizes references. It is safe for concurrent use.
type Store struct {
	bucket Bucket
	owner  func(context.Context) (string, error)
	log    *slog.Logger
	counts *counts
	gate   chan struct{} // holds one for each active reader of an API request
	logged map[string]*rate.Sometimes
}

// New returns a store on a bucket, or nil without a bucket. Owner returns the id of the database: other databases may use the same
// bucket, and the store does not touch their values.
func New(bucket Bucket, owner func(context.Context) (string, error), log *slog.Logger) *Store {
	if bucket == nil {
		return nil
	}
	return &Store{
		bucket: bucket, owner: owner, log: log, counts: newCounts(), gate: make(chan struct{}, requestsAtOnce),
		logged: map[string]*rate.Sometimes{opRead: {Interval: logEvery}, opWrite: {Interval: logEvery}},
	}
}

// folder returns the name in the bucket of one of our folders.
func (s *Store) folder(ctx context.Context, name string) (string, error) {
	owner, err := s.owner(ctx)
	return owner + "." + name, err
}

// NewFolder returns the name of a new folder.
func NewFolder() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

// Large reports whether a value of the given size goes into the bucket.
func (s *Store) Large(bytes int) bool { return s != nil && bytes > Inline }

// Operations in metrics and logs.
const (
	opWrite  = "write"
	opRead   = "read"
	opList   = "list"
	opDelete = "delete"
)

// Put stores a value and returns its reference. It never overwrites: each call creates a new object. Errors wrap
// backend.ErrUnavailable.
func (s *Store) Put(ctx context.Context, folder, name string, data []byte, again Again) (json.RawMessage, error) {
	r := Ref{Key: folder + "/" + name + "-" + rand.Text(), Bytes: len(data), SHA256: sum(data)}
	err := s.retry(ctx, opWrite, again, func() error {
		key, err := s.folder(ctx, r.Key)
		if err != nil {
			return err
		}
		return s.bucket.Put(ctx, key, data)
	})
	if err != nil {
		return nil, unavailable("write to object storage", err)
	}
	s.counts.written.Add(float64(len(data)))
	return r.encode(), nil
}

// Drop deletes a folder that is not needed. Otherwise the sweep would delete it later.
func (s *Store) Drop(ctx context.Context, folder string) {
	name, err := s.folder(ctx, folder)
	if err == nil {
		err = s.bucket.DeleteFolder(ctx, name)
	}
	if err != nil {
		s.fail(ctx, opDelete, err)
	}
}

// unavailable returns a temporary error for any error of the bucket: even rejected credentials are for its owner to fix, and not a
// fault of the value.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %s", what, backend.ErrUnavailable, err.Error())
}

// logEvery is the interval between log lines about reads, and between those about writes: a hundred steps may fail for the same
// reason.
const logEvery = time.Minute

// retry calls try, and again after temporary errors.
func (s *Store) retry(ctx context.Context, op string, again Again, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || errors.Is(err, backend.ErrNotFound) && op == opRead {
			return err
		}
		s.counts.failed.WithLabelValues(op).Inc()
		s.logged[op].Do(func() { s.log.WarnContext(ctx, "a request to object storage failed", "operation", op, "error", err) })
		if ctx.Err() != nil || again == nil || !again(ctx, n) {
			return err
		}
	}
}

func (s *Store) fail(ctx context.Context, op string, err error) {
	s.counts.failed.WithLabelValues(op).Inc()
	s.log.WarnContext(ctx, "a request to object storage failed", "operation", op, "error", err)
}

func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
