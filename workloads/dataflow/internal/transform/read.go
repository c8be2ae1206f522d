// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"bytes"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/tree"
)

// read finds a field; while the record is bytes nothing else is decoded, and malformed JSON after the field is
// not noticed.
func (f field) read(r *record.Record) (value any, found bool, err error) {
	raw, isRaw := r.Raw()
	if !isRaw || r.Decoded() || !f.plain() || !looksLikeObject(raw) {
		object, err := r.Object()
		if err != nil {
			return nil, false, err
		}
		value, found = f.get(object)
		return value, found, nil
	}
	result := gjson.Get(unsafe.String(unsafe.SliceData(raw), len(raw)), f.text)
	if !result.Exists() {
		if !gjson.ValidBytes(raw) {
			return nil, false, record.ErrNotJSON
		}
		return nil, false, nil
	}
	return scanned(result)
}

// plain reports whether gjson reads the path in the same way.
func (f field) plain() bool {
	for i := 0; i < len(f.text); i++ {
		c := f.text[i]
		if c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func looksLikeObject(raw []byte) bool {
	trimmed := bytes.TrimSpace(raw)
	return len(trimmed) > 1 && trimmed[0] == '{' && trimmed[len(trimmed)-1] == '}'
}

// scanned converts a scan's result to the types of a decoded record.
func scanned(result gjson.Result) (any, bool, error) {
	switch result.Type {
	case gjson.Null:
		return nil, true, nil
	case gjson.True:
		return true, true, nil
	case gjson.False:
		return false, true, nil
	case gjson.String:
		if !utf8.ValidString(result.Str) {
			return nil, false, record.ErrNotUTF8
		}
		return result.Str, true, nil
	case gjson.Number:
		if whole, err := strconv.ParseInt(result.Raw, 10, 64); err == nil {
			return whole, true, nil
		}
	}
	value, err := record.Decode([]byte(result.Raw))
	return value, err == nil, err
}

// jsonText returns a value as JSON text; equal values have equal text.
func jsonText(value any) (any, error) {
	data, err := tree.Append(nil, value)
	return string(data), err
}

// canonical returns any value as text; two values of one JSON type have equal text if they are equal.
func canonical(value any) (string, error) {
	if text, ok := value.(string); ok {
		return text, nil
	}
	data, err := tree.Append(nil, value)
	return string(data), err
}
