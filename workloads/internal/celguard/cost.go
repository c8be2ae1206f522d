// SPDX-License-Identifier: Apache-2.0

package celguard

import "cel.dev/cel-go/common/operators"

// Linear reports whether a function's work is at most linear in its arguments. Any other, and every loop, has to be
// measured, which makes an evaluation about half as fast.
func Linear(function string) bool { return linear[function] }

// linear lists the functions whose work is at most linear in their arguments.
var linear = func() map[string]bool {
	set := map[string]bool{}
	for _, name := range []string{
		operators.Conditional, operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
		operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater,
		operators.GreaterEquals, operators.Add, operators.Subtract, operators.Multiply, operators.Divide,
		operators.Modulo, operators.Negate, operators.Index, operators.In, operators.NotStrictlyFalse,
		"size", "startsWith", "endsWith", "contains", "matches", "int", "uint", "double", "string", "bool", "bytes",
		"timestamp", "duration", "type", "dyn", "lowerAscii", "upperAscii", "trim", "substring", "indexOf",
		"lastIndexOf", "charAt", "reverse", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
		"getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "math.@max", "math.@min",
		"math.abs", "math.ceil", "math.floor", "math.round", "math.trunc", "math.sign", "base64.encode", "base64.decode",
	} {
		set[name] = true
	}
	return set
}()
