// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

const cheap = 1000

func newTestRoot(t testing.TB, passphrase string, generation int64) (*Root, Params) {
	t.Helper()
	root, p, err := NewRootIterations([]byte(passphrase), generation, cheap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return root, p
}

// TestDerivation pins the scheme: stored data must open in all later versions.
func TestDerivation(t *testing.T) {
	p := Params{ID: "root-1-00000000", Generation: 1, Salt: bytes.Repeat([]byte{7}, saltBytes), Iterations: cheap}
	root, err := derive([]byte("passphrase"), p)
	if err != nil {
		t.Fatal(err)
	}
	check, err := root.check(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = "f22d6422dcf9b956129726b83ff4b832ae58b1bed912ccb8e91ad8e841825a2d"
	if got := hex.EncodeToString(check); got != want {
		t.Errorf("check value %s, want %s", got, want)
	}

	// The same from the primitives.
	key, err := pbkdf2.Key(sha256.New, "passphrase", p.Salt, p.Iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	info := "\x00\x00\x00\x13itechsmart.vault.v1\x00\x00\x00\x09namespace\x00\x00\x00\x06team-a"
	namespaceKey, err := hkdf.Key(sha256.New, key, nil, info, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(namespaceKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	label := Label{ID: "k", Namespace: "team-a", Purpose: PurposeSecret, Subject: "db/password"}
	dataKey := NewDataKey()
	wrapped, err := root.Wrap(label, dataKey)
	if err != nil {
		t.Fatal(err)
	}
	aad := "\x00\x00\x00\x0froot-1-00000000\x00\x00\x00\x01k\x00\x00\x00\x06team-a\x00\x00\x00\x06secret\x00\x00\x00\x0bdb/password"
	plain, err := gcm.Open(nil, nil, wrapped, []byte(aad))
	if err != nil || !bytes.Equal(plain, dataKey.key) {
		t.Fatalf("the wrapped key is not nonce, ciphertext and tag under the namespace's key: %v", err)
	}

	sealed, err := dataKey.Seal(Binding{"team-a", "db/password", 3, "Text"}, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if block, err = aes.NewCipher(dataKey.key); err != nil {
		t.Fatal(err)
	}
	if gcm, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	aad = "\x00\x00\x00\x06team-a\x00\x00\x00\x0bdb/password\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x04Text"
	if plain, err = gcm.Open(nil, nil, sealed, []byte(aad)); err != nil || string(plain) != "value" {
		t.Fatalf("the value is not bound to namespace, path, version and type: %v", err)
	}
}

func TestRealCost(t *testing.T) {
	began := time.Now()
	root, p, err := NewRoot([]byte("passphrase"), 1)
	if err != nil {
		t.Fatal(err)
	}
	root.Close()
	if p.Iterations != 600_000 || len(p.Salt) != 32 {
		t.Errorf("%d iterations with %d bytes of salt", p.Iterations, len(p.Salt))
	}
	t.Logf("unseal takes %s", time.Since(began))
	if _, _, err := NewRoot(nil, 1); err == nil {
		t.Error("an empty passphrase was accepted")
	}
}

func TestWrongPassphrase(t *testing.T) {
	_, p := newTestRoot(t, "right", 1)
	if root, err := OpenRoot([]byte("right"), p); err != nil || root.ID() != p.ID {
		t.Fatalf("the right passphrase: %v", err)
	}
	for _, wrong := range []string{"", "Right", "right ", "righ"} {
		if _, err := OpenRoot([]byte(wrong), p); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	for name, change := range map[string]func(*Params){
		"id": func(p *Params) { p.ID = "root-1-x" }, "generation": func(p *Params) { p.Generation++ }, "salt": func(p *Params) { p.Salt = bytes.Repeat([]byte{1}, 32) },
		"iterations": func(p *Params) { p.Iterations-- }, "check": func(p *Params) { p.Check = p.Check[1:] }, "no check": func(p *Params) { p.Check = nil },
	} {
		changed := p
		change(&changed)
		if _, err := OpenRoot([]byte("right"), changed); !errors.Is(err, ErrPassphrase) {
			t.Errorf("changed %s: %v", name, err)
		}
	}
}

// TestBindingsDoNotCollide checks that fields whose concatenations are equal are different places.
func TestBindingsDoNotCollide(t *testing.T) {
	seen := map[string]Binding{}
	for _, ns := range []string{"a", "ab", "abc", ""} {
		for _, path := range []string{"a", "bc", "c", "", "b|1"} {
			for _, version := range []int64{0, 1, 256, 1 << 40} {
				for _, kind := range []string{"Text", "T", ""} {
					b := Binding{ns, path, version, kind}
					if other, ok := seen[string(b.bytes())]; ok {
						t.Errorf("%v and %v collide", b, other)
					}
					seen[string(b.bytes())] = b
				}
			}
		}
	}
}

func TestValueOpensOnlyAtItsPlace(t *testing.T) {
	key := NewDataKey()
	here := Binding{"team-a", "db/password", 3, "Text"}
	sealed, err := key.Seal(here, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open(here, sealed); err != nil || string(got) != "value" {
		t.Fatalf("%v", err)
	}
	for _, there := range []Binding{{"team-b", "db/password", 3, "Text"}, {"team-a", "db/passwor", 3, "Text"}, {"team-a", "db/password", 4, "Text"},
		{"team-a", "db/password", 3, "File"}, {"team-adb/", "password", 3, "Text"}} {
		if _, err := key.Open(there, sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("at %v: %v", there, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := key.Open(here, changed); !errors.Is(err, ErrOpen) {
			t.Errorf("a changed byte %d: %v", i, err)
		}
		if _, err := key.Open(here, sealed[:i]); !errors.Is(err, ErrOpen) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := NewDataKey().Open(here, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("another key: %v", err)
	}
	again, err := key.Seal(here, []byte("value"))
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("the nonce is used twice, %v", err)
	}
	key.Close()
	if _, err := key.Open(here, sealed); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed key: %v", err)
	}
}

func TestWrappedKeyOpensOnlyUnderItsLabel(t *testing.T) {
	root, p := newTestRoot(t, "passphrase", 1)
	other, _ := newTestRoot(t, "passphrase", 1) // another salt
	label := Label{"id", "team-a", PurposeSecret, "a"}
	key := NewDataKey()
	wrapped, err := root.Wrap(label, key)
	if err != nil {
		t.Fatal(err)
	}
	same, err := OpenRoot([]byte("passphrase"), p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := same.Unwrap(label, wrapped); err != nil || !bytes.Equal(got.key, key.key) {
		t.Fatalf("%v", err)
	}
	for _, l := range []Label{{"id2", "team-a", PurposeSecret, "a"}, {"id", "team-b", PurposeSecret, "a"}, {"id", "team-a", PurposeMAC, "a"},
		{"id", "team-a", PurposeSecret, "b"}} {
		if _, err := root.Unwrap(l, wrapped); !errors.Is(err, ErrOpen) {
			t.Errorf("under %v: %v", l, err)
		}
	}
	if _, err := other.Unwrap(label, wrapped); !errors.Is(err, ErrOpen) {
		t.Errorf("another root key: %v", err)
	}
	root.Close()
	if _, err := root.Unwrap(label, wrapped); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrOpen) {
		t.Errorf("a closed root key: %v", err)
	}
}

func TestGenerations(t *testing.T) {
	one, p1 := newTestRoot(t, "old", 1)
	two, p2 := newTestRoot(t, "new", 2)
	forward, err := one.WrapRoot(two)
	if err != nil {
		t.Fatal(err)
	}
	backward, err := two.WrapRoot(one)
	if err != nil {
		t.Fatal(err)
	}
	label := Label{"id", "team-a", PurposeSecret, "a"}
	wrapped, err := one.Wrap(label, NewDataKey())
	if err != nil {
		t.Fatal(err)
	}
	reached, err := two.UnwrapRoot(backward, p1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reached.Unwrap(label, wrapped); err != nil {
		t.Errorf("the older generation, reached from the newer: %v", err)
	}
	if _, err := one.UnwrapRoot(forward, p2); err != nil {
		t.Errorf("the newer generation, reached from the older: %v", err)
	}
	if _, err := two.UnwrapRoot(forward, p1); !errors.Is(err, ErrOpen) {
		t.Errorf("a link of another generation: %v", err)
	}
	forged := p1
	forged.Check = p2.Check
	if _, err := two.UnwrapRoot(backward, forged); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a link to another row: %v", err)
	}

	k := New(two, one)
	if active, err := k.Active(); err != nil || active != two {
		t.Errorf("the newest is not active: %v", err)
	}
	k.Add(reached) // already in the keyring
	if got, err := k.Root(one.ID()); err != nil || got != one {
		t.Errorf("%v", err)
	}
	k.Retain(func(string) bool { return false })
	if _, err := k.Root(one.ID()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a retired generation: %v", err)
	}
	if _, err := k.Root(two.ID()); err != nil {
		t.Errorf("the active generation was retired: %v", err)
	}
	k.Close()
	if _, err := k.Active(); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed keyring: %v", err)
	}
	if two.key != nil {
		t.Error("the key outlives the keyring")
	}
}

func TestZero(t *testing.T) {
	root, _ := newTestRoot(t, "passphrase", 1)
	key := NewDataKey()
	rootBytes, keyBytes := root.key, key.key
	root.Close()
	key.Close()
	if !bytes.Equal(rootBytes, make([]byte, 32)) || !bytes.Equal(keyBytes, make([]byte, 32)) {
		t.Error("a closed key was not zeroed")
	}
}

func TestMAC(t *testing.T) {
	key := NewDataKey()
	seen := map[string]bool{}
	for _, fields := range [][]string{{"a", "b"}, {"ab"}, {"ab", ""}, {"", "ab"}, {"a", "b", ""}} {
		var list [][]byte
		for _, f := range fields {
			list = append(list, []byte(f))
		}
		sum, err := key.MAC(list...)
		if err != nil || len(sum) != 32 || seen[string(sum)] {
			t.Errorf("%q: %x, %v", fields, sum, err)
		}
		seen[string(sum)] = true
	}
}

// TestConcurrent is for the race detector: namespace keys are derived while the root key is closed.
func TestConcurrent(t *testing.T) {
	root, _ := newTestRoot(t, "passphrase", 1)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				label := Label{"id", fmt.Sprintf("ns-%d", j%5), PurposeSecret, "a"}
				key := NewDataKey()
				wrapped, err := root.Wrap(label, key)
				if err == nil {
					_, err = root.Unwrap(label, wrapped)
				}
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
			if i == 7 {
				root.Close()
			}
		})
	}
	group.Wait()
}
