// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package hsm_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/vault/internal/hsm"
	"github.com/itechsmart/operator/workloads/vault/internal/hsm/hsmtest"
)

func options(t *testing.T) hsm.Options {
	return hsm.Options{Module: hsmtest.Library(t), TokenLabel: "vault", KeyLabel: "unseal", PIN: hsmtest.PIN, Context: "shop/main"}
}

func mustWrap(t *testing.T, o hsm.Options, secret []byte) []byte {
	t.Helper()
	wrapped, err := hsm.New(o).Wrap(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// The key that wraps a secret opens it any number of times, and the wrapped form reveals nothing.
func TestWrap(t *testing.T) {
	secret := []byte("an unseal secret of 32 bytes ...")
	for name, newKey := range map[string]func(){
		"AES": func() { hsmtest.NewAES(t, "unseal", true) },
		"RSA": func() { hsmtest.NewRSA(t, "unseal") },
	} {
		t.Run(name, func(t *testing.T) {
			hsmtest.NewToken(t, "vault")
			newKey()
			o := options(t)
			wrapped := mustWrap(t, o, secret)
			if bytes.Contains(wrapped, secret) || bytes.Equal(wrapped, mustWrap(t, o, secret)) {
				t.Fatal("it is not encrypted, or not randomized")
			}
			for range 2 {
				if got, err := hsm.New(o).Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			elsewhere := o
			elsewhere.Context = "shop/other"
			if _, err := hsm.New(elsewhere).Unwrap(wrapped); !errors.Is(err, hsm.ErrOtherKey) {
				t.Errorf("for another vault: %v", err)
			}
			for what, changed := range map[string][]byte{
				"cut": wrapped[:len(wrapped)-1], "longer": append(bytes.Clone(wrapped), 0), "empty": nil, "of another kind": append([]byte{9}, wrapped[1:]...),
				"a bit flipped": append(bytes.Clone(wrapped[:40]), append([]byte{wrapped[40] ^ 1}, wrapped[41:]...)...),
			} {
				if _, err := hsm.New(o).Unwrap(changed); !errors.Is(err, hsm.ErrOtherKey) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// Each failure is distinguished, names what the configuration names, and never the PIN.
func TestFailures(t *testing.T) {
	hsmtest.NewToken(t, "vault")
	hsmtest.NewAES(t, "unseal", true)
	hsmtest.NewAES(t, "twice", true)
	hsmtest.NewAES(t, "twice", true)
	hsmtest.NewAES(t, "one-way", false)
	hsmtest.NewRSA(t, "pair")
	wrapped := mustWrap(t, options(t), []byte("secret"))
	for name, c := range map[string]struct {
		change func(*hsm.Options)
		want   error
		text   string
	}{
		"no library":            {func(o *hsm.Options) { o.Module = "/none.so" }, hsm.ErrModule, "/none.so"},
		"no token":              {func(o *hsm.Options) { o.TokenLabel = "other" }, hsm.ErrToken, `"other"`},
		"no key":                {func(o *hsm.Options) { o.KeyLabel = "other" }, hsm.ErrKey, `"other"`},
		"two keys":              {func(o *hsm.Options) { o.KeyLabel = "twice" }, hsm.ErrKey, "2 AES"},
		"a wrong PIN":           {func(o *hsm.Options) { o.PIN = "wrong-pin" }, hsm.ErrPIN, "CKR_PIN_INCORRECT"},
		"a key of another kind": {func(o *hsm.Options) { o.KeyLabel = "pair" }, hsm.ErrOtherKey, `"pair"`},
	} {
		o := options(t)
		c.change(&o)
		_, err := hsm.New(o).Unwrap(wrapped)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), o.PIN) {
			t.Errorf("%s: %v", name, err)
		}
	}
	oneWay := options(t)
	oneWay.KeyLabel = "one-way"
	if _, err := hsm.New(oneWay).Wrap([]byte("secret")); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("a key that only encrypts: %v", err)
	}
	if got, err := hsm.New(options(t)).Unwrap(wrapped); err != nil || string(got) != "secret" {
		t.Errorf("afterwards: %v", err)
	}
	// The same labels in another token mean another key.
	hsmtest.NewToken(t, "vault")
	hsmtest.NewAES(t, "unseal", true)
	if _, err := hsm.New(options(t)).Unwrap(wrapped); !errors.Is(err, hsm.ErrOtherKey) {
		t.Errorf("another token: %v", err)
	}
}
