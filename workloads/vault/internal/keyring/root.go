// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"sync"
)

// Root is one generation of the root key, held only in memory. It is safe for concurrent use.
type Root struct {
	id         string
	generation int64

	mu         sync.Mutex
	key        []byte // nil: closed
	namespaces map[string]cipher.AEAD
}

func newRoot(p Params, key []byte) *Root {
	return &Root{id: p.ID, generation: p.Generation, key: key, namespaces: map[string]cipher.AEAD{}}
}

// ID returns the id of the generation.
func (r *Root) ID() string { return r.id }

// Generation returns its number, from 1.
func (r *Root) Generation() int64 { return r.generation }

// Close zeroes the key.
func (r *Root) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	Zero(r.key)
	r.key = nil
	clear(r.namespaces)
}

// WrapRoot encrypts another generation under this one, so that it can be reached from this one.
func (r *Root) WrapRoot(other *Root) ([]byte, error) {
	aead, err := r.aead("root", nil)
	if err != nil {
		return nil, err
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if other.key == nil {
		return nil, ErrClosed
	}
	return encrypt(aead, other.key, r.rootBinding(other.id, other.generation)), nil
}

// UnwrapRoot opens a wrapped generation; ErrOpen, ErrPassphrase if it is not the generation that p describes.
func (r *Root) UnwrapRoot(wrapped []byte, p Params) (*Root, error) {
	aead, err := r.aead("root", nil)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, wrapped, r.rootBinding(p.ID, p.Generation))
	if err != nil || len(key) != KeyBytes {
		return nil, fmt.Errorf("root key %s under %s: %w", p.ID, r.id, ErrOpen)
	}
	root := newRoot(p, key)
	if err := root.verify(p); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

func (r *Root) rootBinding(id string, generation int64) []byte {
	return tuple([]byte(r.id), []byte(id), number(generation))
}

// namespace returns the cipher of a namespace's key, which wraps that namespace's data keys.
func (r *Root) namespace(name string) (cipher.AEAD, error) {
	r.mu.Lock()
	known := r.namespaces[name]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	aead, err := r.aead("namespace", []byte(name))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key == nil {
		return nil, ErrClosed
	}
	r.namespaces[name] = aead
	return aead, nil
}

func (r *Root) aead(use string, context []byte) (cipher.AEAD, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key == nil {
		return nil, ErrClosed
	}
	key, err := expand(r.key, use, context)
	if err != nil {
		return nil, err
	}
	defer Zero(key)
	return newAEAD(key)
}

// newAEAD returns AES-256-GCM with a random nonce of 96 bits before each ciphertext.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func encrypt(aead cipher.AEAD, plaintext, additional []byte) []byte {
	return aead.Seal(nil, nil, plaintext, additional) //nolint:gosec // the nonce is random, and newAEAD's cipher draws it
}

// Keyring holds the generations of the root key that are in use. It is safe for concurrent use.
type Keyring struct {
	mu     sync.RWMutex
	roots  map[string]*Root
	active *Root
}

// New returns a keyring of roots; the newest generation is active.
func New(roots ...*Root) *Keyring {
	k := &Keyring{roots: map[string]*Root{}}
	for _, r := range roots {
		k.Add(r)
	}
	return k
}

// Active returns the newest generation; ErrClosed if there is none.
func (k *Keyring) Active() (*Root, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.active == nil {
		return nil, ErrClosed
	}
	return k.active, nil
}

// Root returns the generation with an id; ErrUnknownKey.
func (k *Keyring) Root(id string) (*Root, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if r, ok := k.roots[id]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("root key %q: %w", id, ErrUnknownKey)
}

// Add adds a generation; the newest is active. A duplicate is closed.
func (k *Keyring) Add(r *Root) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known, ok := k.roots[r.id]; ok {
		if known != r {
			r.Close()
		}
		return
	}
	k.roots[r.id] = r
	if k.active == nil || r.generation > k.active.generation {
		k.active = r
	}
}

// Retain closes the generations for which keep returns false. The active one stays.
func (k *Keyring) Retain(keep func(id string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, r := range k.roots {
		if r != k.active && !keep(id) {
			r.Close()
			delete(k.roots, id)
		}
	}
}

// Close zeroes every key.
func (k *Keyring) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.roots {
		r.Close()
	}
	clear(k.roots)
	k.active = nil
}
