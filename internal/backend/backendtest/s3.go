// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// S3 runs the suite of s3.Store. open returns an empty bucket, or an empty prefix of one.
func S3(t *testing.T, open func(testing.TB) s3.Store) {
	for name, test := range map[string]func(*testing.T, s3.Store){
		"objects": s3Objects, "large": s3Large, "keys": s3Keys, "folders": s3Folders, "many": s3Many, "ended": s3Ended,
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			t.Cleanup(func() { Must(t, store.Close()) })
			test(t, store)
		})
	}
}

// holds fails unless the object exists with this content.
func holds(t testing.TB, store s3.Store, key string, want []byte) {
	t.Helper()
	got, err := store.Get(Context(t), key, int64(len(want)))
	Must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %d bytes, want the %d that were written", key, len(got), len(want))
	}
}

func lacks(t testing.TB, store s3.Store, key string) {
	t.Helper()
	_, err := store.Get(Context(t), key, 1<<20)
	WantIs(t, err, backend.ErrNotFound)
}

func s3Objects(t *testing.T, store s3.Store) {
	ctx := Context(t)
	if _, err := store.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	lacks(t, store, "a/b")
	data := []byte("first")
	Must(t, store.Put(ctx, "a/b", data))
	data[0] = 'x' // the store has its own copy
	holds(t, store, "a/b", []byte("first"))
	Must(t, store.Put(ctx, "a/b", []byte("second one")))
	holds(t, store, "a/b", []byte("second one"))
	Must(t, store.Put(ctx, "empty", nil))
	holds(t, store, "empty", nil)
	_, err := store.Get(ctx, "a/b", int64(len("second one"))-1)
	WantIs(t, err, backend.ErrInvalid)
	Must(t, store.Delete(ctx, "a/b", "a/missing", "empty"))
	lacks(t, store, "a/b")
	lacks(t, store, "empty")
	Must(t, store.Delete(ctx, "a/b"))
	Must(t, store.Delete(ctx))
}

// Larger than what a client sends in one part by default.
func s3Large(t *testing.T, store s3.Store) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	Must(t, store.Put(Context(t), "large/object", data))
	holds(t, store, "large/object", data)
}

func s3Keys(t *testing.T, store s3.Store) {
	ctx := Context(t)
	const odd = `run/step "a" & <b>+%2F ü~.json`
	Must(t, store.Put(ctx, odd, []byte("odd")))
	holds(t, store, odd, []byte("odd"))
	Must(t, store.Delete(ctx, odd))
	lacks(t, store, odd)
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/..", "./a"} {
		WantIs(t, store.Put(ctx, key, nil), backend.ErrInvalid)
		WantIs(t, store.Delete(ctx, "fine", key), backend.ErrInvalid)
		_, err := store.Get(ctx, key, 1)
		WantIs(t, err, backend.ErrInvalid)
		WantIs(t, store.DeleteFolder(ctx, key), backend.ErrInvalid)
	}
	WantIs(t, store.DeleteFolder(ctx, "a/b"), backend.ErrInvalid)
}

func s3Folders(t *testing.T, store s3.Store) {
	ctx := Context(t)
	folders := func(after string, limit int, more bool, want ...string) {
		t.Helper()
		names, others, err := store.Folders(ctx, after, limit)
		Must(t, err)
		if !slices.Equal(names, want) || others != more {
			t.Errorf("folders after %q, at most %d: %v, more %v; want %v, %v", after, limit, names, others, want, more)
		}
	}
	folders("", 10, false)
	for _, key := range []string{"beside", "a/1", "a/2", "a/deep/er", "a-b/1", "ab/1", "a0/1", "b/1"} {
		Must(t, store.Put(ctx, key, []byte(key)))
	}
	folders("", 10, false, "a-b", "a", "a0", "ab", "b") // in the order of "a-b/", "a/", …
	folders("", 2, true, "a-b", "a")
	folders("a", 2, true, "a0", "ab")
	folders("ab", 1, false, "b")
	folders("a1", 10, false, "ab", "b") // one that does not exist
	folders("b", 10, false)
	Must(t, store.DeleteFolder(ctx, "a"))
	Must(t, store.DeleteFolder(ctx, "missing"))
	folders("", 10, false, "a-b", "a0", "ab", "b")
	lacks(t, store, "a/deep/er")
	holds(t, store, "beside", []byte("beside"))
	holds(t, store, "ab/1", []byte("ab/1"))
}

// Listing and deleting takes more than one request.
func s3Many(t *testing.T, store s3.Store) {
	ctx := Context(t)
	keys := make([]string, 1010)
	var group errgroup.Group
	group.SetLimit(20)
	for i := range keys {
		keys[i] = fmt.Sprintf("f%04d/x", i)
		group.Go(func() error { return store.Put(ctx, keys[i], nil) })
		group.Go(func() error { return store.Put(ctx, fmt.Sprintf("one/%04d", i), nil) })
	}
	Must(t, group.Wait())
	found, after := 0, ""
	for more := true; more; {
		var names []string
		var err error
		names, more, err = store.Folders(ctx, after, 500)
		Must(t, err)
		found, after = found+len(names), names[len(names)-1]
	}
	if found != len(keys)+1 {
		t.Errorf("%d folders, want %d", found, len(keys)+1)
	}
	Must(t, store.Delete(ctx, keys...))
	Must(t, store.DeleteFolder(ctx, "one"))
	names, more, err := store.Folders(ctx, "", 10)
	Must(t, err)
	if len(names) > 0 || more {
		t.Errorf("left: %v", names)
	}
}

func s3Ended(t *testing.T, store s3.Store) {
	Must(t, store.Put(Context(t), "a/b", []byte("there")))
	for name, call := range map[string]func(context.Context) error{
		"Put":          func(ctx context.Context) error { return store.Put(ctx, "a/b", nil) },
		"Get":          func(ctx context.Context) error { _, err := store.Get(ctx, "a/b", 10); return err },
		"Delete":       func(ctx context.Context) error { return store.Delete(ctx, "a/b") },
		"DeleteFolder": func(ctx context.Context) error { return store.DeleteFolder(ctx, "a") },
		"Folders":      func(ctx context.Context) error { _, _, err := store.Folders(ctx, "", 1); return err },
		"Ping":         func(ctx context.Context) error { _, err := store.Ping(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) { Ended(t, call) })
	}
	holds(t, store, "a/b", []byte("there"))
}
