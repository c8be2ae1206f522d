// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// Overhead is how much longer a ciphertext is than its plaintext: the nonce, 96 bits, and the tag, 128.
const Overhead = 12 + 16

// Chunk identifies one part of a content: a content that is too large for one ciphertext is sealed in parts, as the
// STREAM construction does. Each is bound to its number and whether it is the last, so that none can be moved, left out,
// repeated or cut off.
type Chunk struct {
	Binding
	// Content is the id of one upload: a part of another, abandoned upload of the same version does not open.
	Content string
	Number  int64 // from 0
	Last    bool
}

func (c Chunk) bytes() []byte {
	last := []byte{0}
	if c.Last {
		last[0] = 1
	}
	return tuple([]byte("chunk"), c.Binding.bytes(), []byte(c.Content), number(c.Number), last)
}

// SealChunk encrypts one part, under a nonce of its own.
func (k *DataKey) SealChunk(c Chunk, plaintext []byte) ([]byte, error) {
	return k.seal(plaintext, c.bytes())
}

// OpenChunk decrypts one part; ErrOpen. The caller zeroes the plaintext.
func (k *DataKey) OpenChunk(c Chunk, ciphertext []byte) ([]byte, error) {
	return k.open(ciphertext, c.bytes())
}

// ContentMAC returns a MAC to write a field's content to, for one that is too large for memory. It never equals a MAC of
// DataKey.MAC.
func (k *DataKey) ContentMAC(field string) (hash.Hash, error) {
	if k.key == nil {
		return nil, ErrClosed
	}
	mac := hmac.New(sha256.New, k.key)
	mac.Write(tuple([]byte("content"), []byte(field)))
	return mac, nil
}
