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

// Reader reads the values that one evaluation uses, each once. It is safe for concurrent use.
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

// Reader returns a reader of values in the given folders. It reads one value of any size, or several with at most limit bytes
// together, until ctx is done. Without again, few readers can be active at a time, and the reader must be closed.
func (s *Store) Reader(ctx context.Context, folders []string, limit int, again Again) *Reader {
	return &Reader{store: s, ctx: ctx, folders: folders, limit: limit, again: again, loaded: map[string]any{}}
}

// Value is a stored value: data or a reference.
type Value struct {
	value any // without references
	ref   *Ref
	list  []Value // a list with references
}

// Parse parses the stored value of a run whose objects are in the given folders. With list, the elements of a list of stored values
// may be references.
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
		return plain(data, nil) // a skipped step has no list
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

// Open returns the value for expressions: the data, or a definition.Large that loads it.
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
		return nil, waitForStore(r.ctx, r.again)
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	// One value is read whatever its size: the limit may have been higher when it was stored.
	if r.bytes > 0 && ref.Bytes > r.limit-r.bytes {
		return nil, fmt.Errorf("%w of %d bytes: use less of it, or raise maxOutputBytes", ErrTooMuch, r.limit)
	}
	data, err := r.store.get(r.ctx, ref, r.again)
	r.bytes += len(data)
	return data, err
}

// enter waits until the reader may be active.
func (r *Reader) enter() error {
	if r.again != nil || r.gated {
		return nil
	}
	select {
	case r.store.gate <- struct{}{}:
		r.gated = true
		return nil
	case <-r.ctx.Done():
		return unavailable("too many concurrent reads from object storage", r.ctx.Err())
	}
}

// Close lets other readers become active.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gated {
		r.gated = false
		<-r.store.gate
	}
}

// Whole returns a stored value with its references replaced by the values that they refer to.
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
	// ErrTooMuch means that the values are larger, together, than what may be read at a time.
	ErrTooMuch = errors.New("the values in object storage are larger than the limit")
	// ErrSpoiled means that a value in the bucket was deleted or modified. A retry does not help.
	ErrSpoiled = errors.New("a value in object storage")

	errAltered = fmt.Errorf("%w was modified", ErrSpoiled)
	errGone    = fmt.Errorf("%w was deleted", ErrSpoiled)
	errNoStore = fmt.Errorf("the value is in object storage, which is not configured here: %w", backend.ErrUnavailable)
)

// maxRead bounds how much of an object is read, so that a wrong length is detected.
const maxRead = 64 << 20

// get returns the value of a reference. An error that does not wrap backend.ErrUnavailable is permanent.
func (s *Store) get(ctx context.Context, ref Ref, again Again) ([]byte, error) {
	var data []byte
	err := s.retry(ctx, opRead, again, func() error {
		key, err := s.folder(ctx, ref.Key)
		if err == nil {
			data, err = s.bucket.Get(ctx, key, max(maxRead, int64(ref.Bytes)))
		}
		return err
	})
	switch {
	case errors.Is(err, backend.ErrNotFound):
		err = errGone
	case err != nil:
		return nil, unavailable("read from object storage", err)
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

// waitForStore retries, and then returns errNoStore. This process has an older configuration than the writer of the value, and will
// be replaced soon.
func waitForStore(ctx context.Context, again Again) error {
	for n := 0; again != nil && again(ctx, n); n++ {
	}
	return errNoStore
}
