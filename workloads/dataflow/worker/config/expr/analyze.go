// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// analysis is what the syntax tells about an evaluation beforehand.
type analysis struct {
	names map[string]bool
	// lazy: reading single fields costs less than decoding the whole value.
	lazy bool
	// unbounded: the work may grow faster than the expression and the record together,
	// so it has to be measured, which makes evaluation about half as fast.
	unbounded bool
}

// maxLazyReads is how many reads of `this` cost about as much as decoding it.
const maxLazyReads = 8

// linear are the functions whose work is at most in proportion to their arguments.
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

func analyze(checked *ast.AST) analysis {
	out := analysis{names: map[string]bool{}}
	reads, looped := 0, false
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			if e.AsIdent() == "this" {
				reads++
			}
		case ast.SelectKind:
			out.names[e.AsSelect().FieldName()] = true
		case ast.LiteralKind:
			if text, ok := e.AsLiteral().(types.String); ok {
				out.names[string(text)] = true
			}
		case ast.CallKind:
			if !linear[e.AsCall().FunctionName()] {
				out.unbounded = true
			}
		case ast.ComprehensionKind:
			out.unbounded, looped = true, true
		}
	}))
	// Within a loop one spelled read may be many.
	out.lazy = reads > 0 && reads <= maxLazyReads && (!looped || reads == 1)
	return out
}
