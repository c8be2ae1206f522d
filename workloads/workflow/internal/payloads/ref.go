// SPDX-License-Identifier: Apache-2.0

package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// field is the only field of a reference object.
const field = "$object"

// Ref refers to a value in the bucket.
type Ref struct {
	Key    string `json:"key"`
	Bytes  int    `json:"bytes"` // size of the JSON
	SHA256 string `json:"sha256"`
}

// prefix is the start of an encoded reference, and of no other value that passed CheckValue.
var prefix = []byte(`{"` + field + `":`)

func (r Ref) encode() json.RawMessage {
	data, _ := json.Marshal(map[string]Ref{field: r}) // strings and numbers cannot fail
	return data
}

// in reports whether the value is in one of the folders.
func (r Ref) in(folders []string) bool {
	folder, name, _ := strings.Cut(r.Key, "/")
	return name != "" && !strings.Contains(name, "/") && slices.Contains(folders, folder)
}

// ErrReserved means that a value looks like a reference.
var ErrReserved = errors.New(`an object whose only field is "` + field + `" is reserved for values in object storage: add a field, or rename it`)

// CheckValue returns ErrReserved if a value looks like a reference.
func CheckValue(data json.RawMessage) error {
	if _, looks := inner(data); looks {
		return ErrReserved
	}
	return nil
}

// CheckEach returns ErrReserved if one of the named values looks like a reference, or if all of them together do.
func CheckEach(values map[string]any) error {
	for name, value := range values {
		object, ok := value.(map[string]any)
		_, looks := object[field]
		if name == field && len(values) == 1 || ok && looks && len(object) == 1 {
			return ErrReserved
		}
	}
	return nil
}

// inner returns the content of an object whose only field is the one of references.
func inner(data json.RawMessage) (content json.RawMessage, ok bool) {
	if data = bytes.TrimLeft(data, " \t\r\n"); !bytes.HasPrefix(data, []byte("{")) {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	opening, _ := decoder.Token()
	if first, err := decoder.Token(); err != nil || opening != json.Delim('{') || first != field {
		return nil, false // most values end here, without a full parse
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return nil, false
	}
	content, ok = object[field]
	return content, ok && len(object) == 1
}

// errBroken means that a reference is invalid for the run.
var errBroken = errors.New("it contains an invalid reference to object storage")

// parse parses a reference to an object in the folders. Ok reports whether data looks like a reference.
func parse(data json.RawMessage, folders []string) (r Ref, ok bool, err error) {
	if !bytes.HasPrefix(data, prefix) {
		return r, false, nil
	}
	content, ok := inner(data)
	if !ok {
		return r, false, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&r) != nil || !r.in(folders) || r.Bytes <= 0 {
		return Ref{}, true, errBroken
	}
	return r, true, nil
}

// Summary returns a stored value for API clients: references are replaced by the size of the value and the URL to get it from. Item
// is -1, or an index in a list of stored values.
func Summary(data json.RawMessage, folders []string, href func(item int) string) json.RawMessage {
	if !bytes.Contains(data, prefix) {
		return data // most have no reference
	}
	if r, isRef, _ := parse(data, folders); isRef {
		return r.summary(href(-1))
	}
	var items []json.RawMessage
	if json.Unmarshal(data, &items) != nil {
		return data
	}
	some := false
	for i, item := range items {
		// In a list that a step returned itself, such an object is plain data, and can only refer to its own run.
		if r, isRef, err := parse(item, folders); isRef && err == nil {
			items[i], some = r.summary(href(i)), true
		}
	}
	if !some {
		return data
	}
	out, _ := json.Marshal(items) // each is JSON
	return out
}

func (r Ref) summary(href string) json.RawMessage {
	data, _ := json.Marshal(map[string]any{field: map[string]any{"bytes": r.Bytes, "href": href}}) // strings and numbers cannot fail
	return data
}
