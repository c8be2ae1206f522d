// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

// errUnchanged: the applied value is already stored.
var errUnchanged = errors.New("unchanged")

func (v *store) Apply(ctx context.Context, path string, apply wire.Apply, by string) (applied wire.Applied, err error) {
	if err := checkApply(path, apply); err != nil {
		return applied, err
	}
	if current, ok, err := v.settled(ctx, path, apply); err != nil || ok {
		return wire.Applied{Secret: current}, err
	}
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) error {
		return db.InTx(ctx, v.pool, func(tx pgx.Tx) error {
			applied, err = v.apply(ctx, tx, keys, path, apply, by)
			return err
		})
	})
	return applied, err
}

func checkApply(path string, a wire.Apply) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	sources := 0
	for _, given := range []bool{a.Sealed != "", a.Value != nil, a.Generate != nil, a.Issue != nil} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return invalid(material.Invalid("source", "exactly one of sealed, value, generate and issue is required"))
	}
	if a.SourceHash == "" || !tokenForm.MatchString(a.SourceHash) {
		return invalid(material.Invalid("sourceHash", "must have 1 to 256 printable ASCII characters"))
	}
	if !tokenForm.MatchString(a.Rotation) {
		return invalid(material.Invalid("rotation", "must have at most 256 printable ASCII characters"))
	}
	if err := checkMetadata(a.Metadata); err != nil {
		return err
	}
	r := recipe{Generate: a.Generate, Issue: a.Issue}
	return r.check(a.Type, path)
}

func (r recipe) check(secretType, path string) error {
	if r.Generate != nil {
		if err := material.CheckGenerate(secretType, *r.Generate); err != nil {
			return invalid(err)
		}
	}
	if r.Issue != nil {
		if err := material.CheckIssue(secretType, *r.Issue); err != nil {
			return invalid(err)
		}
		if ca := r.Issue.CAPath; ca != "" {
			if ca == path {
				return invalid(material.Invalid("issue.caPath", "a certificate cannot sign itself by its path; leave it empty"))
			}
			return checkPath("issue.caPath", ca)
		}
	}
	return nil
}

// matches reports whether the head is already as applied: nothing new is declared, and no rotation is requested.
func (h head) matches(a wire.Apply) bool {
	return h.sourceHash == a.SourceHash && (a.Rotation == "" || a.Rotation == h.rotation)
}

// settled handles an Apply that changes nothing, with reads only and without the keys.
func (v *store) settled(ctx context.Context, path string, a wire.Apply) (wire.Secret, bool, error) {
	h, err := v.head(ctx, v.pool, path, false)
	if errors.Is(err, ErrNotFound) {
		return wire.Secret{}, false, nil
	}
	if err != nil || h.Type != a.Type || !h.matches(a) {
		return wire.Secret{}, false, err
	}
	secret, err := v.get(ctx, v.pool, path)
	if errors.Is(err, ErrNotFound) {
		return wire.Secret{}, false, nil
	}
	return secret, secret.State == wire.StateLive && maps.Equal(secret.Metadata, a.Metadata), err
}

// apply runs in a transaction that holds the secret's row.
func (v *store) apply(ctx context.Context, tx pgx.Tx, keys *keyring.Keyring, path string, a wire.Apply, by string) (applied wire.Applied, err error) {
	h, err := v.head(ctx, tx, path, true)
	missing := errors.Is(err, ErrNotFound)
	if err != nil && !missing {
		return applied, err
	}
	if !missing && h.Type != a.Type {
		return applied, invalid(material.Invalid("type", "the secret is of type %s", h.Type))
	}
	d, err := v.declare(ctx, tx, keys, path, h, a, by)
	if errors.Is(err, errUnchanged) {
		return v.remember(ctx, tx, path, h, a)
	}
	if err != nil {
		return applied, err
	}
	defer d.Close()
	if missing {
		applied.Secret, err = v.create(ctx, tx, keys, path, d)
		if errors.Is(err, ErrExists) {
			err = errAgain // by another writer, a moment ago
		}
	} else {
		applied.Secret, err = v.add(ctx, tx, keys, path, h, d)
	}
	applied.Changed = true
	return applied, err
}

// declare builds the declared version; errUnchanged if the newest one is already that.
func (v *store) declare(ctx context.Context, q querier, keys *keyring.Keyring, path string, h head, a wire.Apply, by string) (*draft, error) {
	newest, err := v.newest(ctx, q, h)
	if err != nil {
		return nil, err
	}
	settled := newest.live && maps.Equal(newest.metadata, a.Metadata)
	r := &recipe{Generate: a.Generate, Issue: a.Issue}
	keep := newest.live && r.generated() && r.equal(h.recipe) && (a.Rotation == "" || a.Rotation == h.rotation)
	if keep && settled {
		return nil, errUnchanged
	}
	value := a.Value
	switch {
	case keep: // changed metadata alone must not change a password
		value, err = v.current(ctx, q, keys, path)
	case r.generated():
		value, err = v.make(ctx, q, keys, *r, a.Type)
	case a.Sealed != "":
		value, err = v.openSealed(ctx, q, keys, a.Name, a.Sealed)
	}
	if err != nil {
		return nil, err
	}
	if a.Value == nil {
		defer material.Zero(value)
	}
	if settled && !r.generated() {
		same, err := v.holds(ctx, q, keys, path, value)
		if err != nil {
			return nil, err
		}
		if same {
			return nil, errUnchanged
		}
	}
	d, err := newDraft(a.Type, value, a.Metadata, nil, by)
	if err != nil {
		return nil, err
	}
	d.declared = declared(h, a)
	return d, nil
}

