// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Shamir's secret sharing over GF(2^8) with AES's polynomial, as draft-mcgrew-tss-03 has it: a polynomial of degree
// threshold-1 per byte of the secret, whose value at 0 is that byte.

// UnsealSecretBytes is the length of the random secret that is split into shares, in place of a passphrase.
const UnsealSecretBytes = 32

// ErrShare means that a text is not a share, or shares do not belong together.
var ErrShare = errors.New("invalid share")

// Share is one point of the polynomials.
type Share struct {
	// Set identifies a split; shares of different splits do not combine.
	Set       [4]byte
	Threshold int
	X         byte // 1 to 255
	Y         []byte
}

// Split divides a secret into shares, of which any threshold restore it and fewer reveal nothing. Threshold is 2 to
// shares, shares at most 255.
func Split(secret []byte, shares, threshold int) ([]Share, error) {
	if len(secret) == 0 || threshold < 2 || shares < threshold || shares > 255 {
		return nil, fmt.Errorf("%d of %d shares of a secret of %d bytes: %w", threshold, shares, len(secret), ErrShare)
	}
	var set [4]byte
	_, _ = rand.Read(set[:])
	out := make([]Share, shares)
	for i := range out {
		out[i] = Share{Set: set, Threshold: threshold, X: byte(i + 1), Y: make([]byte, len(secret))}
	}
	coefficients := make([]byte, threshold)
	defer Zero(coefficients)
	for at, b := range secret {
		_, _ = rand.Read(coefficients)
		coefficients[0] = b
		for i := range out {
			out[i].Y[at] = polynomial(coefficients, out[i].X)
		}
	}
	return out, nil
}

// Combine restores the secret. Too few or wrong shares of one set return a wrong secret, which only a check value
// detects; ErrShare if they cannot belong together.
func Combine(shares []Share) ([]byte, error) {
	if len(shares) < 2 {
		return nil, fmt.Errorf("%d shares: %w", len(shares), ErrShare)
	}
	xs := make([]byte, len(shares))
	for i, s := range shares {
		switch first := shares[0]; {
		case s.X == 0 || slices.Contains(xs[:i], s.X):
			return nil, fmt.Errorf("share %d is duplicated: %w", s.X, ErrShare)
		case s.Set != first.Set || s.Threshold != first.Threshold || len(s.Y) != len(first.Y):
			return nil, fmt.Errorf("shares of different secrets: %w", ErrShare)
		}
		xs[i] = s.X
	}
	secret := make([]byte, len(shares[0].Y))
	for i, s := range shares {
		weight := lagrange(xs, i)
		for at, y := range s.Y {
			secret[at] ^= multiply(y, weight)
		}
	}
	return secret, nil
}

// lagrange returns the i-th basis polynomial at 0.
func lagrange(xs []byte, i int) byte {
	weight := byte(1)
	for j, x := range xs {
		if j != i {
			weight = multiply(weight, multiply(x, invert(x^xs[i])))
		}
	}
	return weight
}

// polynomial returns its value at x, by Horner's rule.
func polynomial(coefficients []byte, x byte) byte {
	var y byte
	for i := len(coefficients) - 1; i >= 0; i-- {
		y = multiply(y, x) ^ coefficients[i]
	}
	return y
}

// multiply in GF(2^8) takes the same time and touches the same memory for all operands.
func multiply(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// invert returns a^254, since a^255 is 1; 0 for 0.
func invert(a byte) byte {
	result := byte(1)
	for range 7 { // 254 = 0b11111110
		a = multiply(a, a)
		result = multiply(result, a)
	}
	return result
}

const (
	sharePrefix = "vshare1."
	maxShare    = 512 // characters
)

// String returns the share as text, with a checksum against typing errors.
func (s Share) String() string {
	body := append(s.Set[:len(s.Set):len(s.Set)], byte(s.Threshold), s.X)
	body = append(body, s.Y...)
	defer Zero(body)
	sum := sha256.Sum256(body)
	return sharePrefix + base64.RawURLEncoding.EncodeToString(append(body, sum[:4]...))
}

// ParseShare parses String's text; ErrShare. The error never contains the text.
func ParseShare(text string) (Share, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), sharePrefix)
	if !ok || len(rest) > maxShare || strings.ContainsAny(rest, "\r\n") {
		return Share{}, fmt.Errorf("it does not start with %s or is too long: %w", sharePrefix, ErrShare)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(data) < 4+2+1+4 {
		return Share{}, fmt.Errorf("it is truncated or not base64url: %w", ErrShare)
	}
	body, checksum := data[:len(data)-4], data[len(data)-4:]
	sum := sha256.Sum256(body)
	if subtle.ConstantTimeCompare(sum[:4], checksum) != 1 {
		return Share{}, fmt.Errorf("its checksum is wrong: %w", ErrShare)
	}
	s := Share{Set: [4]byte(body[:4]), Threshold: int(body[4]), X: body[5], Y: body[6:]}
	if s.X == 0 || s.Threshold < 2 {
		return Share{}, fmt.Errorf("its numbers are out of range: %w", ErrShare)
	}
	return s, nil
}
