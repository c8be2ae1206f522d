// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is an in-memory Vault of one namespace. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Changed is called, without locks, after a new version was stored, where the service annotates its resource; may be
	// nil.
	Changed func(path string, version int64)

	namespace string
	mu        sync.Mutex
	secrets   map[string]*fakeSecret
	mac       []byte
	keys      int // number of root keys
	sealed    bool
}

type fakeSecret struct {
	typ        string
	created    time.Time
	versions   []fakeVersion // from version 1
	keyID      string
	sourceHash string
	rotation   string
	generate   *Generate
	issue      *Issue
}

type fakeVersion struct {
	Version
	value Value // nil: destroyed
}

var _ Client = (*Fake)(nil)

// NewFake returns the Vault of a namespace, unsealed and empty.
func NewFake(namespace string) *Fake {
	return &Fake{namespace: namespace, secrets: map[string]*fakeSecret{}, mac: []byte(rand.Text()), keys: 1}
}

func (f *Fake) now() time.Time {
	if f.Now != nil {
		return f.Now().UTC()
	}
	return time.Now().UTC()
}

func (f *Fake) keyID() string { return fmt.Sprintf("root-%d", f.keys) }

// enter counts the call, and refuses what the service refuses in every request.
func (f *Fake) enter(ctx context.Context, method, path string) error {
	if err := f.Enter(ctx, method); err != nil {
		return err
	}
	return ValidPath(path)
}

func missing(what string) error { return fmt.Errorf("vault: %s: %w", what, backend.ErrNotFound) }

// find returns a secret; the caller holds the lock.
func (f *Fake) find(path string) (*fakeSecret, error) {
	if found := f.secrets[path]; found != nil {
		return found, nil
	}
	return nil, missing("secret " + path)
}

// version returns a version of a secret, 0 for the newest that is neither deleted nor destroyed; the caller holds the
// lock.
func (f *Fake) version(path string, number int64) (*fakeSecret, *fakeVersion, error) {
	found, err := f.find(path)
	if err != nil {
		return nil, nil, err
	}
	if number == 0 {
		number = int64(len(found.versions))
	}
	if number < 1 || number > int64(len(found.versions)) {
		return nil, nil, missing(fmt.Sprintf("version %d of %s", number, path))
	}
	return found, &found.versions[number-1], nil
}

func (f *Fake) describe(path string, s *fakeSecret) Secret {
	newest := s.versions[len(s.versions)-1]
	return Secret{
		Namespace: f.namespace, Path: path, Type: s.typ, Version: newest.Version.Version, Versions: int64(len(s.versions)),
		Metadata: maps.Clone(newest.Metadata), CreatedAt: s.created, UpdatedAt: newest.CreatedAt, ExpiresAt: newest.ExpiresAt, KeyID: s.keyID,
		KeyStale: s.keyID != f.keyID(), State: newest.State, Size: newest.Size,
	}
}

// add stores a version; the caller holds the lock and calls the returned function without it.
func (f *Fake) add(path, typ string, value Value, metadata map[string]string, expires *time.Time, by string) (*fakeSecret, func(), error) {
	if f.sealed {
		return nil, nil, fmt.Errorf("vault: store %s: %w", path, ErrSealed)
	}
	found := f.secrets[path]
	if found != nil && found.typ != typ {
		return nil, nil, fmt.Errorf("vault: %s is of type %s, not %s: %w", path, found.typ, typ, backend.ErrInvalid)
	}
	certified, err := validate(typ, value)
	if err != nil {
		return nil, nil, err
	}
	if expires == nil {
		expires = certified
	}
	if found == nil {
		found = &fakeSecret{typ: typ, created: f.now()}
		f.secrets[path] = found
	}
	number := int64(len(found.versions)) + 1
	found.keyID = f.keyID()
	found.versions = append(found.versions, fakeVersion{
		Version: Version{Version: number, CreatedAt: f.now(), CreatedBy: by, ExpiresAt: expires, State: StateLive, Metadata: maps.Clone(metadata), KeyID: found.keyID},
		value:   cloneValue(value),
	})
	return found, func() {
		if f.Changed != nil {
			f.Changed(path, number)
		}
	}, nil
}

