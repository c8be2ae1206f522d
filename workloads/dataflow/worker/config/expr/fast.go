// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Most predicates compare fields with constants. fastNode evaluates those in one scan over the
// bytes, without the interpreter and without allocating. It answers only what is certain; for
// everything else (a missing field, an escape, a type that does not fit) the interpreter decides,
// so that results and errors are CEL's own.
type fastNode struct {
	root *fastOp
	scan *scanNode
	// leaves is how many fields a scan may stop after.
	leaves int
}

type fastKind int

const (
	fastAnd fastKind = iota
	fastOr
	fastNot
	fastTruth // the field itself
	fastHas
	fastCompare
	fastIn
	fastText // startsWith, endsWith, contains
)

type fastOp struct {
	kind     fastKind
	kids     []*fastOp
	slot     int
	parent   int // fastHas: the slot of the object around the field; -1: the record
	operator string
	literals []scanned
}

// truth is three-valued: an uncertain operand leaves the answer to the interpreter.
type truth int8

const (
	uncertain truth = iota
	isFalse
	isTrue
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// compileFast gives nil for an expression beyond what it covers.
func compileFast(e ast.Expr) *fastNode {
	out := &fastNode{scan: &scanNode{slot: -1}}
	c := &fastCompiler{out: out}
	out.root = c.compile(e)
	if out.root == nil || c.slots > maxSlots {
		return nil
	}
	out.leaves = out.scan.countLeaves()
	return out
}

type fastCompiler struct {
	out   *fastNode
	slots int
}

func (c *fastCompiler) compile(e ast.Expr) *fastOp {
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() {
			parent, ok := c.place(s.Operand())
			if !ok {
				return nil
			}
			return &fastOp{kind: fastHas, slot: c.child(parent, s.FieldName()).slot, parent: parent.slot}
		}
		if node, ok := c.field(e); ok {
			return &fastOp{kind: fastTruth, slot: node.slot}
		}
	case ast.CallKind:
		return c.call(e.AsCall())
	}
	return nil
}

func (c *fastCompiler) call(call ast.CallExpr) *fastOp {
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		kinds := map[string]fastKind{operators.LogicalAnd: fastAnd, operators.LogicalOr: fastOr, operators.LogicalNot: fastNot}
		op := &fastOp{kind: kinds[call.FunctionName()]}
		for _, arg := range args {
			kid := c.compile(arg)
			if kid == nil {
				return nil
			}
			op.kids = append(op.kids, kid)
		}
		return op
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return c.compare(call.FunctionName(), args)
	case operators.In:
		return c.in(args)
	case "startsWith", "endsWith", "contains":
		if !call.IsMemberFunction() || len(args) != 1 {
			return nil
		}
		node, ok := c.field(call.Target())
		literal, isLiteral := literalOf(args[0])
		if ok && isLiteral && literal.kind == scanString {
			return &fastOp{kind: fastText, slot: node.slot, operator: call.FunctionName(), literals: []scanned{literal}}
		}
	}
	return nil
}

var mirrored = map[string]string{
	operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
	operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
	operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
}

func (c *fastCompiler) compare(operator string, args []ast.Expr) *fastOp {
	left, right := args[0], args[1]
	literal, ok := literalOf(right)
	if !ok {
		left, operator = right, mirrored[operator]
		if literal, ok = literalOf(args[0]); !ok {
			return nil
		}
	}
	node, ok := c.field(left)
	if !ok {
		return nil
	}
	return &fastOp{kind: fastCompare, slot: node.slot, operator: operator, literals: []scanned{literal}}
}

func (c *fastCompiler) in(args []ast.Expr) *fastOp {
	if args[1].Kind() != ast.ListKind {
		return nil
	}
	op := &fastOp{kind: fastIn}
	for _, item := range args[1].AsList().Elements() {
		literal, ok := literalOf(item)
		if !ok {
			return nil
		}
		op.literals = append(op.literals, literal)
	}
	node, ok := c.field(args[0])
	if !ok {
		return nil
	}
	op.slot = node.slot
	return op
}

// field returns place, except for the record itself.
func (c *fastCompiler) field(e ast.Expr) (*scanNode, bool) {
	node, ok := c.place(e)
	return node, ok && node.slot >= 0
}

// place finds or makes the node of a selection that starts at `this`.
func (c *fastCompiler) place(e ast.Expr) (*scanNode, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return c.out.scan, e.AsIdent() == "this"
	case ast.SelectKind:
		s := e.AsSelect()
		parent, ok := c.place(s.Operand())
		if !ok || s.IsTestOnly() {
			return nil, false
		}
		return c.child(parent, s.FieldName()), true
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index || len(call.Args()) != 2 {
			return nil, false
		}
		name, ok := literalOf(call.Args()[1])
		parent, isPlace := c.place(call.Args()[0])
		if !ok || !isPlace || name.kind != scanString {
			return nil, false
		}
		return c.child(parent, name.text), true
	}
	return nil, false
}

