// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // G505: some tokens know no other for OAEP, where it is no signature and stays safe
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// The first byte of a wrapped secret is the mechanism.
const (
	byAES       = 1 // AES-GCM: the nonce, and the ciphertext with its tag
	byRSASHA256 = 2 // RSA-OAEP with SHA-256
	byRSASHA1   = 3 // RSA-OAEP with SHA-1
)

const (
	nonceBytes = 12
	tagBits    = 128
)

// session is a login with its key.
type session struct {
	library *pkcs11.Ctx
	handle  pkcs11.SessionHandle
	label   string

	key pkcs11.ObjectHandle // an AES key, or an RSA private key
	rsa bool
}

func (s *session) find(class, keyType uint) ([]pkcs11.ObjectHandle, error) {
	err := s.library.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType), pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.label),
	})
	if err != nil {
		return nil, failed(ErrModule, "find key %q: %w", s.label, err)
	}
	found, _, err := s.library.FindObjects(s.handle, 2)
	if err = errors.Join(err, s.library.FindObjectsFinal(s.handle)); err != nil {
		return nil, failed(ErrModule, "find key %q: %w", s.label, err)
	}
	return found, nil
}

// findKey finds the one AES or RSA key with the label.
func (s *session) findKey() error {
	symmetric, err := s.find(pkcs11.CKO_SECRET_KEY, pkcs11.CKK_AES)
	if err != nil {
		return err
	}
	private, err := s.find(pkcs11.CKO_PRIVATE_KEY, pkcs11.CKK_RSA)
	if err != nil {
		return err
	}
	if len(symmetric)+len(private) != 1 {
		return failed(ErrKey, "the token has %d AES and %d RSA private keys with the label %q, and one key is needed", len(symmetric), len(private), s.label)
	}
	if s.rsa = len(private) == 1; s.rsa {
		s.key = private[0]
	} else {
		s.key = symmetric[0]
	}
	return nil
}

// wrap encrypts with the first mechanism that the key can also decrypt.
func (s *session) wrap(plaintext []byte) ([]byte, error) {
	ways := []byte{byAES}
	if s.rsa {
		ways = []byte{byRSASHA256, byRSASHA1}
	}
	var failures []error
	for _, way := range ways {
		wrapped, err := s.wrapBy(way, plaintext)
		if err == nil {
			var opened []byte
			if opened, err = s.unwrap(wrapped); err == nil && bytes.Equal(opened, plaintext) {
				clear(opened)
				return wrapped, nil
			}
		}
		failures = append(failures, err)
	}
	return nil, failed(ErrKey, "key %q does not encrypt and decrypt by AES-GCM or RSA-OAEP: %w", s.label, errors.Join(failures...))
}

func (s *session) wrapBy(way byte, plaintext []byte) ([]byte, error) {
	if way == byAES {
		return s.encrypt(plaintext)
	}
	key, err := s.public()
	if err != nil {
		return nil, err
	}
	hash := crypto.SHA256
	if way == byRSASHA1 {
		hash = crypto.SHA1
	}
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, key, plaintext, nil)
	return append([]byte{way}, ciphertext...), err
}

// encrypt encrypts in the token. Some tokens choose the nonce themselves, and return it afterwards.
func (s *session) encrypt(plaintext []byte) ([]byte, error) {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails
	parameters := pkcs11.NewGCMParams(nonce, nil, tagBits)
	defer parameters.Free()
	if err := s.library.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, parameters)}, s.key); err != nil {
		return nil, err
	}
	ciphertext, err := s.library.Encrypt(s.handle, plaintext)
	if err != nil {
		return nil, err
	}
	if own := parameters.IV(); len(own) == nonceBytes {
		nonce = own
	}
	return append(append([]byte{byAES}, nonce...), ciphertext...), nil
}

// public returns the RSA key's public half: from the object of the same label, or from the private key, where most tokens
// have it.
func (s *session) public() (*rsa.PublicKey, error) {
	from := s.key
	if found, err := s.find(pkcs11.CKO_PUBLIC_KEY, pkcs11.CKK_RSA); err == nil && len(found) == 1 {
		from = found[0]
	}
	attributes, err := s.library.GetAttributeValue(s.handle, from, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil),
	})
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	exponent := make([]byte, 8)
	if n := len(attributes[1].Value); n == 0 || n > 4 {
		return nil, errors.New("read the public key: its exponent is too large")
	}
	copy(exponent[8-len(attributes[1].Value):], attributes[1].Value)
	return &rsa.PublicKey{N: new(big.Int).SetBytes(attributes[0].Value), E: int(binary.BigEndian.Uint64(exponent))}, nil
}

// unwrap decrypts in the token. A key that decrypts other data but refuses this is another key.
func (s *session) unwrap(wrapped []byte) ([]byte, error) {
	if len(wrapped) < 1+sha256.Size {
		return nil, ErrOtherKey
	}
	way, ciphertext := wrapped[0], wrapped[1:]
	var mechanism *pkcs11.Mechanism
	switch {
	case way == byAES && !s.rsa:
		parameters := pkcs11.NewGCMParams(ciphertext[:nonceBytes], nil, tagBits)
		defer parameters.Free()
		mechanism, ciphertext = pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, parameters), ciphertext[nonceBytes:]
	case way == byRSASHA256 && s.rsa:
		mechanism = oaep(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256)
	case way == byRSASHA1 && s.rsa:
		mechanism = oaep(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1)
	default:
		return nil, failed(ErrOtherKey, "key %q is of another kind than the one that wrapped it", s.label)
	}
	if err := s.library.DecryptInit(s.handle, []*pkcs11.Mechanism{mechanism}, s.key); err != nil {
		return nil, failed(ErrKey, "key %q does not decrypt: %w", s.label, err)
	}
	plaintext, err := s.library.Decrypt(s.handle, ciphertext)
	if err != nil {
		return nil, failed(ErrOtherKey, "key %q: %w", s.label, err)
	}
	return plaintext, nil
}

func oaep(hash, mask uint) *pkcs11.Mechanism {
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(hash, mask, pkcs11.CKZ_DATA_SPECIFIED, nil))
}
