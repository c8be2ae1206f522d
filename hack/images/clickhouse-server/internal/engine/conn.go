// SPDX-License-Identifier: Apache-2.0

package engine

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "chdb.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// Param is a value for a {name:Type} placeholder, in the engine's escaped text form (as in a field of TabSeparated),
// which the HTTP interface uses too.
type Param struct{ Name, Value string }

// Stats counts what a statement read from and wrote to storage.
type Stats struct{ ReadRows, ReadBytes, WrittenRows, WrittenBytes uint64 }

// Conn is one session of the engine. It runs one statement at a time.
type Conn struct {
	handle   **C.ch_connection
	database string
	settings map[string]string
	retired  bool
}

// load binds the library, once per process.
func load(path string) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	if message := C.ch_load(cpath); message != nil {
		defer C.free(unsafe.Pointer(message))
		return fmt.Errorf("load the ClickHouse library: %s", C.GoString(message))
	}
	return nil
}

func connect(args []string) (*Conn, error) {
	// The engine may retain the pointers, so they live as long as the process.
	argv := (*[1 << 16]*C.char)(C.calloc(C.size_t(len(args)+1), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	for i, arg := range args {
		argv[i] = C.CString(arg)
	}
	handle := C.ch_connect(C.int(len(args)), &argv[0])
	if handle == nil {
		return nil, errors.New("the engine refused the connection (is the data directory writable and used by no other process?)")
	}
	return &Conn{handle: handle, database: "default", settings: map[string]string{}}, nil
}

func (c *Conn) close() {
	if c.handle != nil {
		C.ch_close(c.handle)
		c.handle = nil
	}
}

// bound holds parameters in the form of the C side.
type bound struct {
	names, values         string
	nameLens, valueLens   []C.size_t
	namesPtr, valuesPtr   *C.char
	nameLenPtr, valLenPtr *C.size_t
	count                 C.size_t
}

func bind(params []Param) *bound {
	b := &bound{count: C.size_t(len(params))}
	if len(params) == 0 {
		return b
	}
	var names, values strings.Builder
	for _, p := range params {
		names.WriteString(p.Name)
		values.WriteString(p.Value)
		b.nameLens = append(b.nameLens, C.size_t(len(p.Name)))
		b.valueLens = append(b.valueLens, C.size_t(len(p.Value)))
	}
	b.names, b.values = names.String(), values.String()+"\x00"
	b.namesPtr, b.valuesPtr = chars(b.names), chars(b.values)
	b.nameLenPtr, b.valLenPtr = &b.nameLens[0], &b.valueLens[0]
	return b
}

// chars views a string as C characters for the duration of one call; it is not terminated.
func chars(s string) *C.char { return (*C.char)(unsafe.Pointer(unsafe.StringData(s))) }

// Query runs one statement and returns its whole output in the format.
func (c *Conn) Query(query, format string, params []Param) (*Result, error) {
	b := bind(params)
	return checked(C.ch_query(c.handle, chars(query), C.size_t(len(query)), chars(format), C.size_t(len(format)),
		b.namesPtr, b.nameLenPtr, b.valuesPtr, b.valLenPtr, b.count))
}

// exec runs a statement for its effect.
func (c *Conn) exec(query string) error {
	result, err := c.Query(query, "Null", nil)
	if err != nil {
		return err
	}
	result.Free()
	return nil
}

// Class returns the class of a text's statements, according to the engine's own parser, and their number.
func (c *Conn) Class(query string) (Class, int) {
	var count C.uint32_t
	class := C.ch_classify(c.handle, chars(query), C.size_t(len(query)), &count)
	return Class(class), int(count)
}

// Retire keeps the connection from being reused, because its session is no longer known.
func (c *Conn) Retire() { c.retired = true }

// Result is an output in the engine's memory.
type Result struct{ handle *C.ch_result }

func checked(handle *C.ch_result) (*Result, error) {
	if handle == nil {
		return nil, &Error{Message: "Code: 49. DB::Exception: the engine returned nothing. (LOGICAL_ERROR)", Code: 49}
	}
	if message := C.ch_result_error(handle); message != nil {
		defer C.ch_result_free(handle)
		return nil, parseError(C.GoString(message))
	}
	return &Result{handle: handle}, nil
}

// Bytes returns the output, valid until Free.
func (r *Result) Bytes() []byte {
	data := C.ch_result_data(r.handle)
	if data == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(data)), int(C.ch_result_len(r.handle)))
}

