// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// fakeController is the author of applied versions.
const fakeController = "controller"

// Apply implements Client.
func (f *Fake) Apply(ctx context.Context, path string, declared Apply) (Applied, error) {
	if err := f.enter(ctx, "Apply", path); err != nil {
		return Applied{}, err
	}
	f.mu.Lock()
	applied, notify, err := f.apply(path, declared)
	f.mu.Unlock()
	if err == nil && applied.Changed {
		notify()
	}
	return applied, err
}

func (f *Fake) apply(path string, declared Apply) (Applied, func(), error) {
	if f.sealed {
		return Applied{}, nil, fmt.Errorf("vault: apply %s: %w", path, ErrSealed)
	}
	if declared.Name == "" || declared.SourceHash == "" {
		return Applied{}, nil, fmt.Errorf("vault: apply %s: name and sourceHash are needed: %w", path, backend.ErrInvalid)
	}
	found := f.secrets[path]
	if found != nil && found.sourceHash == declared.SourceHash && (declared.Rotation == "" || declared.Rotation == found.rotation) {
		return Applied{Secret: f.describe(path, found)}, nil, nil
	}
	value, expires, err := f.valueOf(declared)
	if err != nil {
		return Applied{}, nil, err
	}
	stored, notify, err := f.add(path, declared.Type, value, declared.Metadata, expires, fakeController)
	if err != nil {
		return Applied{}, nil, err
	}
	stored.sourceHash, stored.generate, stored.issue = declared.SourceHash, declared.Generate, declared.Issue
	if declared.Rotation != "" {
		stored.rotation = declared.Rotation
	}
	return Applied{Secret: f.describe(path, stored), Changed: true}, notify, nil
}

// valueOf returns the value of a declaration: from exactly one of its sources.
func (f *Fake) valueOf(declared Apply) (Value, *time.Time, error) {
	given := 0
	for _, is := range []bool{declared.Sealed != "", len(declared.Value) > 0, declared.Generate != nil, declared.Issue != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, nil, fmt.Errorf("vault: exactly one of sealed, value, generate and issue is needed: %w", backend.ErrInvalid)
	case declared.Sealed != "":
		value, err := f.open(declared.Name, declared.Sealed)
		return value, nil, err
	case declared.Generate != nil:
		value, err := generate(declared.Type, *declared.Generate)
		return value, nil, err
	case declared.Issue != nil:
		return f.issue(declared.Type, *declared.Issue)
	default:
		return declared.Value, nil, nil
	}
}

// sealedValue is the content of the fake's sealed values; the real ones are encrypted.
type sealedValue struct {
	Namespace, Name string
	Value           Value
}

const sealedPrefix = "fake:"

// SealFake returns a sealed value that Fake opens, but not the service.
func SealFake(namespace, name string, value Value) string {
	// Marshalling plain fields cannot fail.
	data, _ := json.Marshal(sealedValue{Namespace: namespace, Name: name, Value: value})
	return sealedPrefix + base64.StdEncoding.EncodeToString(data)
}

func (f *Fake) open(name, sealed string) (Value, error) {
	refused := fmt.Errorf("vault: the sealed value does not open: it was sealed to another key, namespace or name, or modified: %w", backend.ErrInvalid)
	text, ok := strings.CutPrefix(sealed, sealedPrefix)
	data, err := base64.StdEncoding.DecodeString(text)
	var content sealedValue
	if !ok || err != nil || json.Unmarshal(data, &content) != nil || content.Namespace != f.namespace || content.Name != name {
		return nil, refused
	}
	return content.Value, nil
}

// Create implements Client.
func (f *Fake) Create(ctx context.Context, path string, value Write) (Secret, error) {
	return f.write(ctx, "Create", path, value, func(found *fakeSecret) error {
		if found != nil {
			return fmt.Errorf("vault: secret %s: %w", path, backend.ErrExists)
		}
		return nil
	})
}

// Put implements Client.
func (f *Fake) Put(ctx context.Context, path string, value Write) (Secret, error) {
	return f.write(ctx, "Put", path, value, func(found *fakeSecret) error {
		if found == nil {
			return missing("secret " + path)
		}
		return nil
	})
}

// PutLarge stores a File of the given size, over MaxValueBytes, as a stream to the service would.
func (f *Fake) PutLarge(path string, size int64) error {
	f.mu.Lock()
	stored, notify, err := f.add(path, TypeFile, Value{FieldFile: {}}, nil, nil, "user")
	if err == nil {
		stored.versions[len(stored.versions)-1].Size = size
	}
	f.mu.Unlock()
	if err == nil {
		notify()
	}
	return err
}

func (f *Fake) write(ctx context.Context, method, path string, value Write, check func(*fakeSecret) error) (Secret, error) {
	if err := f.enter(ctx, method, path); err != nil {
		return Secret{}, err
	}
	f.mu.Lock()
	found := f.secrets[path]
	err := check(found)
	newest := int64(0)
	if found != nil {
		newest = int64(len(found.versions))
	}
	if err == nil && value.CheckAndSet != nil && *value.CheckAndSet != newest {
		err = fmt.Errorf("vault: %s is at version %d: %w", path, newest, ErrStale)
	}
	if err != nil {
		f.mu.Unlock()
		return Secret{}, err
	}
	stored, notify, err := f.add(path, value.Type, value.Value, value.Metadata, value.ExpiresAt, "user")
	var out Secret
	if err == nil {
		out = f.describe(path, stored)
	}
	f.mu.Unlock()
	if err == nil {
		notify()
	}
	return out, err
}

