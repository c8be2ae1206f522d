// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzStrictJSON: what decode accepts is JSON that encoding/json's tokens confirm: no key twice, not too deep.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `"a"`, `1`, `null`, `{"a":1,"b":[{"a":2}]}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `[{"a":1},{"a":1}]`, `{"a":{"a":{"a":1}}}`,
		`{"a":"{\"a\":1,\"a\":2}"}`, `{"a":1} `, `{"a":1}{}`, `["\u0000"]`, "\"\xff\"", `{"a":1,}`, `"\`, `"\u00`, `{"":1,"":2}`, `{"a":["a","a"],"b":"a"}`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat(`{"a":`, 70),
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13,"n":14,"o":15,"p":16,"q":17,"r":18,"q":19}`,
		`{"\ud83d\ude00":1,"😀":2}`, `["\ud800"]`, `{"a\\":1,"a\\":2}`, `]]]{"a":1`, `,,,"a"`, `{"a" "b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		err := decode(data, &v)
		if err != nil {
			if text, ok := errors.AsType[malformed](err); !ok || text == "" {
				t.Fatalf("%q: the error may hold the input: %v", data, err)
			}
			// Only what this package adds to JSON may refuse valid JSON.
			if json.Valid(data) && utf8.Valid(data) && !bytes.Contains(data, []byte(`\u0000`)) && reference(t, data) && !strings.Contains(err.Error(), "out of range") {
				t.Fatalf("%q was refused: %v", data, err)
			}
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) || !reference(t, data) {
			t.Fatalf("%q was accepted", data)
		}
	})
}

// reference is the slow way: true when no object has a key twice and nothing is nested too deep.
func reference(t *testing.T, data []byte) bool {
	t.Helper()
	type open struct {
		object bool
		keys   map[string]bool
		value  bool // the next token of an object is a value
	}
	var stack []*open
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var top *open
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if top != nil && top.object {
			if !top.value {
				key := token.(string)
				if top.keys[key] {
					return false
				}
				top.keys[key], top.value = true, true
				continue
			}
			top.value = false
		}
		if delim, ok := token.(json.Delim); ok {
			stack = append(stack, &open{object: delim == '{', keys: map[string]bool{}})
			if len(stack) > MaxDepth {
				return false
			}
		}
	}
}

// FuzzCursor: nothing but what Encode wrote for this scope is a cursor.
func FuzzCursor(f *testing.F) {
	cursors := NewCursors([]byte("0123456789abcdef"))
	real := cursors.Encode("list", map[string]string{"name": "a"})
	for _, seed := range []string{
		"", "a", real, real[:len(real)-1], real + "A", real + "=", "\n" + real, cursors.Encode("other", map[string]string{"name": "a"}),
		NewCursors([]byte("another key of 16")).Encode("list", map[string]string{"name": "a"}), strings.Repeat("A", 3000), "%00", "AAAAAAAAAAAAAAAAAAAAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		into := map[string]string{}
		err := cursors.Decode("list", text, &into)
		switch {
		case text == "":
			if err != nil || len(into) != 0 {
				t.Fatalf("an empty cursor: %v, %v", into, err)
			}
		case text == real:
			if err != nil || into["name"] != "a" {
				t.Fatalf("a real cursor: %v, %v", into, err)
			}
		case err == nil:
			t.Fatalf("%q is taken for a cursor: %v", text, into)
		}
	})
}

// FuzzIfMatch: a header is no tag, any tag, or the one form that ETag writes.
func FuzzIfMatch(f *testing.F) {
	for _, seed := range []string{"", "*", `"1"`, ` "1" `, `W/"1"`, `"1", "2"`, `"01"`, `"+1"`, `"-1"`, `"9223372036854775807"`, `"9223372036854775808"`, `1`, `"`, `""`, `"1`, `"a"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		version, err := IfMatch(header)
		text := strings.TrimSpace(header)
		switch {
		case err != nil:
			if version != nil {
				t.Fatalf("%q: a version and an error", header)
			}
		case version == nil:
			if text != "" {
				t.Fatalf("%q is taken for no header", header)
			}
		case *version == AnyVersion:
			if text != "*" {
				t.Fatalf("%q is taken for any", header)
			}
		case ETag(*version) != text:
			t.Fatalf("%q is taken for %d", header, *version)
		}
		if version != nil && *version != AnyVersion && NoneMatch(header, *version) {
			t.Fatalf("%q does not name %d", header, *version)
		}
	})
}

func BenchmarkStrict(b *testing.B) {
	body := []byte(`{"type":"Text","value":{"text":"` + strings.Repeat("QUJD", 64) + `"},"metadata":{"team":"a","purpose":"database"},"checkAndSet":7}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := strict(body); err != nil {
			b.Fatal(err)
		}
	}
}
