// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// FuzzStrictJSON checks that what decode accepts is JSON according to encoding/json's tokens: no duplicate key, not too
// deep.
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
				t.Fatalf("%q: the error may contain the input: %v", data, err)
			}
			// Valid JSON may only be refused for what this package adds to JSON.
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

// reference is the slow way: true if no object has a duplicate key and nothing is nested too deeply.
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

// FuzzCursor checks that only what Encode wrote for this scope is a cursor.
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
			t.Fatalf("%q is accepted as a cursor: %v", text, into)
		}
	})
}

// FuzzIfMatch checks that a header is no tag, any tag, or the one form that ETag writes.
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
				t.Fatalf("%q is treated as no header", header)
			}
		case *version == AnyVersion:
			if text != "*" {
				t.Fatalf("%q is treated as any version", header)
			}
		case ETag(*version) != text:
			t.Fatalf("%q is treated as %d", header, *version)
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

// FuzzFilter checks that a client's input is an argument, and that a prefix matches what starts with it and nothing else.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"", "a", "a%", "_", `\`, `\%`, "%' OR '1'='1", "?", "$1", "ä", "a\\"} {
		f.Add(seed, seed+"tail")
		f.Add(seed, "other")
	}
	f.Fuzz(func(t *testing.T, prefix, text string) {
		var filter Filter
		filter.Prefix("name", prefix)
		if prefix == "" {
			if filter.Where() != "" {
				t.Fatalf("an empty prefix filters: %s", filter.Where())
			}
			return
		}
		if filter.Where() != ` WHERE name LIKE $1 ESCAPE '\'` || len(filter.Args()) != 1 {
			t.Fatalf("%q gives %s %v", prefix, filter.Where(), filter.Args())
		}
		if got, want := like(filter.Args()[0].(string), text), strings.HasPrefix(text, prefix); got != want {
			t.Fatalf("%q: %q matches: %t, want %t", prefix, text, got, want)
		}
	})
}

// like implements SQL's LIKE with the escape character \, for patterns that end in the only wildcard.
func like(pattern, text string) bool {
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '%' && i == len(pattern)-1:
			return true
		case c == '%' || c == '_':
			return false // a wildcard where none is allowed
		case c == '\\':
			i++
			fallthrough
		default:
			if text == "" || i == len(pattern) || text[0] != pattern[i] {
				return false
			}
			text = text[1:]
		}
	}
	return text == ""
}

// FuzzIdempotencyKey checks that a key reaches the store if it is short and visible, and gets a 400 otherwise.
func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", "k", "a b", strings.Repeat("k", 255), strings.Repeat("k", 256), "k\x00", "k\r\nSet-Cookie: a=b", "ä", "\x7f", `"k"`, "!~"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		once, err := Idempotency(NewMemoryStore(1), IdempotencyOptions{Key: []byte("0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		handler := once(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
		good := len(key) > 0 && len(key) <= 255 && strings.Trim(key, visible) == ""
		for again := range 2 {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header["Idempotency-Key"] = []string{key}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if want := map[bool]int{true: http.StatusCreated, false: http.StatusBadRequest}[good]; w.Code != want {
				t.Fatalf("%q: %d, want %d", key, w.Code, want)
			}
			if again == 1 && good && w.Header().Get("Idempotency-Replayed") != "true" {
				t.Fatalf("%q: the second response is not a replay", key)
			}
		}
	})
}

// visible are the allowed characters of a key.
var visible = func() string {
	var out []byte
	for c := byte('!'); c <= '~'; c++ {
		out = append(out, c)
	}
	return string(out)
}()

// FuzzAccept checks that an error is the envelope or the problem, whatever a client accepts, and that its type matches.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{"", "*/*", "application/problem+json", "application/problem+json;q=0", "application/json, application/problem+json;q=0.5", "application/problem+json;q=x", ",;=", "application/problem+json;q=1e9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept"] = []string{accept}
		w := httptest.NewRecorder()
		problem.Write(w, r, NotFound("thing"))
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		_, envelope := body["success"]
		if kind := w.Header().Get("Content-Type"); (kind == problem.TypeJSON) != envelope || (kind == problem.TypeProblem) == envelope {
			t.Fatalf("%q: %s %s", accept, kind, w.Body)
		}
	})
}
