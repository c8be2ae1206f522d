// SPDX-License-Identifier: Apache-2.0

// Package seal encrypts values so that they are safe to commit: to the service's public key with HPKE (RFC 9180: DHKEM
// X25519, HKDF-SHA256, AES-256-GCM), bound to the namespace and name of their resource.
package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	vault "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

const (
	// Prefix starts every sealed value: "vsec1.<key id>.<base64url>".
	Prefix = "vsec1."
	// KeyBytes is the length of public and of private keys.
	KeyBytes = 32
	// MaxText limits the text of a sealed value, in characters.
	MaxText = (material.MaxEncoded+KeyBytes+16+2)/3*4 + len(Prefix) + idChars + 1

	idChars = 16
	info    = "itechsmart.vault.sealed.v1"
)

// Sentinel errors, for errors.Is.
var (
	// ErrText: the text is not a sealed value.
	ErrText = errors.New("not a sealed value")
	// ErrOpen: forged, truncated, sealed to another key, or for another namespace or name.
	ErrOpen = errors.New("the sealed value does not open")
)

var idForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Binding is the resource that a sealed value is for.
type Binding struct{ Namespace, Name string }

func (b Binding) bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(b.Namespace)))
	return append(append(out, b.Namespace...), b.Name...)
}

// KeyID returns the id of a public key: the first 8 bytes of its SHA-256, in hexadecimal.
func KeyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:idChars/2])
}

// NewKey generates a key pair. The caller zeroes the private key.
func NewKey() (private, public []byte, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate sealing key: %w", err)
	}
	return key.Bytes(), key.PublicKey().Bytes(), nil
}

// Seal encrypts a value to a public key of 32 bytes.
func Seal(public []byte, binding Binding, value vault.Value) (string, error) {
	key, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("sealing key: %w", err)
	}
	recipient, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("sealing key: %w", err)
	}
	plaintext, err := material.Encode(value)
	if err != nil {
		return "", err
	}
	defer clear(plaintext)
	id := KeyID(public)
	encapsulated, sender, err := hpke.NewSender(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info+"\x00"+id))
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	ciphertext, err := sender.Seal(binding.bytes(), plaintext)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	return Prefix + id + "." + base64.RawURLEncoding.EncodeToString(append(encapsulated, ciphertext...)), nil
}

// Parse splits a sealed value into the id of its key and its bytes; ErrText.
func Parse(text string) (keyID string, sealed []byte, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return "", nil, fmt.Errorf("it does not start with %s: %w", Prefix, ErrText)
	}
	if len(text) > MaxText {
		return "", nil, fmt.Errorf("it has more than %d characters: %w", MaxText, ErrText)
	}
	keyID, body, ok := strings.Cut(rest, ".")
	if !ok || !idForm.MatchString(keyID) {
		return "", nil, fmt.Errorf("its key id is not 16 hexadecimal digits: %w", ErrText)
	}
	// The decoder would skip line breaks, so that two texts would be the same value.
	if strings.ContainsAny(body, "\r\n") {
		return "", nil, fmt.Errorf("it is not base64url: %w", ErrText)
	}
	sealed, err = base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return "", nil, fmt.Errorf("it is not base64url: %w", ErrText)
	}
	if len(sealed) < KeyBytes+16 {
		return "", nil, fmt.Errorf("it is truncated: %w", ErrText)
	}
	return keyID, sealed, nil
}

// Open decrypts the bytes of Parse with the private key that keyID names; ErrOpen.
func Open(private []byte, keyID string, binding Binding, sealed []byte) (vault.Value, error) {
	if len(sealed) < KeyBytes {
		return nil, fmt.Errorf("it is truncated: %w", ErrText)
	}
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", keyID, err)
	}
	opener, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", keyID, err)
	}
	recipient, err := hpke.NewRecipient(sealed[:KeyBytes], opener, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info+"\x00"+keyID))
	if err != nil {
		return nil, ErrOpen
	}
	plaintext, err := recipient.Open(binding.bytes(), sealed[KeyBytes:])
	if err != nil {
		return nil, ErrOpen
	}
	defer clear(plaintext)
	value, err := material.Decode(plaintext)
	if err != nil {
		return nil, fmt.Errorf("the content is not a value: %w", ErrOpen)
	}
	return value, nil
}