func (c *fastCompiler) child(parent *scanNode, name string) *scanNode {
	for _, kid := range parent.kids {
		if kid.name == name {
			return kid
		}
	}
	kid := &scanNode{name: name, slot: c.slots}
	c.slots++
	parent.kids = append(parent.kids, kid)
	return kid
}

func literalOf(e ast.Expr) (scanned, bool) {
	if e.Kind() != ast.LiteralKind {
		return scanned{}, false
	}
	switch v := e.AsLiteral().(type) {
	case types.String:
		return scanned{kind: scanString, text: string(v)}, true
	case types.Int:
		return scanned{kind: scanInt, whole: int64(v)}, true
	case types.Double:
		return scanned{kind: scanFloat, float: float64(v)}, true
	case types.Bool:
		if v {
			return scanned{kind: scanTrue}, true
		}
		return scanned{kind: scanFalse}, true
	case types.Null:
		return scanned{kind: scanNull}, true
	}
	return scanned{}, false
}

// evalBool scans the bytes once.
func (f *fastNode) evalBool(raw []byte) (result, certain bool) {
	if !looksLikeObject(raw) {
		return false, false
	}
	s := scanner{raw: raw, left: f.leaves}
	if !s.object(f.scan) {
		return false, false
	}
	answer := f.root.eval(&s)
	return answer == isTrue, answer != uncertain
}

func (op *fastOp) eval(s *scanner) truth {
	switch op.kind {
	case fastAnd, fastOr:
		return op.logic(s)
	case fastNot:
		switch op.kids[0].eval(s) {
		case isTrue:
			return isFalse
		case isFalse:
			return isTrue
		}
		return uncertain
	case fastHas:
		return op.has(s)
	}
	value := s.value(op.slot)
	switch op.kind {
	case fastTruth:
		switch value.kind {
		case scanTrue:
			return isTrue
		case scanFalse:
			return isFalse
		}
	case fastCompare:
		return compareScanned(op.operator, value, &op.literals[0])
	case fastIn:
		if value.kind == scanAbsent || value.kind == scanOpaque {
			return uncertain
		}
		for i := range op.literals {
			if equalScanned(value, &op.literals[i]) {
				return isTrue
			}
		}
		return isFalse
	case fastText:
		if value.kind != scanString {
			return uncertain
		}
		switch op.operator {
		case "startsWith":
			return truthOf(strings.HasPrefix(value.text, op.literals[0].text))
		case "endsWith":
			return truthOf(strings.HasSuffix(value.text, op.literals[0].text))
		default:
			return truthOf(strings.Contains(value.text, op.literals[0].text))
		}
	}
	return uncertain
}

// logic follows CEL: one operand that decides outweighs an error in the others.
func (op *fastOp) logic(s *scanner) truth {
	decides, otherwise := isFalse, isTrue
	if op.kind == fastOr {
		decides, otherwise = isTrue, isFalse
	}
	for _, kid := range op.kids {
		switch kid.eval(s) {
		case decides:
			return decides
		case uncertain:
			otherwise = uncertain
		}
	}
	return otherwise
}

func (op *fastOp) has(s *scanner) truth {
	switch s.slots[op.slot].kind {
	case scanAbsent:
		if op.parent >= 0 && s.slots[op.parent].kind != scanObject {
			return uncertain
		}
		// Absence is certain only in a value that is JSON from end to end.
		if s.valid() {
			return isFalse
		}
		return uncertain
	case scanOpaque:
		return uncertain
	}
	return isTrue
}

func equalScanned(a, b *scanned) bool {
	if a.number() && b.number() {
		if a.kind == scanInt && b.kind == scanInt {
			return a.whole == b.whole
		}
		return a.asFloat() == b.asFloat()
	}
	return a.kind == b.kind && a.text == b.text
}

func compareScanned(operator string, a, b *scanned) truth {
	if a.kind == scanAbsent || a.kind == scanOpaque {
		return uncertain
	}
	switch operator {
	case operators.Equals:
		return truthOf(equalScanned(a, b))
	case operators.NotEquals:
		return truthOf(!equalScanned(a, b))
	}
	order := 0
	switch {
	case a.kind == scanString && b.kind == scanString:
		order = strings.Compare(a.text, b.text)
	case a.kind == scanInt && b.kind == scanInt:
		order = compareNumbers(a.whole, b.whole)
	case a.number() && b.number():
		order = compareNumbers(a.asFloat(), b.asFloat())
	default:
		return uncertain
	}
	switch operator {
	case operators.Less:
		return truthOf(order < 0)
	case operators.LessEquals:
		return truthOf(order <= 0)
	case operators.Greater:
		return truthOf(order > 0)
	default:
		return truthOf(order >= 0)
	}
}

func compareNumbers[N int64 | float64](a, b N) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