// declared returns what is stored of an Apply.
func declared(h head, a wire.Apply) *declaration {
	d := &declaration{sourceHash: a.SourceHash, rotation: a.Rotation}
	if a.Rotation == "" {
		d.rotation = h.rotation
	}
	if r := (&recipe{Generate: a.Generate, Issue: a.Issue}); r.generated() {
		d.recipe = r
	}
	return d
}

// generated distinguishes a recipe from a given value.
func (r *recipe) generated() bool { return r != nil && (r.Generate != nil || r.Issue != nil) }

func (r *recipe) equal(other *recipe) bool {
	a, err := r.json()
	b, otherErr := other.json()
	return err == nil && otherErr == nil && bytes.Equal(a, b)
}

// newestVersion holds what an Apply needs of it.
type newestVersion struct {
	live     bool
	metadata map[string]string
}

func (v *store) newest(ctx context.Context, q querier, h head) (n newestVersion, err error) {
	if h.id == 0 {
		return n, nil
	}
	err = q.QueryRow(ctx, `SELECT deleted_at IS NULL AND destroyed_at IS NULL, metadata FROM versions WHERE secret_id = $1 AND version = $2`,
		h.id, h.version).Scan(&n.live, &n.metadata)
	if err != nil {
		return n, fmt.Errorf("read newest version: %w", err)
	}
	return n, nil
}

// current returns the newest version's value; the caller zeroes it. ErrStreamed.
func (v *store) current(ctx context.Context, q querier, keys *keyring.Keyring, path string) (wire.Value, error) {
	x, err := v.version(ctx, q, path, 0)
	if err != nil {
		return nil, err
	}
	plaintext, err := v.open(keys, path, x)
	if err != nil {
		return nil, err
	}
	defer keyring.Zero(plaintext)
	if material.IsManifest(plaintext) {
		return nil, ErrStreamed
	}
	return material.Decode(plaintext)
}

// holds reports whether the newest version has this value.
func (v *store) holds(ctx context.Context, q querier, keys *keyring.Keyring, path string, value wire.Value) (bool, error) {
	now, err := v.current(ctx, q, keys, path)
	if errors.Is(err, ErrStreamed) { // no declared value is that large
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer material.Zero(now)
	if len(now) != len(value) {
		return false, nil
	}
	same := 1
	for name, data := range value {
		other, ok := now[name]
		if !ok {
			return false, nil
		}
		same &= subtle.ConstantTimeCompare(data, other)
	}
	return same == 1, nil
}

// remember stores a declaration that needs no new version.
func (v *store) remember(ctx context.Context, q querier, path string, h head, a wire.Apply) (applied wire.Applied, err error) {
	d := declared(h, a)
	recipe, err := d.recipe.json()
	if err != nil {
		return applied, err
	}
	_, err = q.Exec(ctx, `UPDATE secrets SET source_hash = $2, rotation = $3, recipe = $4 WHERE id = $1`, h.id, d.sourceHash, d.rotation, recipe)
	if err != nil {
		return applied, fmt.Errorf("write declaration: %w", err)
	}
	applied.Secret, err = v.get(ctx, q, path)
	return applied, err
}

// make generates or issues a value; the caller zeroes it.
func (v *store) make(ctx context.Context, q querier, keys *keyring.Keyring, r recipe, secretType string) (wire.Value, error) {
	if r.Generate != nil {
		value, err := material.Generate(secretType, *r.Generate)
		if err != nil {
			return nil, invalid(err)
		}
		return value, nil
	}
	var ca wire.Value
	if path := r.Issue.CAPath; path != "" {
		var err error
		if ca, err = v.authority(ctx, q, keys, path); err != nil {
			return nil, err
		}
		defer material.Zero(ca)
	}
	value, err := material.Issue(*r.Issue, ca, time.Now())
	if fieldErr := (*material.FieldError)(nil); errors.As(err, &fieldErr) {
		return nil, invalid(err)
	}
	return value, err
}

// authority returns the Certificate that signs others.
func (v *store) authority(ctx context.Context, q querier, keys *keyring.Keyring, path string) (wire.Value, error) {
	x, err := v.version(ctx, q, path, 0)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDeleted), errors.Is(err, ErrDestroyed):
		return nil, invalid(material.Invalid("issue.caPath", "secret %s: %s", path, err))
	case err != nil:
		return nil, err
	case x.Type != wire.TypeCertificate:
		return nil, invalid(material.Invalid("issue.caPath", "secret %s is not a Certificate", path))
	}
	return v.current(ctx, q, keys, path)
}

func (v *store) Rotate(ctx context.Context, path, by string) (secret wire.Secret, err error) {
	if err := CheckPath(path); err != nil {
		return secret, err
	}
	err = v.append(ctx, path, func(keys *keyring.Keyring, q querier, h head) (*draft, error) {
		if h.recipe == nil {
			return nil, ErrNotGenerated
		}
		value, err := v.make(ctx, q, keys, *h.recipe, h.Type)
		if err != nil {
			return nil, err
		}
		defer material.Zero(value)
		newest, err := v.newest(ctx, q, h)
		if err != nil {
			return nil, err
		}
		return newDraft(h.Type, value, newest.metadata, nil, by)
	}, &secret)
	return secret, err
}