// Stats counts what the statement read and wrote.
func (r *Result) Stats() Stats {
	var out [4]C.uint64_t
	C.ch_result_stats(r.handle, &out[0])
	return Stats{uint64(out[0]), uint64(out[1]), uint64(out[2]), uint64(out[3])}
}

// Free returns the output to the engine.
func (r *Result) Free() {
	if r.handle != nil {
		C.ch_result_free(r.handle)
		r.handle = nil
	}
}

// Stream is a SELECT whose output is fetched piece by piece.
type Stream struct {
	conn   *Conn
	handle *C.ch_result
	ended  bool
}

// Stream starts a SELECT. Always close it.
func (c *Conn) Stream(query, format string, params []Param) (*Stream, error) {
	b := bind(params)
	result, err := checked(C.ch_stream_query(c.handle, chars(query), C.size_t(len(query)), chars(format), C.size_t(len(format)),
		b.namesPtr, b.nameLenPtr, b.valuesPtr, b.valLenPtr, b.count))
	if err != nil {
		return nil, err
	}
	return &Stream{conn: c, handle: result.handle}, nil
}

// Next fetches the next piece, which the caller frees; nil at the end.
func (s *Stream) Next() (*Result, error) {
	if s.ended {
		return nil, nil
	}
	result, err := checked(C.ch_stream_fetch(s.conn.handle, s.handle))
	if err != nil {
		s.ended = true
		return nil, err
	}
	if C.ch_result_len(result.handle) == 0 {
		s.ended = true
		result.Free()
		return nil, nil
	}
	return result, nil
}

// Close cancels what is left of the query and frees it.
func (s *Stream) Close() {
	if !s.ended {
		C.ch_stream_cancel(s.conn.handle, s.handle)
		s.ended = true
	}
	C.ch_result_free(s.handle)
}

// Insert is an INSERT whose data is pushed piece by piece.
type Insert struct{ handle *C.ch_stream }

// Insert starts an INSERT; the query has no FORMAT clause and no data. Always close it.
func (c *Conn) Insert(query, format string, params []Param) (*Insert, error) {
	b := bind(params)
	handle := C.ch_insert(c.handle, chars(query), C.size_t(len(query)), chars(format), C.size_t(len(format)),
		b.namesPtr, b.nameLenPtr, b.valuesPtr, b.valLenPtr, b.count)
	if handle == nil {
		return nil, &Error{Message: "Code: 49. DB::Exception: the engine opened no insert. (LOGICAL_ERROR)", Code: 49}
	}
	insert := &Insert{handle: handle}
	if err := insert.failure(); err != nil {
		insert.Close()
		return nil, err
	}
	return insert, nil
}

func (i *Insert) failure() error {
	if message := C.ch_insert_error(i.handle); message != nil {
		return parseError(C.GoString(message))
	}
	return nil
}

// Write pushes data in the insert's format, in pieces of any size. The engine copies it.
func (i *Insert) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if C.ch_insert_append(i.handle, unsafe.Pointer(&p[0]), C.size_t(len(p))) != 0 {
		if err := i.failure(); err != nil {
			return 0, err
		}
		return 0, &Error{Message: "Code: 49. DB::Exception: the insert has ended. (LOGICAL_ERROR)", Code: 49}
	}
	return len(p), nil
}

// Commit ends the data; without an error all of it is stored.
func (i *Insert) Commit() (Stats, error) {
	result, err := checked(C.ch_insert_done(i.handle))
	if err != nil {
		return Stats{}, err
	}
	defer result.Free()
	return result.Stats(), nil
}

// Cancel aborts the insert: what was pushed is not stored, unless a full block already was.
func (i *Insert) Cancel() { C.ch_insert_cancel(i.handle) }

// Close frees the insert; an uncommitted one is cancelled.
func (i *Insert) Close() { C.ch_insert_free(i.handle) }
