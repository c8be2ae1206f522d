// SPDX-License-Identifier: Apache-2.0

package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// field is the one field of an object that is a reference.
const field = "$object"

// Ref names a value in the bucket.
type Ref struct {
	Key    string `json:"key"`
	Bytes  int    `json:"bytes"` // of JSON
	SHA256 string `json:"sha256"`
}

// prefix begins a reference, and no other value that was marshalled and checked.
var prefix = []byte(`{"` + field + `":`)

func (r Ref) encode() json.RawMessage {
	data, _ := json.Marshal(map[string]Ref{field: r}) // texts and a number
	return data
}

// in reports whether the value lies in one of some folders.
func (r Ref) in(folders []string) bool {
	folder, name, _ := strings.Cut(r.Key, "/")
	return name != "" && !strings.Contains(name, "/") && slices.Contains(folders, folder)
}

// ErrReserved means that a value looks like a reference.
var ErrReserved = errors.New(`an object whose only field is "` + field + `" stands for what is in object storage, and cannot be given: add a field, or rename it`)

// CheckValue refuses a value that looks like a reference, by ErrReserved.
func CheckValue(data json.RawMessage) error {
	if _, looks := inner(data); looks {
		return ErrReserved
	}
	return nil
}

// CheckEach refuses values by name one of which looks like a reference, or that do so together.
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

// inner returns what an object holds whose only field is that of references.
func inner(data json.RawMessage) (of json.RawMessage, looks bool) {
	if data = bytes.TrimLeft(data, " \t\r\n"); !bytes.HasPrefix(data, []byte("{")) {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	opening, _ := decoder.Token()
	if first, err := decoder.Token(); err != nil || opening != json.Delim('{') || first != field {
		return nil, false // most values: the rest of them is not read
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return nil, false
	}
	of, looks = object[field]
	return of, looks && len(object) == 1
}

// errBroken is a reference that is none of ours.
var errBroken = errors.New("it refers to object storage by what is no reference of this run")

// parse reads a reference to something in the folders. ok: it is one, or ought to be.
func parse(data json.RawMessage, folders []string) (r Ref, ok bool, err error) {
	if !bytes.HasPrefix(data, prefix) {
		return r, false, nil
	}
	of, ok := inner(data)
	if !ok {
		return r, false, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(of))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&r) != nil || !r.in(folders) || r.Bytes <= 0 {
		return Ref{}, true, errBroken
	}
	return r, true, nil
}

// Summary returns what is kept in a row as callers see it: of what is in the bucket they are told how large it is, and where they get it. Item is
// -1, or an index in a list of values as they are kept.
func Summary(data json.RawMessage, folders []string, href func(item int) string) json.RawMessage {
	if !bytes.Contains(data, prefix) {
		return data // as most are
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
		// Within a list that a step gave by itself such an object stands for nothing, and is one of its own run at most.
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
	data, _ := json.Marshal(map[string]any{field: map[string]any{"bytes": r.Bytes, "href": href}}) // texts and a number
	return data
}
