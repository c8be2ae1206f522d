// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
)

func TestUnseal(t *testing.T) {
	pool := openPool(t)
	ctx := t.Context()
	v := New(pool, options(namespace))
	wantErr(t, "unseal before init", v.Unseal(ctx, []byte(passphrase)), ErrUninitialized)
	if s, err := v.Status(ctx); err != nil || !s.Sealed || s.KeyID != "" {
		t.Errorf("status before init: %+v, %v", s, err)
	}
	wantField(t, "an empty passphrase", v.Init(ctx, nil), "passphrase")
	if err := v.Init(ctx, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "init twice", v.Init(ctx, []byte(passphrase)), ErrInitialized)
	_, err := v.InitShares(ctx, 3, 2)
	wantErr(t, "init twice", err, ErrInitialized)
	mustCreate(t, v, "a", "one")

	v.Seal()
	if s, err := v.Status(ctx); err != nil || !s.Sealed || s.KeyID == "" || s.Total != 1 {
		t.Errorf("status when sealed: %+v, %v", s, err)
	}
	for name, call := range everything(t, v) {
		wantErr(t, name+" when sealed", call(), ErrSealed)
	}
	if s, err := v.Get(ctx, "a"); err != nil || s.Version != 1 {
		t.Errorf("get when sealed: %+v, %v", s, err)
	}
	wantErr(t, "a wrong passphrase", v.Unseal(ctx, []byte("wrong")), ErrPassphrase)
	wantErr(t, "a wrong passphrase", v.Open(ctx, []byte("wrong")), ErrPassphrase)
	if !v.Sealed() {
		t.Error("a wrong passphrase unsealed")
	}
	if err := v.Unseal(ctx, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	wantText(t, v, "a", 0, "one")
	wantErr(t, "a wrong passphrase while unsealed", v.Unseal(ctx, []byte("wrong")), ErrPassphrase)
	wantText(t, v, "a", 0, "one")
	_, err = v.UnsealShare(ctx, share(t))
	wantField(t, "a share where a passphrase unseals", err, "share")
}

func share(t testing.TB) string {
	t.Helper()
	shares, err := keyring.Split(make([]byte, keyring.UnsealSecretBytes), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	return shares[0].String()
}

// everything returns each method that needs the keys.
func everything(t testing.TB, v Vault) map[string]func() error {
	ctx := t.Context()
	ignore := func(_ any, err error) error { return err }
	return map[string]func() error{
		"Read":   func() error { return ignore(v.Read(ctx, "a", 0)) },
		"Diff":   func() error { return ignore(v.Diff(ctx, "a", 0, 1)) },
		"MAC":    func() error { return ignore(v.MAC(ctx, text("x"))) },
		"Create": func() error { return ignore(v.Create(ctx, "b", textWrite("x"), "ada")) },
		"Put":    func() error { return ignore(v.Put(ctx, "a", textWrite("x"), "ada")) },
		"Apply": func() error {
			return ignore(v.Apply(ctx, "b", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: "1"}, "ada"))
		},
		"Rotate":           func() error { return ignore(v.Rotate(ctx, "a", "ada")) },
		"Rollback":         func() error { return ignore(v.Rollback(ctx, "a", 1, "ada")) },
		"Refresh":          func() error { return v.Refresh(ctx) },
		"RotateRoot":       func() error { return ignore(v.RotateRoot(ctx, []byte("x"))) },
		"RotateRootShares": func() error { return ignore(v.RotateRootShares(ctx, 3, 2)) },
		"Rewrap":           func() error { return v.Rewrap(ctx) },
		"SealingKey":       func() error { return ignore(v.SealingKey(ctx)) },
		"RotateSealingKey": func() error { return ignore(v.RotateSealingKey(ctx)) },
	}
}

// TestInitOnce checks that of replicas that start together on an empty schema, one creates the root key.
func TestInitOnce(t *testing.T) {
	pool := openPool(t)
	var group sync.WaitGroup
	replicas := make([]Vault, 6)
	for i := range replicas {
		group.Go(func() {
			replicas[i] = New(pool, options(namespace))
			if err := replicas[i].Open(t.Context(), []byte(passphrase)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	mustCreate(t, replicas[0], "a", "one")
	for _, v := range replicas {
		wantText(t, v, "a", 0, "one")
	}
}

func TestShares(t *testing.T) {
	pool := openPool(t)
	ctx := t.Context()
	v := New(pool, options(namespace))
	_, err := v.InitShares(ctx, 2, 3)
	wantField(t, "a threshold above the number of shares", err, "threshold")
	shares, err := v.InitShares(ctx, 5, 3)
	if err != nil || len(shares) != 5 {
		t.Fatalf("%d shares, %v", len(shares), err)
	}
	mustCreate(t, v, "a", "one")
	v.Seal()
	wantErr(t, "a passphrase where shares unseal", v.Unseal(ctx, []byte(passphrase)), ErrPassphrase)
	for i, step := range []struct {
		share    int
		progress int
		sealed   bool
	}{{4, 1, true}, {4, 1, true}, {0, 2, true}, {2, 0, false}, {1, 0, false}} {
		s, err := v.UnsealShare(ctx, shares[step.share])
		if err != nil || s.Progress != step.progress || s.Sealed != step.sealed || s.Threshold != 3 {
			t.Fatalf("step %d: %+v, %v", i, s, err)
		}
	}
	wantText(t, v, "a", 0, "one")

	v.Seal()
	if _, err := v.UnsealShare(ctx, shares[0]); err != nil {
		t.Fatal(err)
	}
	_, err = v.UnsealShare(ctx, share(t))
	wantField(t, "a share of another set", err, "share")
	_, err = v.UnsealShare(ctx, "vshare1.AAAA")
	wantField(t, "no share", err, "share")

	// A complete but wrong set: every share of another vault.
	v.Seal()
	wrong, err := keyring.Split(make([]byte, 32), 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range wrong {
		_, err := v.UnsealShare(ctx, s.String())
		if i < 2 && err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			wantErr(t, "wrong shares", err, ErrPassphrase)
		}
	}
	if s, err := v.Status(ctx); err != nil || s.Progress != 0 || !s.Sealed {
		t.Errorf("after wrong shares: %+v, %v", s, err)
	}
	for _, text := range shares[2:] {
		if _, err := v.UnsealShare(ctx, text); err != nil {
			t.Fatal(err)
		}
	}

	rotated, err := v.RotateRootShares(ctx, 3, 2)
	if err != nil || len(rotated.Shares) != 3 {
		t.Fatalf("%+v, %v", rotated.KeyID, err)
	}
	v.Seal()
	for _, text := range rotated.Shares[1:] {
		if _, err := v.UnsealShare(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, v, "a", 0, "one")
}

// TestWrapped checks that of replicas that start together one creates the unseal secret, and all of them get that one.
func TestWrapped(t *testing.T) {
	pool := openPool(t)
	type result struct {
		made, got []byte
		err       error
	}
	results := make(chan result)
	for range 8 {
		go func() {
			var r result
			r.got, r.err = New(pool, options(namespace)).Wrapped(context.Background(), func(secret []byte) ([]byte, error) {
				r.made = append([]byte("wrapped "), secret...)
				return r.made, nil
			})
			results <- r
		}()
	}
	var first []byte
	made := 0
	for range 8 {
		r := <-results
		if r.err != nil || len(r.got) != len("wrapped ")+keyring.UnsealSecretBytes {
			t.Fatalf("%d bytes, %v", len(r.got), r.err)
		}
		if first == nil {
			first = r.got
		}
		if !bytes.Equal(r.got, first) {
			t.Error("two replicas have two secrets")
		}
		if bytes.Equal(r.made, first) {
			made++
		}
	}
	if made != 1 {
		t.Errorf("the secret was created by %d", made)
	}
	failing := errors.New("the token is unavailable")
	other := openPool(t)
	_, err := New(other, options(namespace)).Wrapped(t.Context(), func([]byte) ([]byte, error) { return nil, failing })
	wantErr(t, "a token that fails", err, failing)
	replica(t, other, namespace)
	_, err = New(other, options(namespace)).Wrapped(t.Context(), func([]byte) ([]byte, error) { t.Error("it is wrapped"); return nil, nil })
	wantErr(t, "a vault that was initialized by a passphrase", err, ErrInitialized)
}