// addVersion stores a new version of an existing secret, with the value that make returns.
func (f *Fake) addVersion(ctx context.Context, method, path string, make func(*fakeSecret) (Value, *time.Time, error)) (Secret, error) {
	if err := f.enter(ctx, method, path); err != nil {
		return Secret{}, err
	}
	f.mu.Lock()
	found, err := f.find(path)
	if err == nil && f.sealed {
		err = fmt.Errorf("vault: %s: %w", path, ErrSealed)
	}
	var value Value
	var expires *time.Time
	if err == nil {
		value, expires, err = make(found)
	}
	var out Secret
	var notify func()
	if err == nil {
		if found, notify, err = f.add(path, found.typ, value, found.versions[len(found.versions)-1].Metadata, expires, "user"); err == nil {
			out = f.describe(path, found)
		}
	}
	f.mu.Unlock()
	if err == nil {
		notify()
	}
	return out, err
}

// Rotate implements Client.
func (f *Fake) Rotate(ctx context.Context, path string) (Secret, error) {
	return f.addVersion(ctx, "Rotate", path, func(s *fakeSecret) (Value, *time.Time, error) {
		switch {
		case s.generate != nil:
			value, err := generate(s.typ, *s.generate)
			return value, nil, err
		case s.issue != nil:
			return f.issue(s.typ, *s.issue)
		default:
			return nil, nil, fmt.Errorf("vault: %s is neither generated nor issued: %w", path, backend.ErrInvalid)
		}
	})
}

// Rollback implements Client.
func (f *Fake) Rollback(ctx context.Context, path string, version int64) (Secret, error) {
	return f.addVersion(ctx, "Rollback", path, func(*fakeSecret) (Value, *time.Time, error) {
		_, v, err := f.version(path, version)
		if err != nil {
			return nil, nil, err
		}
		if version == 0 || v.State != StateLive {
			return nil, nil, missing(fmt.Sprintf("version %d of %s", version, path))
		}
		return v.value, v.ExpiresAt, nil
	})
}

// Delete implements Client.
func (f *Fake) Delete(ctx context.Context, path string, destroy bool) error {
	if err := f.enter(ctx, "Delete", path); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := f.find(path)
	if err != nil {
		return err
	}
	if destroy {
		delete(f.secrets, path)
		return nil
	}
	for i := range found.versions {
		if found.versions[i].State == StateLive {
			found.versions[i].State = StateDeleted
		}
	}
	return nil
}

// DeleteVersion implements Client.
func (f *Fake) DeleteVersion(ctx context.Context, path string, version int64) error {
	return f.state(ctx, "DeleteVersion", path, version, StateDeleted)
}

// UndeleteVersion implements Client.
func (f *Fake) UndeleteVersion(ctx context.Context, path string, version int64) error {
	return f.state(ctx, "UndeleteVersion", path, version, StateLive)
}

// DestroyVersion implements Client.
func (f *Fake) DestroyVersion(ctx context.Context, path string, version int64) error {
	return f.state(ctx, "DestroyVersion", path, version, StateDestroyed)
}

func (f *Fake) state(ctx context.Context, method, path string, version int64, state string) error {
	if err := f.enter(ctx, method, path); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, v, err := f.version(path, version)
	switch {
	case err != nil:
		return err
	case version == 0, v.State == StateDestroyed && state != StateDestroyed:
		return missing(fmt.Sprintf("version %d of %s", version, path))
	}
	v.State = state
	if state == StateDestroyed {
		v.value = nil
	}
	return nil
}

// SealStatus implements Client.
func (f *Fake) SealStatus(ctx context.Context) (SealStatus, error) {
	if err := f.Enter(ctx, "SealStatus"); err != nil {
		return SealStatus{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	status := SealStatus{Sealed: f.sealed, KeyID: f.keyID(), Total: int64(len(f.secrets))}
	for _, s := range f.secrets {
		if s.keyID != f.keyID() {
			status.Stale++
		}
	}
	return status, nil
}

// SealingKey implements Client.
func (f *Fake) SealingKey(ctx context.Context) (SealingKey, error) {
	if err := f.Enter(ctx, "SealingKey"); err != nil {
		return SealingKey{}, err
	}
	return SealingKey{ID: "fake", PublicKey: make([]byte, 32)}, nil
}

// Unseal implements Client: any share unseals.
func (f *Fake) Unseal(ctx context.Context, _ string) (SealStatus, error) {
	if err := f.Enter(ctx, "Unseal"); err != nil {
		return SealStatus{}, err
	}
	f.mu.Lock()
	f.sealed = false
	f.mu.Unlock()
	return f.SealStatus(ctx)
}

// Seal implements Client.
func (f *Fake) Seal(ctx context.Context) error {
	if err := f.Enter(ctx, "Seal"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed = true
	return nil
}

// Rewrap implements Client: it completes at once.
func (f *Fake) Rewrap(ctx context.Context) error {
	if err := f.Enter(ctx, "Rewrap"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.secrets {
		s.keyID = f.keyID()
	}
	return nil
}

// RotateKey implements Client.
func (f *Fake) RotateKey(ctx context.Context) error {
	if err := f.Enter(ctx, "RotateKey"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys++
	return nil
}
