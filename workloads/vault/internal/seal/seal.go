// SPDX-License-Identifier: Apache-2.0

// Package seal encrypts values so that they are safe to commit: to the service's public key with HPKE (RFC 9180: DHKEM
// X25519, HKDF-SHA256, AES-256-GCM), bound to the namespace and the name of the resource that holds them.
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
	// Prefix begins every sealed value: "vsec1.<key id>.<base64url>".
	Prefix = "vsec1."
	// KeyBytes is the length of public and of private keys.
	KeyBytes = 32
	// MaxText bounds the text of a sealed value, in characters.
	MaxText = (material.MaxEncoded+KeyBytes+16+2)/3*4 + len(Prefix) + idChars + 1

	idChars = 16
	info    = "itechsmart.vault.sealed.v1"
)

// Sentinel errors; errors.Is decides.
var (
	// ErrText: the text is no sealed value.
	ErrText = errors.New("not a sealed value")
	// ErrOpen: forged, cut, sealed to another key, or for another namespace or name.
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

// NewKey makes a key pair. The caller zeroes the private key.
func NewKey() (private, public []byte, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make sealing key: %w", err)
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

// Parse takes a sealed value apart: the id of the key that it is sealed to, and its bytes; ErrText.
func Parse(text string) (keyID string, sealed []byte, err error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return "", nil, fmt.Errorf("it does not begin with %s: %w", Prefix, ErrText)
	}
	if len(text) > MaxText {
		return "", nil, fmt.Errorf("it has over %d characters: %w", MaxText, ErrText)
	}
	keyID, body, ok := strings.Cut(rest, ".")
	if !ok || !idForm.MatchString(keyID) {
		return "", nil, fmt.Errorf("its key id is not 16 hexadecimal digits: %w", ErrText)
	}
	// The decoder would skip line breaks: two texts would be one value.
	if strings.ContainsAny(body, "\r\n") {
		return "", nil, fmt.Errorf("it is not base64url: %w", ErrText)
	}
	sealed, err = base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return "", nil, fmt.Errorf("it is not base64url: %w", ErrText)
	}
	if len(sealed) < KeyBytes+16 {
		return "", nil, fmt.Errorf("it is cut: %w", ErrText)
	}
	return keyID, sealed, nil
}

// Open decrypts what Parse gave with the private key that keyID names; ErrOpen.
func Open(private []byte, keyID string, binding Binding, sealed []byte) (vault.Value, error) {
	if len(sealed) < KeyBytes {
		return nil, fmt.Errorf("it is cut: %w", ErrText)
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
		return nil, fmt.Errorf("what is sealed is no value: %w", ErrOpen)
	}
	return value, nil
}
