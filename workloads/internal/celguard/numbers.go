// SPDX-License-Identifier: Apache-2.0

package celguard

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// arithmetic is an operator on two numbers that converts a whole one if the other is a double; everything else follows
// CEL.
type arithmetic struct {
	interpreter.InterpretableCall
	left, right interpreter.InterpretableV2
	doubles     func(a, b types.Double) ref.Val
	others      func(a, b ref.Val) ref.Val
}

// MixNumbers is a decorator that makes `this.price * 1.1` work if the price happens to be whole.
func MixNumbers(node interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := node.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return node, nil
	}
	out := &arithmetic{InterpretableCall: call, left: call.Args()[0], right: call.Args()[1]}
	switch call.Function() {
	case operators.Add:
		out.doubles = func(a, b types.Double) ref.Val { return a + b }
		out.others = func(a, b ref.Val) ref.Val {
			if adder, ok := a.(traits.Adder); ok {
				return adder.Add(b)
			}
			return types.NewErr("no such overload")
		}
	case operators.Subtract:
		out.doubles = func(a, b types.Double) ref.Val { return a - b }
		out.others = func(a, b ref.Val) ref.Val {
			if subtractor, ok := a.(traits.Subtractor); ok {
				return subtractor.Subtract(b)
			}
			return types.NewErr("no such overload")
		}
	case operators.Multiply:
		out.doubles = func(a, b types.Double) ref.Val { return a * b }
		out.others = func(a, b ref.Val) ref.Val {
			if multiplier, ok := a.(traits.Multiplier); ok {
				return multiplier.Multiply(b)
			}
			return types.NewErr("no such overload")
		}
	case operators.Divide:
		out.doubles = func(a, b types.Double) ref.Val { return a / b }
		out.others = func(a, b ref.Val) ref.Val {
			if divider, ok := a.(traits.Divider); ok {
				return divider.Divide(b)
			}
			return types.NewErr("no such overload")
		}
	default:
		return node, nil
	}
	return out, nil
}

// Eval evaluates without a frame.
func (a *arithmetic) Eval(vars interpreter.Activation) ref.Val {
	return a.combine(a.left.Eval(vars), a.right.Eval(vars))
}

// Exec is Eval within a frame.
func (a *arithmetic) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return a.combine(a.left.Exec(frame), a.right.Exec(frame))
}

func (a *arithmetic) combine(left, right ref.Val) ref.Val {
	if types.IsUnknownOrError(left) {
		return left
	}
	if types.IsUnknownOrError(right) {
		return right
	}
	switch l := left.(type) {
	case types.Int:
		if r, ok := right.(types.Double); ok {
			return a.doubles(types.Double(l), r)
		}
	case types.Double:
		if r, ok := right.(types.Int); ok {
			return a.doubles(l, types.Double(r))
		}
	}
	result := a.others(left, right)
	if types.IsError(result) {
		// A copy: CEL shares its error values, and the location belongs only to this node.
		return types.NewErrWithNodeID(a.ID(), "%s", result.(*types.Err).Error())
	}
	return result
}
