// SPDX-License-Identifier: Apache-2.0

// Package payloads keeps values that are too large for the database in a bucket. The database holds a reference instead, which
// no user can write: a value that looks like one is refused wherever it comes in, and what is read has to lie in a folder of
// the run that reads it.
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

// Inline is the size in bytes of JSON up to which a value stays in the database although there is a bucket.
const Inline = 256 << 10

// Bucket stores large values, each in a folder that is named by a UUID of version 7. Errors wrap the sentinels of
// package backend.
type Bucket interface {
	Put(ctx context.Context, key string, data []byte) error
	// Get is backend.ErrNotFound for what is not there. It reads at most limit bytes.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)
	DeleteFolder(ctx context.Context, folder string) error
	// Folders is the names behind one, in order, and whether there are more.
	Folders(ctx context.Context, after string, limit int) (names []string, more bool, err error)
	// Ping reports whether it can be reached.
	Ping(ctx context.Context) (version string, err error)
	Close() error
}

// Open returns the bucket of a binding; nil without one.
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

// Again waits before the n-th repetition of what failed; false: do not repeat it. nil never repeats.
type Again func(ctx context.Context, n int) bool

// requestsAtOnce bounds the readers that answer requests: workers bound the steps that run, and nothing else bounds these.
const requestsAtOnce = 4

// Store keeps values. A nil one keeps none, and knows a reference when it sees one. It is safe for concurrent use.
type Store struct {
	bucket Bucket
	owner  func(context.Context) (string, error)
	log    *slog.Logger
	counts *counts
	gate   chan struct{} // holds one for each reader that does not wait for the bucket, and has read
	logged map[string]*rate.Sometimes
}

// New makes a store on a bucket; nil on none. owner is the id of the database whose values these are: others may have the same
// bucket, and theirs are left alone.
func New(bucket Bucket, owner func(context.Context) (string, error), log *slog.Logger) *Store {
	if bucket == nil {
		return nil
	}
	return &Store{
		bucket: bucket, owner: owner, log: log, counts: newCounts(), gate: make(chan struct{}, requestsAtOnce),
		logged: map[string]*rate.Sometimes{opRead: {Interval: logEvery}, opWrite: {Interval: logEvery}},
	}
}

// folder returns the name in the bucket of a folder of ours.
func (s *Store) folder(ctx context.Context, name string) (string, error) {
	owner, err := s.owner(ctx)
	return owner + "." + name, err
}

// NewFolder names a folder that nothing is in yet.
func NewFolder() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

// Large reports whether a value of so many bytes goes into the bucket.
func (s *Store) Large(bytes int) bool { return s != nil && bytes > Inline }

// Operations, as metrics and logs name them.
const (
	opWrite  = "write"
	opRead   = "read"
	opList   = "list"
	opDelete = "delete"
)

// Put keeps a value and gives its reference. Nothing is written over: each call makes an object of its own. An error wraps
// backend.ErrUnavailable, or the end of ctx.
func (s *Store) Put(ctx context.Context, folder, name string, data []byte, again Again) (json.RawMessage, error) {
	r := Ref{Key: folder + "/" + name + "-" + rand.Text(), Bytes: len(data), SHA256: sum(data)}
	err := s.insist(ctx, opWrite, again, func() error {
		key, err := s.folder(ctx, r.Key)
		if err != nil {
			return err
		}
		return s.bucket.Put(ctx, key, data)
	})
	if err != nil {
		return nil, away("object storage takes nothing", err)
	}
	s.counts.written.Add(float64(len(data)))
	return r.encode(), nil
}

// Drop deletes what was kept for nothing. The sweep does so, too, later.
func (s *Store) Drop(ctx context.Context, folder string) {
	name, err := s.folder(ctx, folder)
	if err == nil {
		err = s.bucket.DeleteFolder(ctx, name)
	}
	if err != nil {
		s.fail(ctx, opDelete, err)
	}
}

// away returns an error that passes, whatever the bucket says: that it takes neither our credentials nor our request is for its
// owner to heal, and no fault of the value.
func away(what string, err error) error {
	return fmt.Errorf("%s: %w: %s", what, backend.ErrUnavailable, err.Error())
}

// logEvery bounds the lines in the log about reads, and those about writes: a hundred steps may wait for the same.
const logEvery = time.Minute

// insist repeats what another try may heal.
func (s *Store) insist(ctx context.Context, op string, again Again, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || errors.Is(err, backend.ErrNotFound) && op == opRead {
			return err
		}
		s.counts.failed.WithLabelValues(op).Inc()
		s.logged[op].Do(func() { s.log.WarnContext(ctx, "object storage fails", "operation", op, "error", err) })
		if ctx.Err() != nil || again == nil || !again(ctx, n) {
			return err
		}
	}
}

func (s *Store) fail(ctx context.Context, op string, err error) {
	s.counts.failed.WithLabelValues(op).Inc()
	s.log.WarnContext(ctx, "object storage fails", "operation", op, "error", err)
}

func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
