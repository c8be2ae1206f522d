// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// references collects the names in an expression, so that unavailable ones are compile errors.
type references struct {
	*expression
	wholeSteps bool // steps is used without the name of a step, so that the steps that it reads are unknown
	unbounded  bool // the cost may grow faster than expression and data, and must be limited
}

// visit visits a node. bound are the variables of enclosing loops, which hide those of the scope.
func (r *references) visit(node ast.Expr, bound []string) {
	switch node.Kind() {
	case ast.IdentKind:
		if name := node.AsIdent(); !slices.Contains(bound, name) {
			r.uses[name] = true
			r.body = r.body || name == "trigger"
			r.wholeSteps = r.wholeSteps || name == "steps"
		}
	case ast.SelectKind:
		r.selected(node.AsSelect(), bound)
	case ast.LiteralKind:
		if text, ok := node.AsLiteral().(types.String); ok {
			r.names[string(text)] = true
		}
	case ast.CallKind:
		call := node.AsCall()
		r.unbounded = r.unbounded || !celguard.Linear(call.FunctionName())
		if call.IsMemberFunction() {
			r.visit(call.Target(), bound)
		}
		r.all(call.Args(), bound)
	case ast.ListKind:
		r.all(node.AsList().Elements(), bound)
	case ast.MapKind:
		for _, entry := range node.AsMap().Entries() {
			r.visit(entry.AsMapEntry().Key(), bound)
			r.visit(entry.AsMapEntry().Value(), bound)
		}
	case ast.StructKind:
		for _, field := range node.AsStruct().Fields() {
			r.visit(field.AsStructField().Value(), bound)
		}
	case ast.ComprehensionKind:
		r.loop(node.AsComprehension(), bound)
	}
}

func (r *references) all(nodes []ast.Expr, bound []string) {
	for _, node := range nodes {
		r.visit(node, bound)
	}
}

func (r *references) selected(s ast.SelectExpr, bound []string) {
	r.names[s.FieldName()] = true
	of := s.Operand()
	if isName(of, "trigger", bound) && s.FieldName() != "body" {
		r.uses["trigger"] = true
		return
	}
	if isName(of, "steps", bound) {
		r.reads(s.FieldName(), "")
		return
	}
	if of.Kind() == ast.SelectKind && isName(of.AsSelect().Operand(), "steps", bound) {
		step := of.AsSelect().FieldName()
		r.names[step] = true
		r.reads(step, s.FieldName())
		return
	}
	r.visit(of, bound)
}

// reads records that a field of a step's result is read, or any field if it is "".
func (r *references) reads(step, field string) {
	r.uses["steps"] = true
	if !slices.Contains(r.steps, step) {
		r.steps = append(r.steps, step)
	}
	r.fields[[2]string{step, field}] = true
}

// isName reports whether a node is a variable of the scope.
func isName(node ast.Expr, name string, bound []string) bool {
	return node.Kind() == ast.IdentKind && node.AsIdent() == name && !slices.Contains(bound, name)
}

func (r *references) loop(c ast.ComprehensionExpr, bound []string) {
	r.unbounded = true
	r.visit(c.IterRange(), bound)
	r.visit(c.AccuInit(), bound)
	inner := append(slices.Clone(bound), c.AccuVar())
	r.visit(c.Result(), inner)
	inner = append(inner, c.IterVar())
	if c.HasIterVar2() {
		inner = append(inner, c.IterVar2())
	}
	r.visit(c.LoopCondition(), inner)
	r.visit(c.LoopStep(), inner)
}
