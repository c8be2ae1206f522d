// SPDX-License-Identifier: Apache-2.0

package sqltext

import (
	"errors"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
)

func TestIdentifier(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, "_x": true, "Ab_9": true,
		"": false, "9a": false, "a-b": false, "a.b": false, "a b": false, "a`b": false, "ä": false, "a\n": false,
		"x23456789": false,
	} {
		if err := Identifier("name", name, 8); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		} else if err != nil && !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", name, err)
		}
	}
}

func TestExpression(t *testing.T) {
	for text, valid := range map[string]bool{
		"now()": true, "ts + INTERVAL 30 DAY": true, "Map(String, Array(UInt8))": true,
		"Enum8('a;b' = 1, 'select' = 2)": true, "'it''s'": true, "a - b / c * d": true,
		"a, b": false, "f(": false, "f)": false, "(]": false, "'open": false, "a; DROP": false,
		"a -- b": false, "a /* b": false, "a # b": false, `'\''`: false, "$$x$$": false,
		"(SELECT 1)": false, "(select(1))": false, "a\x00": false,
		"url": true, "cut(url)": true, "url('x')": false, "URL ('x')": false, "`url`('x')": false, "\"url\" ('x')": false,
		"`url` + (1)": true, "dictGetString('x')": false, "dict": true,
	} {
		if err := Expression("default", text, false, "SELECT", "URL(", "DICT*("); (err == nil) != valid {
			t.Errorf("%q: %v", text, err)
		} else if err != nil && !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", text, err)
		}
	}
	if err := Expression("order by", "a, b", true); err != nil {
		t.Error(err)
	}
}

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ a, b string }{
		{"Map(String,  Array( UInt8 ))", "Map(String,Array(UInt8))"},
		{" ts +  INTERVAL 30\nDAY ", "ts+INTERVAL 30 DAY"},
		{"Enum8('a  b' = 1)", "Enum8('a  b'=1)"},
	} {
		if got := Normalize(test.a); got != test.b {
			t.Errorf("%q gave %q, want %q", test.a, got, test.b)
		}
	}
	if Normalize("'a b'") == Normalize("'ab'") {
		t.Error("spaces within quotes must stay")
	}
}
