// SPDX-License-Identifier: Apache-2.0

// Package keyring is Vault's cryptography: a passphrase derives the root key (PBKDF2), the root key derives a key per
// namespace (HKDF), which wraps a random data-encryption key per secret (AES-256-GCM), which encrypts values (AES-256-GCM
// bound to their place). It uses only the standard library, so that Go's FIPS 140-3 mode applies.
package keyring

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

const (
	// Iterations of PBKDF2-SHA256 (OWASP's figure for 2023 and later).
	Iterations = 600_000
	// KeyBytes is the length of every key: AES-256.
	KeyBytes = 32

	saltBytes = 32
)

// Sentinel errors, for errors.Is.
var (
	// ErrPassphrase: the check value does not match the passphrase (or the secret of the shares).
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrOpen: a ciphertext does not open: another key, another place, truncated or modified.
	ErrOpen = errors.New("ciphertext does not open")
	// ErrUnknownKey: no key with this id is in the keyring.
	ErrUnknownKey = errors.New("unknown key id")
	// ErrClosed: the key was zeroed.
	ErrClosed = errors.New("key is closed")
)

// Params are stored for each generation of the root key. None of it is secret.
type Params struct {
	ID         string
	Generation int64 // 1 for the first
	Salt       []byte
	Iterations int
	// Check is an HMAC of the other fields under a key that is derived from the root key.
	Check []byte
}

// NewRoot derives a new generation of the root key from a passphrase and a new salt.
func NewRoot(passphrase []byte, generation int64) (*Root, Params, error) {
	return NewRootIterations(passphrase, generation, Iterations)
}

// NewRootIterations is NewRoot with another cost, for tests.
func NewRootIterations(passphrase []byte, generation int64, iterations int) (*Root, Params, error) {
	if len(passphrase) == 0 {
		return nil, Params{}, errors.New("the passphrase is empty")
	}
	p := Params{Generation: generation, Salt: make([]byte, saltBytes), Iterations: iterations}
	_, _ = rand.Read(p.Salt) // never fails
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix)
	p.ID = fmt.Sprintf("root-%d-%s", generation, hex.EncodeToString(suffix))
	root, err := derive(passphrase, p)
	if err != nil {
		return nil, Params{}, err
	}
	if p.Check, err = root.check(p); err != nil {
		return nil, Params{}, err
	}
	return root, p, nil
}

// OpenRoot derives a stored generation of the root key; ErrPassphrase.
func OpenRoot(passphrase []byte, p Params) (*Root, error) {
	root, err := derive(passphrase, p)
	if err != nil {
		return nil, err
	}
	if err := root.verify(p); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

func derive(passphrase []byte, p Params) (*Root, error) {
	// The string is a copy that cannot be zeroed: crypto/pbkdf2 accepts nothing else.
	key, err := pbkdf2.Key(sha256.New, string(passphrase), p.Salt, p.Iterations, KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive root key: %w", err)
	}
	return newRoot(p, key), nil
}

// check returns the check value of params under this root.
func (r *Root) check(p Params) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key == nil {
		return nil, ErrClosed
	}
	key, err := expand(r.key, "check", nil)
	if err != nil {
		return nil, err
	}
	defer Zero(key)
	mac := hmac.New(sha256.New, key)
	mac.Write(tuple([]byte(p.ID), number(p.Generation), p.Salt, number(int64(p.Iterations))))
	return mac.Sum(nil), nil
}

func (r *Root) verify(p Params) error {
	want, err := r.check(p)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, p.Check) {
		return ErrPassphrase
	}
	return nil
}

// expand derives a key for one use from the root key, which is uniform: HKDF needs no salt.
func expand(key []byte, use string, context []byte) ([]byte, error) {
	info := tuple([]byte("itechsmart.vault.v1"), []byte(use), context)
	out, err := hkdf.Key(sha256.New, key, nil, string(info), KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive %s key: %w", use, err)
	}
	return out, nil
}

// tuple encodes fields with their lengths, so that no two tuples have the same encoding.
func tuple(fields ...[]byte) []byte {
	size := 0
	for _, f := range fields {
		size += 4 + len(f)
	}
	out := make([]byte, 0, size)
	for _, f := range fields {
		out = binary.BigEndian.AppendUint32(out, uint32(len(f)))
		out = append(out, f...)
	}
	return out
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Zero overwrites secret bytes. Copies made by the runtime or a cipher cannot be reached.
func Zero(b []byte) { clear(b) }
