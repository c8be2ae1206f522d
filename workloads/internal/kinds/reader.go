// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"log/slog"
	"reflect"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reader calls a function that reads the resources of some kinds after each of their changes.
type Reader struct {
	store *Store
	log   *slog.Logger
	read  func(context.Context) error

	mu   sync.Mutex // one call at a time
	once sync.Once
	seen chan struct{} // closed after the first call that succeeded
}

// NewReader returns a Reader of a store that calls read, one call at a time.
func NewReader(store *Store, log *slog.Logger, read func(context.Context) error) *Reader {
	return &Reader{store: store, log: log, read: read, seen: make(chan struct{})}
}

// Run reads once as soon as the store is synced, and after each change of the kinds, one empty object each, until ctx ends.
func (r *Reader) Run(ctx context.Context, objects ...client.Object) error {
	for _, object := range objects {
		if r.store == nil {
			break
		}
		if err := r.store.onChange(ctx, reflect.TypeOf(object), func() { r.Read(ctx) }); err != nil {
			return err
		}
	}
	if r.store == nil || r.store.WaitSynced(ctx) == nil {
		r.Read(ctx) // there may be no resource, and so no event
	}
	<-ctx.Done()
	return nil
}

// Read reads now; it does nothing before the store is synced.
func (r *Reader) Read(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.store.Synced() {
		return
	}
	if err := r.read(ctx); err != nil {
		if ctx.Err() == nil {
			r.log.Error("read the resources", "error", err)
		}
		return
	}
	r.once.Do(func() { close(r.seen) })
}

// WaitSeen waits for the first read; it returns false if ctx ends before.
func (r *Reader) WaitSeen(ctx context.Context) bool {
	select {
	case <-r.seen:
		return true
	case <-ctx.Done():
		return false
	}
}
