// SPDX-License-Identifier: Apache-2.0

// Package record defines the unit of data: a record stays bytes until a field is needed, and a batch is what
// moves through the engine.
package record

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/tree"
)

// Header is a name and value attached to a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is one message. The zero value is an empty record.
//
// The value is stored as bytes, as a decoded tree, or both; Bytes and Tree convert on demand, so a record that
// nothing touches is never parsed.
type Record struct {
	Key     []byte
	Headers []Header
	// Time is when the record was created, according to its source.
	Time time.Time
	// Origin is where the record came from, for error messages and dead letters: "topic/3@1742".
	Origin string
	// Sinks names the sinks the record is routed to; nil means all.
	Sinks []string

	raw      []byte
	original []byte // the bytes before the first change; nil: unchanged, or never bytes
	tree     any
	isRaw    bool // raw is current
	isSet    bool // tree is current
}

// New returns a record of bytes and takes ownership of them.
func New(value []byte) Record { return Record{raw: value, isRaw: true} }

// FromTree returns a record of a decoded value: map[string]any, []any, string, float64, json.Number, bool, nil.
func FromTree(tree any) Record { return Record{tree: tree, isSet: true} }

// Len returns the record's size in bytes: key and value. A decoded value counts by its last known bytes.
func (r *Record) Len() int { return len(r.Key) + len(r.raw) }

// Raw returns the value's bytes if they are current, without encoding anything.
func (r *Record) Raw() ([]byte, bool) { return r.raw, r.isRaw }

// Bytes returns the value's bytes; a changed tree is encoded as JSON first.
func (r *Record) Bytes() ([]byte, error) {
	if r.isRaw {
		return r.raw, nil
	}
	data, err := tree.Append(make([]byte, 0, len(r.raw)+64), r.tree)
	if err != nil {
		return nil, err
	}
	r.raw, r.isRaw = data, true
	return data, nil
}

// ErrNotJSON is returned by Tree and Get for a value that is not valid JSON.
var ErrNotJSON = tree.ErrNotJSON

// ErrNotUTF8 is returned by Tree for a value that is not valid UTF-8.
var ErrNotUTF8 = errors.New("value is not valid UTF-8")

// Tree returns the decoded value. Whole numbers that fit are int64, others float64. Do not change it: use
// SetTree.
func (r *Record) Tree() (any, error) {
	if r.isSet {
		return r.tree, nil
	}
	if !utf8.Valid(r.raw) {
		return nil, ErrNotUTF8
	}
	decoded, err := tree.Decode(r.raw)
	if err != nil {
		return nil, err
	}
	r.tree, r.isSet = decoded, true
	return decoded, nil
}

// Object returns the decoded value if it is a JSON object.
func (r *Record) Object() (map[string]any, error) {
	tree, err := r.Tree()
	if err != nil {
		return nil, err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("value is a JSON %s, want an object", kindOf(tree))
	}
	return object, nil
}

// Get reads one field by its gjson path without decoding the rest.
func (r *Record) Get(path string) (gjson.Result, error) {
	data, err := r.Bytes()
	if err != nil {
		return gjson.Result{}, err
	}
	return gjson.GetBytes(data, path), nil
}

// Decoded reports whether Tree returns without parsing.
func (r *Record) Decoded() bool { return r.isSet }

// SetTree replaces the value with a decoded one.
func (r *Record) SetTree(tree any) {
	r.keepOriginal()
	r.tree, r.isSet, r.isRaw = tree, true, false
}

// Changed marks the bytes as stale after the tree was changed in place.
func (r *Record) Changed() {
	r.keepOriginal()
	r.isSet, r.isRaw = true, false
}

// SetBytes replaces the value with bytes.
func (r *Record) SetBytes(value []byte) {
	r.keepOriginal()
	r.raw, r.tree, r.isRaw, r.isSet = value, nil, true, false
}

func (r *Record) keepOriginal() {
	if r.isRaw && r.original == nil {
		r.original = r.raw
	}
}

// Restore resets the value to what it was before its first change, so that a dead letter can be replayed. A
// record that never was bytes keeps its value.
func (r *Record) Restore() {
	r.keepOriginal()
	if r.original != nil {
		r.raw, r.tree, r.isRaw, r.isSet = r.original, nil, true, false
	}
}

// Clone returns a deep copy of the record's value; key and headers are shared.
func (r *Record) Clone() (Record, error) {
	data, err := r.Bytes()
	if err != nil {
		return Record{}, err
	}
	out := *r
	out.SetBytes(bytes.Clone(data))
	out.original = nil
	return out, nil
}

// Decode parses JSON; whole numbers that fit int64 stay exact.
func Decode(data []byte) (any, error) { return tree.Decode(data) }

func kindOf(tree any) string {
	switch tree.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "number"
	}
}

// Batch moves through the engine. Position belongs to the source: it marks where the batch ends, and is passed
// to Ack.
type Batch struct {
	Records  []Record
	Position any
	// Failed holds what the source read but could not decode. The engine dead-letters it, or, without
	// a dead letter, holds the batch back and reports the error.
	Failed []Failed
}

// Failed is one record that its source could not decode.
type Failed struct {
	// Record is the message as it was read.
	Record Record
	// Err contains no record content.
	Err error
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.Records) }

// Bytes returns the total size of the records.
func (b *Batch) Bytes() int64 {
	var sum int64
	for i := range b.Records {
		sum += int64(b.Records[i].Len())
	}
	return sum
}

// Errors lists which of a batch's records failed; all others succeeded.
type Errors struct {
	// ByIndex maps a record's index in the batch to its error.
	ByIndex map[int]error
}

// Add records the error of a record.
func (e *Errors) Add(index int, err error) {
	if e.ByIndex == nil {
		e.ByIndex = map[int]error{}
	}
	e.ByIndex[index] = err
}

// OrNil returns the error, or nil if no record failed.
func (e *Errors) OrNil() error {
	if e == nil || len(e.ByIndex) == 0 {
		return nil
	}
	return e
}

// Error names the first failure and the number of failures.
func (e *Errors) Error() string {
	indices := make([]int, 0, len(e.ByIndex))
	for index := range e.ByIndex {
		indices = append(indices, index)
	}
	sort.Ints(indices)
	if len(indices) == 0 {
		return "no record failed"
	}
	return fmt.Sprintf("%d record(s) failed, the first: %v", len(indices), e.ByIndex[indices[0]])
}
