// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Binding is the place of a ciphertext: it opens nowhere else.
type Binding struct {
	Namespace string
	Path      string
	Version   int64
	Type      string
}

func (b Binding) bytes() []byte {
	return tuple([]byte(b.Namespace), []byte(b.Path), number(b.Version), []byte(b.Type))
}

// Purposes of a data key.
const (
	PurposeSecret  = "secret"  // encrypts a secret's values
	PurposeMAC     = "mac"     // compares a namespace's values
	PurposeSealing = "sealing" // is the private key that sealed values open with
)

// Label identifies a data key: a wrapped key opens under no other label.
type Label struct {
	ID        string
	Namespace string
	Purpose   string
	Subject   string // the secret's path, the sealing key's id
}

func (l Label) bytes(root string) []byte {
	return tuple([]byte(root), []byte(l.ID), []byte(l.Namespace), []byte(l.Purpose), []byte(l.Subject))
}

// DataKey is a random key of 32 bytes. Close it after use.
type DataKey struct{ key []byte }

// NewDataKey returns a random key.
func NewDataKey() *DataKey {
	k := &DataKey{key: make([]byte, KeyBytes)}
	_, _ = rand.Read(k.key) // never fails
	return k
}

// DataKeyOf returns a key of 32 existing bytes, and takes ownership of them.
func DataKeyOf(key []byte) (*DataKey, error) {
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("a data key has %d bytes, not %d", KeyBytes, len(key))
	}
	return &DataKey{key: key}, nil
}

// Wrap encrypts a data key under its namespace's key.
func (r *Root) Wrap(label Label, k *DataKey) ([]byte, error) {
	aead, err := r.namespace(label.Namespace)
	if err != nil {
		return nil, err
	}
	if k.key == nil {
		return nil, ErrClosed
	}
	return encrypt(aead, k.key, label.bytes(r.id)), nil
}

// Unwrap opens a wrapped data key; ErrOpen.
func (r *Root) Unwrap(label Label, wrapped []byte) (*DataKey, error) {
	aead, err := r.namespace(label.Namespace)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, wrapped, label.bytes(r.id))
	if err != nil || len(key) != KeyBytes {
		return nil, fmt.Errorf("data key %s under root key %s: %w", label.ID, r.id, ErrOpen)
	}
	return &DataKey{key: key}, nil
}

// Seal encrypts a value for one binding.
func (k *DataKey) Seal(b Binding, plaintext []byte) ([]byte, error) {
	return k.seal(plaintext, b.bytes())
}

// Open decrypts a value of a binding; ErrOpen. The caller zeroes the plaintext.
func (k *DataKey) Open(b Binding, ciphertext []byte) ([]byte, error) {
	return k.open(ciphertext, b.bytes())
}

func (k *DataKey) seal(plaintext, additional []byte) ([]byte, error) {
	if k.key == nil {
		return nil, ErrClosed
	}
	aead, err := newAEAD(k.key)
	if err != nil {
		return nil, err
	}
	return encrypt(aead, plaintext, additional), nil
}

func (k *DataKey) open(ciphertext, additional []byte) ([]byte, error) {
	if k.key == nil {
		return nil, ErrClosed
	}
	aead, err := newAEAD(k.key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, ciphertext, additional)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// MAC returns the HMAC-SHA256 of fields under this key; no two lists of fields collide.
func (k *DataKey) MAC(fields ...[]byte) ([]byte, error) {
	if k.key == nil {
		return nil, ErrClosed
	}
	mac := hmac.New(sha256.New, k.key)
	written := tuple(fields...)
	defer Zero(written)
	mac.Write(written)
	return mac.Sum(nil), nil
}

// Bytes returns the key itself, which still owns them: for a private key.
func (k *DataKey) Bytes() []byte { return k.key }

// Close zeroes the key.
func (k *DataKey) Close() {
	Zero(k.key)
	k.key = nil
}
