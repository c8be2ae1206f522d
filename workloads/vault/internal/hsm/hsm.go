// SPDX-License-Identifier: Apache-2.0

// Package hsm wraps Vault's unseal secret by a key that never leaves a PKCS #11 token: an HSM.
package hsm

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Sentinel errors, for errors.Is. Their texts reveal nothing of the configuration: anyone can read them in the status.
var (
	// ErrUnsupported: the program was built without cgo, which PKCS #11 needs.
	ErrUnsupported = errors.New("this build has no PKCS#11: build the image with CGO_ENABLED=1 and the library of the HSM, as docs/pkcs11.md says")
	// ErrModule: the library cannot be loaded, or fails.
	ErrModule = errors.New("the PKCS#11 library cannot be used")
	// ErrToken: there is no token with the label, or more than one.
	ErrToken = errors.New("the PKCS#11 token was not found")
	// ErrPIN: the token refuses the PIN. It is not retried: a token locks after some wrong ones.
	ErrPIN = errors.New("the PKCS#11 token refuses the PIN")
	// ErrKey: the token has no usable key with the label, or more than one.
	ErrKey = errors.New("the PKCS#11 token has no usable key with the label")
	// ErrOtherKey: the wrapped secret does not open: it was wrapped by another key, or for another Vault.
	ErrOtherKey = errors.New("the PKCS#11 key does not open the wrapped unseal secret: it was wrapped by another key, or for another vault")
)

// Options select the key that wraps.
type Options struct {
	Module     string // path of the library
	TokenLabel string
	KeyLabel   string
	PIN        string
	// Context is what a wrapped secret is bound to: it opens for no other.
	Context string
}

// Token wraps secrets by one key. It is safe for concurrent use: calls run one at a time, each with a session of its own.
type Token interface {
	// Wrap encrypts a secret, and verifies that the key can open it again.
	Wrap(secret []byte) ([]byte, error)
	// Unwrap opens a wrapped secret; the caller zeroes it.
	Unwrap(wrapped []byte) ([]byte, error)
}

// bound prepends the context to a secret, and unbound checks and removes it: not every mechanism supports additional
// data.
func bound(context string, secret []byte) []byte {
	sum := sha256.Sum256([]byte("itechsmart vault unseal secret\x00" + context))
	return append(sum[:], secret...)
}

func unbound(context string, plaintext []byte) ([]byte, error) {
	want := bound(context, nil)
	if len(plaintext) <= len(want) || subtle.ConstantTimeCompare(plaintext[:len(want)], want) != 1 {
		clear(plaintext)
		return nil, ErrOtherKey
	}
	return plaintext[len(want):], nil
}

// failed wraps the token's response in a sentinel.
func failed(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", kind, fmt.Errorf(format, args...))
}
