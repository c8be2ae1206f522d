// SPDX-License-Identifier: Apache-2.0

// Package tree converts between JSON text and decoded values: map[string]any, []any,
// string, bool, nil, int64 for whole numbers that fit, and float64 for other numbers.
package tree

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrNotJSON is the error of a text that is not one valid JSON value.
var ErrNotJSON = errors.New("value is not valid JSON")

// maxDepth is how deep arrays and objects may nest.
const maxDepth = 1000

// Decode parses one JSON text (RFC 8259). It is written for the pipeline worker because decoding is
// where it spends its time: one pass, and one copy of the text, which all strings share. Whether
// strings are valid UTF-8 is the caller's to check.
func Decode(data []byte) (any, error) {
	d := decoder{text: string(data)}
	d.space()
	tree, ok := d.value(0)
	if !ok {
		return nil, ErrNotJSON
	}
	if d.space(); d.at != len(d.text) {
		return nil, ErrNotJSON
	}
	return tree, nil
}

type decoder struct {
	text string
	at   int
}

func (d *decoder) space() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

// next reports whether the next byte is c, and passes over it.
func (d *decoder) next(c byte) bool {
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

func (d *decoder) value(depth int) (any, bool) {
	if d.at >= len(d.text) || depth > maxDepth {
		return nil, false
	}
	switch d.text[d.at] {
	case '{':
		return d.object(depth)
	case '[':
		return d.array(depth)
	case '"':
		return d.str()
	case 't':
		return true, d.word("true")
	case 'f':
		return false, d.word("false")
	case 'n':
		return nil, d.word("null")
	default:
		return d.number()
	}
}

func (d *decoder) word(word string) bool {
	if !strings.HasPrefix(d.text[d.at:], word) {
		return false
	}
	d.at += len(word)
	return true
}

func (d *decoder) object(depth int) (any, bool) {
	d.at++
	out := make(map[string]any)
	d.space()
	if d.next('}') {
		return out, true
	}
	for {
		d.space()
		if d.at >= len(d.text) || d.text[d.at] != '"' {
			return nil, false
		}
		name, ok := d.str()
		if !ok {
			return nil, false
		}
		if d.space(); !d.next(':') {
			return nil, false
		}
		d.space()
		value, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		out[name] = value
		d.space()
		if d.next('}') {
			return out, true
		}
		if !d.next(',') {
			return nil, false
		}
	}
}

func (d *decoder) array(depth int) (any, bool) {
	d.at++
	out := []any{}
	d.space()
	if d.next(']') {
		return out, true
	}
	for {
		d.space()
		value, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		out = append(out, value)
		d.space()
		if d.next(']') {
			return out, true
		}
		if !d.next(',') {
			return nil, false
		}
	}
}

// str reads the string at d.at, which is a quote.
func (d *decoder) str() (string, bool) {
	start := d.at + 1
	for i := start; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			d.at = i + 1
			return d.text[start:i], true
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			return "", false
		}
	}
	return "", false
}

// escapes are the escapes of one character.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped reads on from the first backslash, at i.
func (d *decoder) escaped(start, i int) (string, bool) {
	out := make([]byte, 0, 2*(i-start)+32)
	out = append(out, d.text[start:i]...)
	for i < len(d.text) {
		c := d.text[i]
		i++
		switch {
		case c == '"':
			d.at = i
			return string(out), true
		case c < ' ':
			return "", false
		case c != '\\':
			out = append(out, c)
			continue
		}
		if i >= len(d.text) {
			return "", false
		}
		if d.text[i] != 'u' {
			plain := escapes[d.text[i]]
			if plain == 0 {
				return "", false
			}
			out = append(out, plain)
			i++
			continue
		}
		r, ok := hex4(d.text, i+1)
		if !ok {
			return "", false
		}
		i += 5
		if utf16.IsSurrogate(r) { // half a pair by itself becomes U+FFFD
			pair := rune(utf8.RuneError)
			if strings.HasPrefix(d.text[i:], `\u`) {
				if low, ok := hex4(d.text, i+2); ok {
					if pair = utf16.DecodeRune(r, low); pair != utf8.RuneError {
						i += 6
					}
				}
			}
			r = pair
		}
		out = utf8.AppendRune(out, r)
	}
	return "", false
}

func hex4(text string, at int) (rune, bool) {
	if at+4 > len(text) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(text[at : at+4]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number reads a number; one that no float64 holds stays text.
func (d *decoder) number() (any, bool) {
	start := d.at
	d.next('-')
	whole := d.at
	if !d.digits() || d.text[whole] == '0' && d.at > whole+1 {
		return nil, false
	}
	isWhole := true
	if d.next('.') {
		if isWhole = false; !d.digits() {
			return nil, false
		}
	}
	if d.next('e') || d.next('E') {
		if isWhole = false; !d.next('-') {
			d.next('+')
		}
		if !d.digits() {
			return nil, false
		}
	}
	token := d.text[start:d.at]
	if isWhole {
		if value, err := strconv.ParseInt(token, 10, 64); err == nil {
			return value, true
		}
	}
	value, err := strconv.ParseFloat(token, 64)
	if err != nil || math.IsInf(value, 0) {
		return token, true
	}
	return value, true
}

func (d *decoder) digits() bool {
	start := d.at
	for d.at < len(d.text) && d.text[d.at] >= '0' && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at > start
}
