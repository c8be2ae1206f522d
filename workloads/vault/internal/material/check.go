// SPDX-License-Identifier: Apache-2.0

package material

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// shape lists the required and optional fields of a type.
type shape struct{ required, optional []string }

var shapes = map[string]shape{
	vault.TypeText:        {required: []string{vault.FieldText}},
	vault.TypeFile:        {required: []string{vault.FieldFile}, optional: []string{vault.FieldFilename}},
	vault.TypeCertificate: {required: []string{vault.FieldCertificate, vault.FieldPrivateKey}, optional: []string{vault.FieldCA}},
	vault.TypeAPIKey:      {required: []string{vault.FieldKey}, optional: []string{vault.FieldID}},
}

// IsType reports whether the type of secret exists.
func IsType(secretType string) bool { _, ok := shapes[secretType]; return ok }

// Check refuses a value that does not match its type, with a FieldError. The expiry is a certificate's; nil: none.
func Check(secretType string, v vault.Value) (expiresAt *time.Time, err error) {
	s, ok := shapes[secretType]
	if !ok {
		return nil, Invalid("type", "must be Text, File, Certificate or APIKey")
	}
	for _, name := range s.required {
		if len(v[name]) == 0 && (secretType != vault.TypeFile || v[name] == nil) {
			return nil, Invalid("value."+name, "%s needs it", secretType)
		}
	}
	for name := range v {
		if !slices.Contains(s.required, name) && !slices.Contains(s.optional, name) {
			// The unknown name is not quoted: it may be a value that was put in the wrong place.
			return nil, Invalid("value", "%s has only the fields %s", secretType, strings.Join(slices.Concat(s.required, s.optional), ", "))
		}
	}
	if Size(v) > vault.MaxValueBytes {
		return nil, Invalid("value", "must have at most %d bytes", vault.MaxValueBytes)
	}
	return checkContent(secretType, v)
}

func checkContent(secretType string, v vault.Value) (*time.Time, error) {
	switch secretType {
	case vault.TypeText:
		if !utf8.Valid(v[vault.FieldText]) {
			return nil, Invalid("value."+vault.FieldText, "must be UTF-8; File accepts any bytes")
		}
	case vault.TypeFile:
		return nil, CheckFilename("value."+vault.FieldFilename, string(v[vault.FieldFilename]))
	case vault.TypeAPIKey:
		for _, field := range []string{vault.FieldKey, vault.FieldID} {
			if !visible(v[field]) {
				return nil, Invalid("value."+field, "must have at most 8192 visible ASCII characters, no spaces")
			}
		}
	case vault.TypeCertificate:
		leaf, err := checkCertificate(v)
		if err != nil {
			return nil, err
		}
		return &leaf.NotAfter, nil
	}
	return nil, nil
}

// CheckFilename refuses an invalid name of a file; empty is none. The error names the field.
func CheckFilename(field, name string) error {
	strange := func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }
	if len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, strange) || name == "." || name == ".." {
		return Invalid(field, "must be one name of at most 255 bytes, without directories")
	}
	return nil
}

// visible reports whether the bytes are allowed in a header.
func visible(data []byte) bool {
	return len(data) <= 8192 && !slices.ContainsFunc(data, func(b byte) bool { return b <= ' ' || b >= 0x7f })
}
