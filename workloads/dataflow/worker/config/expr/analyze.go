// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// analysis has the properties of an evaluation that follow from the syntax.
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
			if !celguard.Linear(e.AsCall().FunctionName()) {
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