func cloneValue(v Value) Value {
	out := make(Value, len(v))
	for key, data := range v {
		out[key] = slices.Clone(data)
	}
	return out
}

// Secret implements Client.
func (f *Fake) Secret(ctx context.Context, path string) (Secret, error) {
	if err := f.enter(ctx, "Secret", path); err != nil {
		return Secret{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := f.find(path)
	if err != nil {
		return Secret{}, err
	}
	return f.describe(path, found), nil
}

// Secrets implements Client.
func (f *Fake) Secrets(ctx context.Context, list List) (Page[Secret], error) {
	if err := f.Enter(ctx, "Secrets"); err != nil {
		return Page[Secret]{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := list.Limit
	if limit <= 0 {
		limit = 100
	}
	var out Page[Secret]
	for _, path := range slices.Sorted(maps.Keys(f.secrets)) {
		found := f.secrets[path]
		if !strings.HasPrefix(path, list.Prefix) || (list.Type != "" && found.typ != list.Type) || path <= list.Cursor {
			continue
		}
		if len(out.Items) == limit {
			out.Next = out.Items[limit-1].Path
			break
		}
		out.Items = append(out.Items, f.describe(path, found))
	}
	return out, nil
}

// Read implements Client.
func (f *Fake) Read(ctx context.Context, path string, version int64) (Read, error) {
	if err := f.enter(ctx, "Read", path); err != nil {
		return Read{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sealed {
		return Read{}, fmt.Errorf("vault: read %s: %w", path, ErrSealed)
	}
	found, v, err := f.version(path, version)
	if err != nil {
		return Read{}, err
	}
	if v.State != StateLive {
		return Read{}, missing(fmt.Sprintf("version %d of %s is %s", v.Version.Version, path, v.State))
	}
	if v.Size > 0 {
		return Read{}, fmt.Errorf("vault: read %s: %w", path, ErrStreamed)
	}
	return Read{Version: v.Version, Type: found.typ, Value: cloneValue(v.value)}, nil
}

// Versions implements Client.
func (f *Fake) Versions(ctx context.Context, path, _ string) (Page[Version], error) {
	if err := f.enter(ctx, "Versions", path); err != nil {
		return Page[Version]{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := f.find(path)
	if err != nil {
		return Page[Version]{}, err
	}
	var out Page[Version]
	for i := range found.versions {
		out.Items = append(out.Items, found.versions[len(found.versions)-1-i].Version)
	}
	return out, nil
}

// Diff implements Client.
func (f *Fake) Diff(ctx context.Context, path string, from, to int64) ([]FieldDiff, error) {
	if err := f.enter(ctx, "Diff", path); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, a, err := f.version(path, from)
	if err != nil {
		return nil, err
	}
	_, b, err := f.version(path, to)
	if err != nil {
		return nil, err
	}
	if a.State != StateLive || b.State != StateLive {
		return nil, missing("a deleted version")
	}
	fields := map[string]bool{}
	for _, v := range []Value{a.value, b.value} {
		for field := range v {
			fields[field] = true
		}
	}
	var out []FieldDiff
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, f.compare(field, a.value, b.value))
	}
	return out, nil
}

func (f *Fake) compare(field string, a, b Value) FieldDiff {
	out := FieldDiff{Field: field, Change: "changed"}
	before, had := a[field]
	after, has := b[field]
	if had {
		out.From = f.macOf(field, before)
	}
	if has {
		out.To = f.macOf(field, after)
	}
	switch {
	case !had:
		out.Change = "added"
	case !has:
		out.Change = "removed"
	case out.From == out.To:
		out.Change = "same"
	}
	return out
}

func (f *Fake) macOf(field string, data []byte) string {
	sum := hmac.New(sha256.New, f.mac)
	sum.Write([]byte(field + "\x00"))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}
