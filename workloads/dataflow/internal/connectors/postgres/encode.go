// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"sort"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// group holds the rows of records that have values for the same columns, in COPY's text format: the server
// itself parses each value by its column's type.
type group struct {
	columns []int
	data    []byte
}

// encoder turns JSON objects into rows without decoding them into a tree.
type encoder struct {
	columns []column
	index   map[string]int
	strict  bool
	values  []gjson.Result // by column; reused
	present []int
}

func newEncoder(columns []column, strict bool) *encoder {
	e := &encoder{columns: columns, index: map[string]int{}, strict: strict, values: make([]gjson.Result, len(columns))}
	for i, c := range columns {
		e.index[c.name] = i
	}
	return e
}

// encode groups the batch by columns. With inOrder a group ends where the columns change, so that the order of
// records is preserved; otherwise each set of columns is one group.
func (e *encoder) encode(batch *record.Batch, inOrder bool) ([]*group, *record.Errors) {
	var groups []*group
	var last *group
	lastKey := ""
	byKey := map[string]*group{}
	refused := &record.Errors{}
	for i := range batch.Records {
		key, err := e.read(&batch.Records[i])
		if err != nil {
			refused.Add(i, err)
			continue
		}
		if last == nil || key != lastKey {
			if last = byKey[key]; last == nil || inOrder {
				last = &group{columns: append([]int(nil), e.present...)}
				groups = append(groups, last)
				byKey[key] = last
			}
			lastKey = key
		}
		last.data = e.row(last.data, last.columns)
	}
	return groups, refused
}

var errNoColumn = fmt.Errorf("no field of the record is a column of the table: %w", backend.ErrInvalid)

// read fills values and present, and returns a key for the set of columns.
func (e *encoder) read(r *record.Record) (string, error) {
	data, err := r.Bytes()
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, backend.ErrInvalid)
	}
	if err := codec.CheckJSON(data); err != nil {
		return "", err
	}
	object := gjson.ParseBytes(data)
	if !object.IsObject() {
		return "", fmt.Errorf("value is not a JSON object: %w", backend.ErrInvalid)
	}
	e.present = e.present[:0]
	for i := range e.values {
		e.values[i] = gjson.Result{}
	}
	unknown := false
	object.ForEach(func(name, value gjson.Result) bool {
		at, ok := e.index[name.String()]
		if !ok {
			unknown = true
			return true
		}
		if e.values[at].Raw == "" {
			e.present = append(e.present, at)
		}
		e.values[at] = value
		return true
	})
	switch {
	case unknown && e.strict:
		return "", fmt.Errorf("record has fields that are not columns of the table: %w", backend.ErrInvalid)
	case len(e.present) == 0:
		return "", errNoColumn
	}
	sort.Ints(e.present)
	key := make([]byte, 0, 2*len(e.present))
	for _, at := range e.present {
		key = append(key, byte(at>>8), byte(at))
	}
	return string(key), nil
}

func (e *encoder) row(dst []byte, columns []int) []byte {
	for i, at := range columns {
		if i > 0 {
			dst = append(dst, '\t')
		}
		dst = appendValue(dst, e.columns[at], e.values[at])
	}
	return append(dst, '\n')
}

func appendValue(dst []byte, c column, value gjson.Result) []byte {
	switch {
	case value.Type == gjson.Null:
		return append(dst, `\N`...)
	case c.json:
		return appendEscaped(dst, value.Raw)
	case c.array && value.IsArray():
		return appendEscaped(dst, string(appendArray(nil, value, c.kind)))
	case value.Type == gjson.String:
		return appendEscaped(dst, value.Str)
	default: // numbers keep their digits; objects in a text column are JSON
		return appendEscaped(dst, value.Raw)
	}
}

// appendEscaped escapes text for COPY.
func appendEscaped(dst []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendArray writes a JSON array as PostgreSQL's array literal: {1,"a",NULL,{2}}.
func appendArray(dst []byte, value gjson.Result, kind string) []byte {
	dst = append(dst, '{')
	first := true
	value.ForEach(func(_, item gjson.Result) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		switch {
		case item.Type == gjson.Null:
			dst = append(dst, "NULL"...)
		case item.IsArray() && kind != "json[]" && kind != "jsonb[]":
			dst = appendArray(dst, item, kind)
		case item.Type == gjson.String:
			dst = appendQuoted(dst, item.Str)
		default:
			dst = appendQuoted(dst, item.Raw)
		}
		return true
	})
	return append(dst, '}')
}

func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(text); i++ {
		if text[i] == '"' || text[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, text[i])
	}
	return append(dst, '"')
}
