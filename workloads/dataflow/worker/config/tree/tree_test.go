// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/tree"
)

var documents = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-12`, `1.5`, `1e3`, `1E-2`, `-1.5e+10`, `9223372036854775807`, `-9223372036854775808`, `9223372036854775808`, `1e999`,
	`""`, `"a"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u20ac"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ude00\ud83d"`, `"é€😀"`, `"\u0000"`, `"\u2028"`,
	`[]`, `[1,"a",null,[[]],{}]`, ` [ 1 , 2 ] `, `{}`, `{"a":{"b":[1,{"c":null}]},"":0}`, `{ "a" : 1 , "b" : 2 }`, `{"a":1,"a":2}`,
	``, ` `, `nul`, `nulll`, `tru`, `01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `0x1`, `NaN`, `"`, `"a`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"", `[`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`,
	`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{"a":1}}`, `1 2`, `{} x`, "\ufeff{}", "\v1", `'a'`,
	strings.Repeat("[", 900) + strings.Repeat("]", 900),
}

// reference decodes with the standard library, into the same types.
func reference(text string) (any, bool) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || !json.Valid([]byte(text)) {
		return nil, false
	}
	return numbers(value), true
}

func numbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, item := range v {
			v[name] = numbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = numbers(item)
		}
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return whole
		}
		if float, err := v.Float64(); err == nil {
			return float
		}
		return v.String()
	}
	return value
}

func compare(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		return // the caller refuses it before it decodes
	}
	want, valid := reference(text)
	got, err := tree.Decode([]byte(text))
	if (err == nil) != valid {
		t.Fatalf("%.80q: got error %v, valid is %v", text, err, valid)
	}
	if !valid {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%.80q: got %#v, want %#v", text, got, want)
	}
	encoded, err := tree.Append(nil, got)
	if err != nil {
		t.Fatalf("%.80q: %v", text, err)
	}
	again, valid := reference(string(encoded))
	if !valid || !reflect.DeepEqual(normal(again), normal(want)) {
		t.Fatalf("%.80q: encoded as %.80q", text, encoded)
	}
}

// normal forgets whether a number was written as whole: 1e3 comes back as 1000.
func normal(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, item := range v {
			v[name] = normal(item)
		}
	case []any:
		for i, item := range v {
			v[i] = normal(item)
		}
	case int64:
		return float64(v)
	case float64:
		return v + 0 // no negative zero
	}
	return value
}

func TestDecodeAsTheStandardLibrary(t *testing.T) {
	for _, text := range documents {
		compare(t, text)
	}
	if _, err := tree.Decode([]byte(strings.Repeat("[", 100_000))); err == nil {
		t.Error("100,000 levels are decoded")
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range documents {
		f.Add(text)
	}
	f.Fuzz(compare)
}
