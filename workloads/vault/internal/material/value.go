// SPDX-License-Identifier: Apache-2.0

// Package material defines the values of secrets: it checks them by their type, and generates passwords, keys and
// certificates.
package material

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

const (
	maxFields    = 16
	maxFieldName = 253
	// MaxEncoded limits Encode's result, in bytes.
	MaxEncoded = vault.MaxValueBytes + 2 + maxFields*(2+maxFieldName+4)

	valueFormat = 1
)

// ErrEncoding means that bytes are not an encoded value.
var ErrEncoding = errors.New("not an encoded value")

// FieldError names the invalid field of a request. It never contains a value.
type FieldError struct {
	Field   string // as in the request: value.text, generate.length
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// Invalid returns a FieldError.
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// Encode encodes a value, identically for equal values: a format byte, the number of fields, and each field in the order
// of their names with lengths. The caller zeroes the bytes.
func Encode(v vault.Value) ([]byte, error) {
	size := 2
	for name, data := range v {
		if name == "" || len(name) > maxFieldName {
			return nil, Invalid("value", "a field's name must have 1 to %d characters", maxFieldName)
		}
		size += 2 + len(name) + 4 + len(data)
	}
	if len(v) > maxFields {
		return nil, Invalid("value", "must have at most %d fields", maxFields)
	}
	if Size(v) > vault.MaxValueBytes {
		return nil, Invalid("value", "must have at most %d bytes", vault.MaxValueBytes)
	}
	// Allocated at its full size: growing would leave copies of the plaintext behind.
	out := make([]byte, 0, size)
	out = append(out, valueFormat, byte(len(v)))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		out = binary.BigEndian.AppendUint16(out, uint16(len(name)))
		out = append(out, name...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(v[name])))
		out = append(out, v[name]...)
	}
	return out, nil
}

// Decode decodes a value into copies; ErrEncoding.
func Decode(data []byte) (vault.Value, error) {
	if len(data) == 0 || data[0] != valueFormat {
		return nil, ErrEncoding
	}
	return decodeFields(data[1:])
}

// decodeFields decodes what follows the format byte.
func decodeFields(data []byte) (vault.Value, error) {
	if len(data) < 1 || data[0] > maxFields {
		return nil, ErrEncoding
	}
	count, rest := int(data[0]), data[1:]
	v := make(vault.Value, count)
	last := ""
	for range count {
		name, after, ok := cut(rest, 2)
		if !ok || len(name) == 0 || len(name) > maxFieldName || string(name) <= last {
			return nil, ErrEncoding
		}
		content, after, ok := cut(after, 4)
		if !ok {
			return nil, ErrEncoding
		}
		last, rest = string(name), after
		v[last] = bytes.Clone(content)
		if v[last] == nil {
			v[last] = []byte{}
		}
	}
	if len(rest) != 0 || Size(v) > vault.MaxValueBytes {
		return nil, ErrEncoding
	}
	return v, nil
}

// cut splits off a field with a length of 2 or 4 bytes.
func cut(data []byte, lengthBytes int) (field, rest []byte, ok bool) {
	if len(data) < lengthBytes {
		return nil, nil, false
	}
	var length uint64
	for _, b := range data[:lengthBytes] {
		length = length<<8 | uint64(b)
	}
	data = data[lengthBytes:]
	if uint64(len(data)) < length {
		return nil, nil, false
	}
	return data[:length], data[length:], true
}

// Size returns the number of bytes of all fields.
func Size(v vault.Value) int {
	size := 0
	for _, data := range v {
		size += len(data)
	}
	return size
}

// Zero overwrites a value.
func Zero(v vault.Value) {
	for _, data := range v {
		clear(data)
	}
}
