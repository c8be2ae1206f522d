// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// MaxDepth is how deeply arrays and objects of a body may be nested.
const MaxDepth = 64

// malformed is why a body is refused; it contains nothing of the body.
type malformed string

func (m malformed) Error() string { return string(m) }

// decode decodes a body. Decoding into an any, which huma does first to validate it, must be strict as well.
func decode(data []byte, into any) error {
	if _, first := into.(*any); first {
		if err := strict(data); err != nil {
			return err
		}
	}
	err := json.Unmarshal(data, into)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return malformed(fmt.Sprintf("it is not JSON: see byte %d", e.Offset))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return malformed(fmt.Sprintf("a value is of the wrong type or out of range: see byte %d", e.Offset))
	}
	// A type's own method failed; its text may contain the value.
	return malformed("a value is malformed")
}

// checkContentType accepts only JSON in UTF-8.
func checkContentType(contentType string) error {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" {
		return huma.ErrUnknownContentType
	}
	for name, value := range parameters {
		if name == "charset" && !strings.EqualFold(value, "utf-8") {
			return huma.ErrUnknownContentType
		}
	}
	return nil
}

// strict refuses what parsers interpret differently: duplicate keys, invalid UTF-8, deep nesting; and U+0000, which
// databases do not store. It leaves the grammar, trailing data included, to the decoder.
func strict(data []byte) error {
	if !utf8.Valid(data) {
		return malformed("it is not in UTF-8")
	}
	w := walk{data: data}
	for w.at < len(data) {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// walk scans a text that may not be JSON.
type walk struct {
	data  []byte
	at    int
	stack []level
}

// level is one open array or object.
type level struct {
	object  bool
	wantKey bool
	few     []string // the keys so far
	many    map[string]struct{}
}

func (w *walk) step() error {
	c := w.data[w.at]
	w.at++
	switch c {
	case '{', '[':
		if len(w.stack) == MaxDepth {
			return malformed(fmt.Sprintf("it is nested more than %d levels deep", MaxDepth))
		}
		w.stack = append(w.stack, level{object: c == '{', wantKey: c == '{'})
	case '}', ']':
		if len(w.stack) > 0 {
			w.stack = w.stack[:len(w.stack)-1]
		}
	case ',':
		if top := w.top(); top != nil {
			top.wantKey = top.object
		}
	case '"':
		return w.text()
	}
	return nil
}

func (w *walk) top() *level {
	if len(w.stack) == 0 {
		return nil
	}
	return &w.stack[len(w.stack)-1]
}

// text scans a string whose opening quote has been read.
func (w *walk) text() error {
	start, escaped := w.at, false
	for w.at < len(w.data) {
		switch w.data[w.at] {
		case '"':
			raw := w.data[start:w.at]
			w.at++
			return w.key(raw, escaped)
		case '\\':
			escaped = true
			if strings.HasPrefix(string(w.data[w.at:min(w.at+6, len(w.data))]), `\u0000`) {
				return malformed("a text contains the character U+0000")
			}
			w.at++
		}
		w.at++
	}
	return nil
}

// key records a string that is a key.
func (w *walk) key(raw []byte, escaped bool) error {
	top := w.top()
	if top == nil || !top.wantKey {
		return nil
	}
	top.wantKey = false
	key := string(raw)
	if escaped {
		quoted := append(append([]byte{'"'}, raw...), '"')
		if err := json.Unmarshal(quoted, &key); err != nil {
			return malformed("a key is malformed")
		}
	}
	if !top.add(key) {
		return malformed("an object has the same key twice")
	}
	return nil
}

// fewKeys is the number of keys up to which they are compared one by one.
const fewKeys = 16

func (l *level) add(key string) bool {
	if l.many != nil {
		before := len(l.many)
		l.many[key] = struct{}{}
		return len(l.many) > before
	}
	for _, known := range l.few {
		if known == key {
			return false
		}
	}
	l.few = append(l.few, key)
	if len(l.few) > fewKeys {
		l.many = make(map[string]struct{}, 2*fewKeys)
		for _, known := range l.few {
			l.many[known] = struct{}{}
		}
	}
	return true
}
