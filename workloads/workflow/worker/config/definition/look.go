// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// look gathers what an expression spells, so that what it cannot see is refused in advance.
type look struct {
	*expression
	wholeSteps bool // steps is used other than by a step's name, which would hide what it reads
	unbounded  bool // the work may grow faster than expression and data, so it has to be measured
}

// at looks at a node. bound are the variables of the loops around it, which hide those of the scope.
func (l *look) at(node ast.Expr, bound []string) {
	switch node.Kind() {
	case ast.IdentKind:
		if name := node.AsIdent(); !slices.Contains(bound, name) {
			l.uses[name] = true
			l.body = l.body || name == "trigger"
			l.wholeSteps = l.wholeSteps || name == "steps"
		}
	case ast.SelectKind:
		l.selected(node.AsSelect(), bound)
	case ast.LiteralKind:
		if text, ok := node.AsLiteral().(types.String); ok {
			l.names[string(text)] = true
		}
	case ast.CallKind:
		call := node.AsCall()
		l.unbounded = l.unbounded || !celguard.Linear(call.FunctionName())
		if call.IsMemberFunction() {
			l.at(call.Target(), bound)
		}
		l.all(call.Args(), bound)
	case ast.ListKind:
		l.all(node.AsList().Elements(), bound)
	case ast.MapKind:
		for _, entry := range node.AsMap().Entries() {
			l.at(entry.AsMapEntry().Key(), bound)
			l.at(entry.AsMapEntry().Value(), bound)
		}
	case ast.StructKind:
		for _, field := range node.AsStruct().Fields() {
			l.at(field.AsStructField().Value(), bound)
		}
	case ast.ComprehensionKind:
		l.loop(node.AsComprehension(), bound)
	}
}

func (l *look) all(nodes []ast.Expr, bound []string) {
	for _, node := range nodes {
		l.at(node, bound)
	}
}

func (l *look) selected(s ast.SelectExpr, bound []string) {
	l.names[s.FieldName()] = true
	of := s.Operand()
	if isName(of, "trigger", bound) && s.FieldName() != "body" {
		l.uses["trigger"] = true
		return
	}
	if isName(of, "steps", bound) {
		l.reads(s.FieldName(), "")
		return
	}
	if of.Kind() == ast.SelectKind && isName(of.AsSelect().Operand(), "steps", bound) {
		step := of.AsSelect().FieldName()
		l.names[step] = true
		l.reads(step, s.FieldName())
		return
	}
	l.at(of, bound)
}

// reads notes that a field of a step's result is read; "": all may be.
func (l *look) reads(step, field string) {
	l.uses["steps"] = true
	if !slices.Contains(l.steps, step) {
		l.steps = append(l.steps, step)
	}
	l.fields[[2]string{step, field}] = true
}

// isName reports whether a node is a variable of the scope.
func isName(node ast.Expr, name string, bound []string) bool {
	return node.Kind() == ast.IdentKind && node.AsIdent() == name && !slices.Contains(bound, name)
}

func (l *look) loop(c ast.ComprehensionExpr, bound []string) {
	l.unbounded = true
	l.at(c.IterRange(), bound)
	l.at(c.AccuInit(), bound)
	inner := append(slices.Clone(bound), c.AccuVar())
	l.at(c.Result(), inner)
	inner = append(inner, c.IterVar())
	if c.HasIterVar2() {
		inner = append(inner, c.IterVar2())
	}
	l.at(c.LoopCondition(), inner)
	l.at(c.LoopStep(), inner)
}
