// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// maxEdits is how many byte edits cost about as much as decoding and encoding once.
const maxEdits = 3

// editor changes single fields in a record's bytes, which costs a fraction of decoding and encoding and leaves
// all other bytes unchanged.
type editor struct{ raw []byte }

// edit starts an edit; it returns false if the record has to be decoded.
func edit(r *record.Record, fields ...[]field) (editor, bool) {
	raw, isRaw := r.Raw()
	if !isRaw || r.Decoded() {
		return editor{}, false
	}
	count := 0
	for _, list := range fields {
		count += len(list)
		for i := range list {
			if !list[i].named() {
				return editor{}, false
			}
		}
	}
	if count > maxEdits || !looksLikeObject(raw) || !gjson.ValidBytes(raw) || !utf8.Valid(raw) {
		return editor{}, false
	}
	return editor{raw: raw}, true
}

// named reports whether every part is a plain name, which gjson and sjson read alike, and not an index.
func (f field) named() bool {
	for _, part := range f.parts {
		if part[0] >= '0' && part[0] <= '9' {
			return false
		}
	}
	return f.plain()
}

func (e *editor) get(f field) gjson.Result { return gjson.GetBytes(e.raw, f.text) }

// within reports whether the objects around the field exist, so that it can be set.
func (e *editor) within(f field) bool {
	if len(f.parts) == 1 {
		return true
	}
	around := f.text[:len(f.text)-len(f.parts[len(f.parts)-1])-1]
	return gjson.GetBytes(e.raw, around).IsObject()
}

// remove removes the field, and every duplicate of it.
func (e *editor) remove(f field) bool {
	for e.get(f).Exists() {
		shorter, err := sjson.DeleteBytes(e.raw, f.text)
		if err != nil || len(shorter) >= len(e.raw) {
			return false
		}
		e.raw = shorter
	}
	return true
}

// set sets the field to a JSON text. If it returns false the edit must be discarded and the record decoded.
func (e *editor) set(f field, value []byte) bool {
	if !e.within(f) || !e.remove(f) {
		return false
	}
	longer, err := sjson.SetRawBytes(e.raw, f.text, value)
	if err != nil {
		return false
	}
	e.raw = longer
	return true
}
