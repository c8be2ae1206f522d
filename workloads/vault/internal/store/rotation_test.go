// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// fill creates n secrets, and returns a function that reads all of them.
func fill(t testing.TB, v Vault, n int) func(Vault) {
	t.Helper()
	for i := range n {
		mustCreate(t, v, fmt.Sprintf("s/%d", i), fmt.Sprintf("value %d", i))
	}
	return func(v Vault) {
		t.Helper()
		for i := range n {
			wantText(t, v, fmt.Sprintf("s/%d", i), 0, fmt.Sprintf("value %d", i))
		}
	}
}

func status(t testing.TB, v Vault) wire.SealStatus {
	t.Helper()
	v.(*store).forgetCounts()
	s, err := v.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rootKeys(t testing.TB, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM root_keys`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRotationInterrupted ends the process after every batch of a re-wrap; the next one continues.
func TestRotationInterrupted(t *testing.T) {
	v, pool := newVault(t)
	ctx := t.Context()
	const secrets, batch = 10, 3
	read := fill(t, v, secrets)
	old := status(t, v)
	rotated, err := v.RotateRoot(ctx, []byte("a new passphrase"))
	if err != nil || rotated.KeyID == old.KeyID {
		t.Fatalf("%+v, %v", rotated, err)
	}
	mustCreate(t, v, "after", "x") // already under the new root key

	for done := 0; done < secrets; done += batch {
		v.Seal() // the process ends
		v = New(pool, options(namespace))
		wantErr(t, "the old passphrase", v.Unseal(ctx, []byte(passphrase)), ErrPassphrase)
		if err := v.Unseal(ctx, []byte("a new passphrase")); err != nil {
			t.Fatal(err)
		}
		read(v)
		if s := status(t, v); s.Stale != int64(secrets-done) || s.Total != secrets+1 || s.KeyID != rotated.KeyID {
			t.Fatalf("after %d: %+v", done, s)
		}
		if list, _, err := v.List(ctx, ListOptions{}); err != nil || count(list) != secrets-done {
			t.Errorf("%d secrets are stale, want %d, %v", count(list), secrets-done, err)
		}
		if _, err := v.(*store).rewrapBatch(ctx, v.(*store).keyring(), "00000000-0000-0000-0000-000000000000"); err != nil {
			t.Fatal(err)
		}
	}
	if n := rootKeys(t, pool); n != 2 {
		t.Errorf("%d root keys before the end, want 2", n)
	}
	if err := v.Rewrap(ctx); err != nil {
		t.Fatal(err)
	}
	if s := status(t, v); s.Stale != 0 || s.Total != secrets+1 {
		t.Errorf("at the end: %+v", s)
	}
	if n := rootKeys(t, pool); n != 1 {
		t.Errorf("%d root keys at the end, want 1", n)
	}
	var links int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM root_keys WHERE previous IS NOT NULL OR next IS NOT NULL`).Scan(&links); err != nil || links != 0 {
		t.Errorf("%d links to retired root keys are left, %v", links, err)
	}
	fresh := New(pool, options(namespace))
	if err := fresh.Unseal(ctx, []byte("a new passphrase")); err != nil {
		t.Fatal(err)
	}
	read(fresh)
	read(v)
}

func count(list []wire.Secret) (stale int) {
	for _, s := range list {
		if s.KeyStale {
			stale++
		}
	}
	return stale
}

// TestRotateTwice checks that two rotations without a re-wrap leave a chain of three generations.
func TestRotateTwice(t *testing.T) {
	v, pool := newVault(t)
	read := fill(t, v, 4)
	for i := range 2 {
		if _, err := v.RotateRoot(t.Context(), fmt.Appendf(nil, "passphrase %d", i)); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, v, fmt.Sprintf("after/%d", i), "x")
	}
	if s := status(t, v); s.Stale != 5 || s.Total != 6 || rootKeys(t, pool) != 3 {
		t.Errorf("%+v with %d root keys", s, rootKeys(t, pool))
	}
	fresh := New(pool, options(namespace))
	if err := fresh.Unseal(t.Context(), []byte("passphrase 1")); err != nil {
		t.Fatal(err)
	}
	read(fresh)
	if err := fresh.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := status(t, fresh); s.Stale != 0 || rootKeys(t, pool) != 1 {
		t.Errorf("%+v with %d root keys", s, rootKeys(t, pool))
	}
	read(v)
}

