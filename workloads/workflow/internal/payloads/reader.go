// SPDX-License-Identifier: Apache-2.0

package payloads

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Reader reads what one evaluation asks for, each value once. It is safe for concurrent use.
type Reader struct {
	store   *Store
	ctx     context.Context
	folders []string
	limit   int
	again   Again

	mu     sync.Mutex
	gated  bool
	bytes  int
	loaded map[string]any
}

// Reader reads values in some folders: one, or several that have at most limit bytes. It reads while ctx lasts. Without again it
// is one of a few, and is to be closed.
func (s *Store) Reader(ctx context.Context, folders []string, limit int, again Again) *Reader {
	return &Reader{store: s, ctx: ctx, folders: folders, limit: limit, again: again, loaded: map[string]any{}}
}

// Value is a value as it is kept: data, or a reference.
type Value struct {
	value any // when no reference is in it
	ref   *Ref
	list  []Value // when references are in a list
}

// Parse reads what is kept in a row of a run whose values are in the folders. In a list that was made of values as they are kept each
// may be a reference.
func Parse(data json.RawMessage, list bool, folders []string) (Value, error) {
	if len(data) == 0 {
		return Value{}, nil
	}
	ref, isRef, err := parse(data, folders)
	switch {
	case isRef && err == nil:
		return Value{ref: &ref}, nil
	case err != nil || !list || !bytes.Contains(data, prefix):
		return plain(data, err)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return plain(data, nil) // a step that was skipped has no list
	}
	v, some := Value{list: make([]Value, len(items))}, false
	for i, item := range items {
		if v.list[i], err = Parse(item, false, folders); err != nil {
			return Value{}, err
		}
		some = some || v.list[i].ref != nil
	}
	if !some {
		return plain(data, nil)
	}
	return v, nil
}

func plain(data json.RawMessage, err error) (Value, error) {
	if err != nil {
		return Value{}, err
	}
	value, err := definition.Decode(data)
	return Value{value: value}, err
}

// Open returns the value as expressions take it: itself, or what loads it.
func (r *Reader) Open(v Value) any {
	if v.ref == nil && v.list == nil {
		return v.value
	}
	return large{r, v}
}

// large implements definition.Large.
type large struct {
	reader *Reader
	value  Value
}

func (l large) Load() (any, error) {
	if l.value.ref != nil {
		return l.reader.load(*l.value.ref)
	}
	out := make([]any, len(l.value.list))
	for i, item := range l.value.list {
		out[i] = item.value
		if item.ref == nil {
			continue
		}
		var err error
		if out[i], err = l.reader.load(*item.ref); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return out, nil
}

func (r *Reader) load(ref Ref) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.loaded[ref.Key]; ok {
		return value, nil
	}
	data, err := r.fetch(ref)
	if err != nil {
		return nil, err
	}
	value, err := definition.Decode(data)
	if err != nil {
		return nil, err
	}
	r.loaded[ref.Key] = value
	return value, nil
}

func (r *Reader) fetch(ref Ref) (json.RawMessage, error) {
	if r.store == nil {
		return nil, without(r.ctx, r.again)
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	// One value is read whatever the bound: it was kept when that was another.
	if r.bytes > 0 && ref.Bytes > r.limit-r.bytes {
		return nil, fmt.Errorf("%w of %d bytes: read less of it, or raise maxOutputBytes", ErrTooMuch, r.limit)
	}
	data, err := r.store.get(r.ctx, ref, r.again)
	r.bytes += len(data)
	return data, err
}

// enter waits for its turn.
func (r *Reader) enter() error {
	if r.again != nil || r.gated {
		return nil
	}
	select {
	case r.store.gate <- struct{}{}:
		r.gated = true
		return nil
	case <-r.ctx.Done():
		return away("too many read from object storage", r.ctx.Err())
	}
}

// Close lets others read.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gated {
		r.gated = false
		<-r.store.gate
	}
}

// Whole returns what is kept in a row as it was before: references are what they stand for.
func (r *Reader) Whole(data json.RawMessage, list bool) (json.RawMessage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := Parse(data, list, r.folders)
	switch {
	case err != nil:
		return nil, err
	case v.ref != nil:
		return r.fetch(*v.ref)
	case v.list == nil:
		return data, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, errBroken
	}
	for i, item := range v.list {
		if item.ref == nil {
			continue
		}
		if items[i], err = r.fetch(*item.ref); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return json.Marshal(items)
}

var (
	// ErrTooMuch means that values have more bytes together than are read at a time.
	ErrTooMuch = errors.New("what is in object storage is more than the bound")
	// ErrSpoiled means that a value is not in the bucket as it was kept there. No repetition helps.
	ErrSpoiled = errors.New("what was kept in object storage")

	errAltered = fmt.Errorf("%w is not there as it was: it was altered", ErrSpoiled)
	errGone    = fmt.Errorf("%w is not there any more", ErrSpoiled)
	errNoStore = fmt.Errorf("the value is in object storage, and none is configured here: %w", backend.ErrUnavailable)
)

// longest limits how much of an object is read, so that a wrong length is detected.
const longest = 64 << 20

// get returns what a reference names. An error that does not wrap backend.ErrUnavailable is for good.
func (s *Store) get(ctx context.Context, ref Ref, again Again) ([]byte, error) {
	var data []byte
	err := s.insist(ctx, opRead, again, func() error {
		key, err := s.folder(ctx, ref.Key)
		if err == nil {
			data, err = s.bucket.Get(ctx, key, max(longest, int64(ref.Bytes)))
		}
		return err
	})
	switch {
	case errors.Is(err, backend.ErrNotFound):
		err = errGone
	case err != nil:
		return nil, away("object storage does not answer", err)
	case len(data) != ref.Bytes || sum(data) != ref.SHA256:
		err = errAltered
	}
	if err != nil {
		s.fail(ctx, opRead, err)
		return nil, err
	}
	s.counts.read.Add(float64(len(data)))
	return data, nil
}

// without returns the error that there is no bucket: this process has an older configuration than the one that wrote, and ends soon.
func without(ctx context.Context, again Again) error {
	for n := 0; again != nil && again(ctx, n); n++ {
	}
	return errNoStore
}
