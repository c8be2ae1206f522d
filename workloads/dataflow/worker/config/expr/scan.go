// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxSlots is how many fields one scan can collect.
const maxSlots = 12

// scanNode is a field that a scan looks for, or an object on the way to one.
type scanNode struct {
	name string
	slot int
	kids []*scanNode
}

func (n *scanNode) countLeaves() int {
	if len(n.kids) == 0 {
		return 1
	}
	sum := 0
	for _, kid := range n.kids {
		sum += kid.countLeaves()
	}
	return sum
}

type scanKind uint8

const (
	scanAbsent scanKind = iota
	scanOpaque          // there, but the interpreter has to look at it
	scanObject
	scanArray
	scanString
	scanNumber // not yet read
	scanInt
	scanFloat
	scanTrue
	scanFalse
	scanNull
)

// scanned is a value as it was found.
type scanned struct {
	kind  scanKind
	text  string // shares the record's bytes
	whole int64
	float float64
}

func (v *scanned) number() bool { return v.kind == scanInt || v.kind == scanFloat }

func (v *scanned) asFloat() float64 {
	if v.kind == scanInt {
		return float64(v.whole)
	}
	return v.float
}

// scanner goes over an object once and stops when it has seen every field that it looks for.
type scanner struct {
	raw   []byte
	at    int
	left  int
	slots [maxSlots]scanned
}

// value reads a number when it is asked for.
func (s *scanner) value(slot int) *scanned {
	v := &s.slots[slot]
	if v.kind == scanNumber {
		v.kind, v.whole, v.float = parseNumber(v.text)
		v.text = ""
	}
	return v
}

// parseNumber follows the decoder: whole numbers that fit are int64, others float64.
func parseNumber(raw string) (kind scanKind, whole int64, float float64) {
	if !strings.ContainsAny(raw, ".eE") { // ParseInt's error for these would allocate
		if whole, err := strconv.ParseInt(raw, 10, 64); err == nil {
			return scanInt, whole, 0
		}
	}
	float, err := strconv.ParseFloat(raw, 64)
	if err != nil || math.IsInf(float, 0) || math.IsNaN(float) {
		return scanOpaque, 0, 0
	}
	return scanFloat, 0, float
}

// valid reports whether the whole value is JSON.
func (s *scanner) valid() bool { return gjson.ValidBytes(s.raw) && utf8.Valid(s.raw) }

func (s *scanner) space() {
	for s.at < len(s.raw) && s.raw[s.at] <= ' ' {
		s.at++
	}
}

// object reads the object at s.at. False: the bytes are not what they should be, or need more care.
func (s *scanner) object(node *scanNode) bool {
	s.space()
	if s.at >= len(s.raw) || s.raw[s.at] != '{' {
		return false
	}
	s.at++
	for first := true; ; first = false {
		s.space()
		if s.at >= len(s.raw) {
			return false
		}
		if s.raw[s.at] == '}' && first {
			s.at++
			return true
		}
		if !first {
			switch s.raw[s.at] {
			case '}':
				s.at++
				return true
			case ',':
				s.at++
				s.space()
			default:
				return false
			}
		}
		key, escaped, ok := s.text()
		if !ok || escaped {
			return false
		}
		s.space()
		if s.at >= len(s.raw) || s.raw[s.at] != ':' {
			return false
		}
		s.at++
		s.space()
		if !s.member(node, key) {
			return false
		}
		if s.left == 0 {
			return true
		}
	}
}

// member reads a value into its slot, or skips it.
func (s *scanner) member(node *scanNode, key []byte) bool {
	for _, kid := range node.kids {
		if string(key) != kid.name || s.slots[kid.slot].kind != scanAbsent {
			continue
		}
		if len(kid.kids) == 0 {
			s.left--
			return s.keep(&s.slots[kid.slot])
		}
		if s.at < len(s.raw) && s.raw[s.at] == '{' {
			s.slots[kid.slot].kind = scanObject
			return s.object(kid)
		}
		return s.keep(&s.slots[kid.slot])
	}
	return s.skip()
}

func (s *scanner) keep(v *scanned) bool {
	start := s.at
	if start >= len(s.raw) {
		return false
	}
	switch s.raw[start] {
	case '"':
		content, escaped, ok := s.text()
		v.kind, v.text = scanString, text(content)
		if escaped || !utf8.Valid(content) {
			v.kind = scanOpaque
		}
		return ok
	case '{':
		v.kind = scanObject
		return s.skip()
	case '[':
		v.kind = scanArray
		return s.skip()
	}
	ok := s.skip()
	word := text(s.raw[start:s.at])
	switch word {
	case "true":
		v.kind = scanTrue
	case "false":
		v.kind = scanFalse
	case "null":
		v.kind = scanNull
	default:
		v.kind, v.text = scanNumber, word
		if c := s.raw[start]; c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return ok
}

// text reads a string and gives what is between its quotes.
func (s *scanner) text() (content []byte, escaped, ok bool) {
	if s.at >= len(s.raw) || s.raw[s.at] != '"' {
		return nil, false, false
	}
	start := s.at + 1
	for from := start; ; {
		end := bytes.IndexByte(s.raw[from:], '"')
		if end < 0 {
			return nil, false, false
		}
		end += from
		slashes := 0
		for i := end - 1; i >= start && s.raw[i] == '\\'; i-- {
			slashes++
		}
		if slashes%2 == 1 {
			from = end + 1
			continue
		}
		s.at = end + 1
		content = s.raw[start:end]
		return content, bytes.IndexByte(content, '\\') >= 0, true
	}
}

// structural are the bytes that a skip over an object or array has to look at.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}

// skip passes over one value.
func (s *scanner) skip() bool {
	if s.at >= len(s.raw) {
		return false
	}
	switch s.raw[s.at] {
	case '"':
		_, _, ok := s.text()
		return ok
	case '{', '[':
		return s.skipNested()
	}
	start := s.at
	for s.at < len(s.raw) {
		if c := s.raw[s.at]; c == ',' || c == '}' || c == ']' || c <= ' ' {
			break
		}
		s.at++
	}
	return s.at > start
}

func (s *scanner) skipNested() bool {
	depth := 0
	for s.at < len(s.raw) {
		c := s.raw[s.at]
		if !structural[c] {
			s.at++
			continue
		}
		switch c {
		case '"':
			if _, _, ok := s.text(); !ok {
				return false
			}
			continue
		case '{', '[':
			depth++
		default:
			depth--
		}
		s.at++
		if depth == 0 {
			return true
		}
	}
	return false
}
