// SPDX-License-Identifier: Apache-2.0

package engine

import "testing"

func TestParseError(t *testing.T) {
	for message, want := range map[string]Error{
		"Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)":                                   {60, "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)"},
		"Code: 27. DB::Exception: Bad. (CANNOT_PARSE) (version 26.7.2.1)":                           {27, "Code: 27. DB::Exception: Bad. (CANNOT_PARSE)"},
		"Code: 27. DB::Exception: Bad. (CANNOT_PARSE) (version 26.7.2.1 (official build))":          {27, "Code: 27. DB::Exception: Bad. (CANNOT_PARSE)"},
		"Code: 241. DB::Exception: Code: 241. DB::Exception: Code: 241. DB::Exception: Memory. (M)": {241, "Code: 241. DB::Exception: Memory. (M)"},
		"poco: Code: 62. DB::Exception: Syntax":                                                     {62, "Code: 62. DB::Exception: Syntax"},
		"something else\n":                                                                          {1002, "Code: 1002. DB::Exception: something else"},
	} {
		if got := parseError(message); *got != want {
			t.Errorf("%q: %+v, want %+v", message, *got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	if got := QuoteIdentifier("a`b\\"); got != "`a\\`b\\\\`" {
		t.Error(got)
	}
	if got := QuoteString(`it's \`); got != `'it\'s \\'` {
		t.Error(got)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Options{Library: "/nowhere/libchdb.so", Path: t.TempDir(), Connections: 1}); err == nil {
		t.Error("a missing library was accepted")
	}
	if _, err := Open(Options{Path: t.TempDir()}); err == nil {
		t.Error("zero connections were accepted")
	}
}