// TestReplicasLearn rotates and re-wraps on one replica; the other continues to read and write without a notification.
func TestReplicasLearn(t *testing.T) {
	pool := openPool(t)
	o := options(namespace)
	o.RetireAfter = time.Hour
	a, b := New(pool, o), New(pool, o)
	for _, v := range []Vault{a, b} {
		if err := v.Open(t.Context(), []byte(passphrase)); err != nil {
			t.Fatal(err)
		}
	}
	read := fill(t, a, 4)
	read(b)
	if _, err := a.RotateRoot(t.Context(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, b, "by-b", "x") // still under the old one
	if err := a.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(b)
	mustPut(t, b, "s/0", "value 0")
	if _, err := b.RotateRoot(t.Context(), []byte("newer")); err != nil {
		t.Fatal(err)
	}
	read(a)
	if _, err := a.RotateRoot(t.Context(), []byte("newest")); err != nil {
		t.Fatal(err)
	}
	if err := b.Rewrap(t.Context()); err != nil { // finds the newest through the link
		t.Fatal(err)
	}
	if s := status(t, b); s.Stale != 0 || rootKeys(t, pool) != 4 {
		t.Errorf("%+v with %d root keys", s, rootKeys(t, pool))
	}
	read(a)
}

// TestLateReplica checks that a replica that was away until its root key was retired seals itself and reports it.
func TestLateReplica(t *testing.T) {
	v, pool := newVault(t)
	late := replica(t, pool, namespace)
	read := fill(t, v, 4)
	if _, err := v.RotateRoot(t.Context(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := late.Create(t.Context(), "late", textWrite("x"), "ada")
	wantErr(t, "a write under a retired root key", err, ErrSealed)
	_, err = late.Read(t.Context(), "s/0", 0)
	wantErr(t, "a read", err, ErrSealed)
	if !late.Sealed() {
		t.Error("it is not sealed")
	}
	if err := late.Unseal(t.Context(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	read(late)
	_, err = v.Get(t.Context(), "late")
	wantErr(t, "the refused secret", err, ErrNotFound)
}

// TestWritesDuringRotation creates secrets on two replicas while root keys are rotated, re-wrapped and retired.
func TestWritesDuringRotation(t *testing.T) {
	v, pool := newVault(t)
	writers := []Vault{v, replica(t, pool, namespace)}
	stop := make(chan struct{})
	var group sync.WaitGroup
	made := make([]int, len(writers))
	for w, writer := range writers {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("w%d/%d", w, i)
				_, err := writer.Create(t.Context(), path, textWrite(path), "ada")
				if errors.Is(err, ErrSealed) { // retired before it refreshed
					err = writer.Unseal(t.Context(), []byte(passphrase))
					i--
				}
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				made[w] = i + 1
			}
		})
	}
	for range 5 {
		if _, err := v.RotateRoot(t.Context(), []byte(passphrase)); err != nil {
			t.Error(err)
		}
		if err := v.Rewrap(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	group.Wait()
	if err := v.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := replica(t, pool, namespace)
	for w, n := range made {
		for i := range n {
			path := fmt.Sprintf("w%d/%d", w, i)
			wantText(t, fresh, path, 0, path)
		}
	}
	if s := status(t, fresh); s.Stale != 0 || rootKeys(t, pool) != 1 || s.Total != int64(made[0]+made[1]) {
		t.Errorf("%+v with %d root keys, %v secrets", s, rootKeys(t, pool), made)
	}
}

func TestMACOutlivesRotation(t *testing.T) {
	v, pool := newVault(t)
	before, err := v.MAC(t.Context(), text("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.RotateRoot(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := v.MAC(t.Context(), text("x"))
	if err != nil || after != before {
		t.Errorf("the MAC changed: %v", err)
	}
	for name, other := range map[string]Vault{"another namespace": replica(t, pool, "team-b"), "another value": v} {
		value := text("x")
		if other == v {
			value = text("y")
		}
		if mac, err := other.MAC(t.Context(), value); err != nil || mac == before {
			t.Errorf("%s has the same MAC, %v", name, err)
		}
	}
}
