// SPDX-License-Identifier: Apache-2.0

package material

import (
	"crypto/rand"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// Limits of Generate, in characters; the prefix is extra.
const (
	MinLength     = 8
	MaxLength     = 4096
	DefaultLength = 32
	maxPrefix     = 64
)

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	symbols = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

var charsets = map[string]string{
	"":             lower + upper + digits,
	"alphanumeric": lower + upper + digits,
	"alphabetic":   lower + upper,
	"numeric":      digits,
	"hex":          digits + "abcdef",
	"printable":    lower + upper + digits + symbols,
}

// CheckGenerate refuses an invalid recipe, with a FieldError.
func CheckGenerate(secretType string, g vault.Generate) error {
	if secretType != vault.TypeText && secretType != vault.TypeAPIKey {
		return Invalid("generate", "only Text and APIKey can be generated")
	}
	if g.Length != 0 && (g.Length < MinLength || g.Length > MaxLength) {
		return Invalid("generate.length", "must be %d to %d", MinLength, MaxLength)
	}
	if _, ok := charsets[g.Charset]; !ok {
		return Invalid("generate.charset", "must be alphanumeric, alphabetic, numeric, hex or printable")
	}
	if len(g.Prefix) > maxPrefix || !visible([]byte(g.Prefix)) {
		return Invalid("generate.prefix", "must have at most %d visible ASCII characters", maxPrefix)
	}
	return nil
}

// Generate returns a random value: each character is equally likely. The caller zeroes it.
func Generate(secretType string, g vault.Generate) (vault.Value, error) {
	if err := CheckGenerate(secretType, g); err != nil {
		return nil, err
	}
	length := g.Length
	if length == 0 {
		length = DefaultLength
	}
	out := make([]byte, len(g.Prefix)+length)
	copy(out, g.Prefix)
	fill(out[len(g.Prefix):], charsets[g.Charset])
	if secretType == vault.TypeAPIKey {
		return vault.Value{vault.FieldKey: out}, nil
	}
	return vault.Value{vault.FieldText: out}, nil
}

// fill draws characters without modulo bias: bytes beyond the largest multiple of the charset's size are drawn again.
func fill(out []byte, charset string) {
	limit := 256 - 256%len(charset)
	buffer := make([]byte, 256)
	defer clear(buffer)
	for at := 0; at < len(out); {
		_, _ = rand.Read(buffer) // never fails
		for _, b := range buffer {
			if int(b) < limit && at < len(out) {
				out[at] = charset[int(b)%len(charset)]
				at++
			}
		}
	}
}
