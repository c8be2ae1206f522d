// SPDX-License-Identifier: Apache-2.0

package celguard_test

import (
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

func TestCompileErrorsAddressTheAuthor(t *testing.T) {
	env, err := cel.NewEnv(cel.Variable("this", cel.DynType), cel.Variable("key", cel.StringType), cel.Variable("request.ip", cel.StringType),
		cel.Variable("timestamp", cel.TimestampType), cel.ParserExpressionSizeLimit(100), ext.Strings())
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"this.a == 1":             "",
		" ":                       "the expression is empty",
		"this.a ==":               `1:10: the expression is incomplete`,
		"\n this.x +\n":           `3:1: the expression is incomplete`,
		"this.a ? 1":              `1:11: the expression is incomplete: ":" is missing`,
		"{'a': 1":                 `1:8: the expression is incomplete`,
		"(this.a":                 `1:8: ")" is missing`,
		"this.a)":                 `1:7: unexpected ")"`,
		"this.":                   `1:6: a name is missing after "."`,
		"this..a":                 `1:6: unexpected ".."`,
		"1 +* 2":                  `1:4: unexpected "*"`,
		"this.a = 1":              `1:8: unexpected "="; did you mean "=="?`,
		"this.a and this.b":       `1:8: unexpected "and"; did you mean "&&"?`,
		"this.a == 'x":            `1:11: a string is not closed, or has an unknown escape sequence`,
		"'\\q'":                   `1:1: a string is not closed, or has an unknown escape sequence`,
		"${{ this }}":             `1:1: unexpected "$"`,
		"if":                      `1:1: "if" is a reserved word`,
		"foo":                     `1:1: there is no variable "foo"`,
		"this.foo()":              `1:9: there is no function "foo"`,
		"foo + bar":               `1:1: there is no variable "foo"; 1:7: there is no variable "bar"`,
		"request.nope":            `1:8: there is no variable "request.nope"; did you mean "request.ip"?`,
		"key.nope":                `1:4: a value of type string has no fields`,
		"key + 1":                 `1:5: operator + does not take string and int`,
		"!key":                    `1:1: operator ! does not take string`,
		"key in 1":                `1:5: operator in does not take string and int`,
		"size(1)":                 `1:5: size() does not take (int)`,
		"key.startsWith(1)":       `1:15: startsWith(int) is not a function of string`,
		"this.a ? 1 : 'x'":        `1:8: the results of ?: must have one type, got int and string`,
		"key && true":             `1:1: want bool, got string`,
		"has(this)":               `1:5: has() needs a field, such as has(a.b)`,
		"this.map(1, 2)":          `1:10: the first argument must be a variable name`,
		"99999999999999999999":    `1:1: the number does not fit into 64 bits`,
		strings.Repeat("1+", 100): `the expression has 200 characters, and may have at most 100`,
	} {
		checked, err := celguard.Compile(env, source)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want || (checked == nil) == (want == "") {
			t.Errorf("%q: got %s, want %s", source, got, want)
		}
	}
}
