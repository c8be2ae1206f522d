// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is an in-memory bucket. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	mu      sync.Mutex
	objects map[string][]byte
}

var _ Store = (*Fake)(nil)

// NewFake returns an empty bucket.
func NewFake() *Fake { return &Fake{objects: map[string][]byte{}} }

// Put implements Store.
func (f *Fake) Put(ctx context.Context, key string, data []byte) error {
	if err := f.enter(ctx, "Put", checkKey, key); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[key] = bytes.Clone(data)
	return nil
}

// Get implements Store.
func (f *Fake) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if err := f.enter(ctx, "Get", checkKey, key); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.objects[key]
	switch {
	case !ok:
		return nil, fmt.Errorf("read object: %w", backend.ErrNotFound)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("read object: %w", tooLarge(limit))
	}
	return bytes.Clone(data), nil
}

// Delete implements Store.
func (f *Fake) Delete(ctx context.Context, keys ...string) error {
	if err := f.enter(ctx, "Delete", checkKey, keys...); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		delete(f.objects, key)
	}
	return nil
}

// DeleteFolder implements Store.
func (f *Fake) DeleteFolder(ctx context.Context, folder string) error {
	if err := f.enter(ctx, "DeleteFolder", checkFolder, folder); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.objects {
		if strings.HasPrefix(key, folder+"/") {
			delete(f.objects, key)
		}
	}
	return nil
}

// Folders implements Store.
func (f *Fake) Folders(ctx context.Context, after string, limit int) ([]string, bool, error) {
	if err := f.enter(ctx, "Folders", nil); err != nil {
		return nil, false, err
	}
	var names []string
	for _, key := range f.Keys() {
		name, _, folder := strings.Cut(key, "/")
		if !folder || after != "" && name+"/" <= after+"/" || slices.Contains(names, name) {
			continue
		}
		if len(names) == limit {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, nil
}

// Ping implements Store.
func (f *Fake) Ping(ctx context.Context) (string, error) { return "", f.enter(ctx, "Ping", nil) }

// Close implements Store.
func (f *Fake) Close() error { return f.enter(context.Background(), "Close", nil) }

// Keys returns all keys, in order.
func (f *Fake) Keys() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := make([]string, 0, len(f.objects))
	for key := range f.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (f *Fake) enter(ctx context.Context, method string, check func(string) error, names ...string) error {
	if err := f.Enter(ctx, method); err != nil {
		return err
	}
	for _, name := range names {
		if err := check(name); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
	}
	return nil
}
