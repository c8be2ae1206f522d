// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Operators of scripts are rewritten to calls of these functions, which charge before they compute. Their names are not
// identifiers, so that scripts cannot use or replace them.
const (
	nameDot   = "."
	nameKey   = "[]"
	nameSlice = "[:]"
	nameStar  = "*args"
	nameStars = "**args"
)

// inPlace and elementwise return the names of augmented assignments to a variable and to an element.
func inPlace(op syntax.Token) string     { return op.String() + "=" }
func elementwise(op syntax.Token) string { return "[]" + op.String() + "=" }

var binaries = []syntax.Token{
	syntax.PLUS, syntax.MINUS, syntax.STAR, syntax.SLASH, syntax.SLASHSLASH, syntax.PERCENT, syntax.AMP, syntax.PIPE,
	syntax.CIRCUMFLEX, syntax.LTLT, syntax.GTGT, syntax.IN, syntax.NOT_IN,
}

var comparisons = []syntax.Token{syntax.EQL, syntax.NEQ, syntax.LT, syntax.GT, syntax.LE, syntax.GE}

// augmented maps the tokens of augmented assignments to their operators.
var augmented = map[syntax.Token]syntax.Token{
	syntax.PLUS_EQ: syntax.PLUS, syntax.MINUS_EQ: syntax.MINUS, syntax.STAR_EQ: syntax.STAR, syntax.SLASH_EQ: syntax.SLASH,
	syntax.SLASHSLASH_EQ: syntax.SLASHSLASH, syntax.PERCENT_EQ: syntax.PERCENT, syntax.AMP_EQ: syntax.AMP, syntax.PIPE_EQ: syntax.PIPE,
	syntax.CIRCUMFLEX_EQ: syntax.CIRCUMFLEX, syntax.LTLT_EQ: syntax.LTLT, syntax.GTGT_EQ: syntax.GTGT,
}

type operation func(m *meter, args []starlark.Value) (starlark.Value, error)

// operators returns all functions that expressions are rewritten to.
func operators() starlark.StringDict {
	out := starlark.StringDict{}
	add := func(name string, arity int, do operation) {
		out[name] = starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if len(args) != arity || len(kwargs) != 0 {
				return nil, errors.New("invalid use of an operator")
			}
			return do(meterOf(thread), args)
		})
	}
	for _, op := range binaries {
		add(op.String(), 2, func(m *meter, args []starlark.Value) (starlark.Value, error) { return m.binary(op, args[0], args[1]) })
	}
	for _, op := range comparisons {
		add(op.String(), 2, func(m *meter, args []starlark.Value) (starlark.Value, error) { return m.compare(op, args[0], args[1]) })
	}
	for _, op := range augmented {
		add(inPlace(op), 2, func(m *meter, args []starlark.Value) (starlark.Value, error) { return m.augment(op, args[0], args[1]) })
		add(elementwise(op), 3, func(m *meter, args []starlark.Value) (starlark.Value, error) {
			return m.augmentElement(op, args[0], args[1], args[2])
		})
	}
	add(nameKey, 1, func(m *meter, args []starlark.Value) (starlark.Value, error) { return args[0], m.key(args[0]) })
	add(nameSlice, 1, func(m *meter, args []starlark.Value) (starlark.Value, error) { return args[0], m.sliced(args[0]) })
	for name, size := range map[string]int{nameStar: 4 * slot, nameStars: 2 * entry} {
		add(name, 1, func(m *meter, args []starlark.Value) (starlark.Value, error) {
			n, err := length(args[0])
			if err != nil {
				return nil, err
			}
			return args[0], m.alloc(n, size)
		})
	}
	add(nameDot, 2, attribute)
	return out
}

func (m *meter) sliced(v starlark.Value) error {
	switch v := v.(type) {
	case starlark.String:
		return m.alloc(len(v), 1)
	case starlark.Bytes:
		return m.alloc(len(v), 1)
	case *starlark.List:
		return m.alloc(v.Len(), slot)
	case starlark.Tuple:
		return m.alloc(len(v), slot)
	}
	return nil
}

// binary charges and computes x op y.
func (m *meter) binary(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	if err := m.beforeBinary(op, x, y); err != nil {
		return nil, err
	}
	z, err := starlark.Binary(op, x, y)
	if err != nil {
		return nil, err
	}
	if n, ok := z.(starlark.Int); ok && bitsOf(n) > maxBits {
		return nil, errBits
	}
	return z, nil
}

var errBits = fmt.Errorf("number has more than %d bits", maxBits)

func (m *meter) beforeBinary(op syntax.Token, x, y starlark.Value) error {
	switch op {
	case syntax.IN, syntax.NOT_IN:
		return m.beforeIn(x, y)
	case syntax.STAR:
		return m.beforeTimes(x, y)
	case syntax.PERCENT:
		if format, ok := x.(starlark.String); ok {
			if err := m.alloc(len(format), 1); err != nil {
				return err
			}
			return m.text(strings.Count(string(format), "%"), y)
		}
	case syntax.PLUS, syntax.MINUS, syntax.PIPE, syntax.AMP, syntax.CIRCUMFLEX:
		if err := m.copied(x); err != nil {
			return err
		}
		return m.copied(y)
	}
	return nil
}

// copied charges what an operand adds to a result.
func (m *meter) copied(v starlark.Value) error {
	switch v := v.(type) {
	case *starlark.Dict:
		return m.alloc(v.Len(), entry)
	case *starlark.Set:
		return m.alloc(v.Len(), entry)
	}
	return m.sliced(v)
}

func (m *meter) beforeIn(x, y starlark.Value) error {
	switch y := y.(type) {
	case *starlark.Dict, *starlark.Set:
		return m.key(x)
	case starlark.String:
		return m.work(len(y) / 64)
	case starlark.Bytes:
		return m.work(len(y) / 64)
	}
	return m.weigh(x, y)
}

func (m *meter) beforeTimes(x, y starlark.Value) error {
	if _, ok := x.(starlark.Int); !ok {
		x, y = y, x
	}
	times, ok := x.(starlark.Int)
	if !ok {
		return nil
	}
	if y, ok := y.(starlark.Int); ok {
		if bitsOf(times)+bitsOf(y) > maxBits {
			return errBits
		}
		return nil
	}
	size := 0
	switch y := y.(type) {
	case starlark.String:
		size = len(y)
	case starlark.Bytes:
		size = len(y)
	case *starlark.List:
		size = y.Len() * slot
	case starlark.Tuple:
		size = len(y) * slot
	}
	n, fits := times.Int64()
	if size == 0 || times.Sign() <= 0 {
		return nil
	}
	if high, low := bits.Mul64(uint64(n), uint64(size)); !fits || high != 0 || low > m.memory {
		return m.memoryError()
	}
	return m.alloc(int(n), size)
}

// compare charges and computes a comparison.
func (m *meter) compare(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	if err := m.weigh(x, y); err != nil {
		return nil, err
	}
	ok, err := starlark.Compare(op, x, y)
	return starlark.Bool(ok), err
}

// augment computes x op= y, which changes a list or dict in place.
func (m *meter) augment(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	switch x := x.(type) {
	case *starlark.List:
		if items, ok := y.(starlark.Iterable); ok && op == syntax.PLUS {
			return x, m.extend(x, items)
		}
	case *starlark.Dict:
		if other, ok := y.(*starlark.Dict); ok && op == syntax.PIPE {
			if err := m.alloc(other.Len(), 2*entry); err != nil {
				return nil, err
			}
			for _, item := range other.Items() {
				if err := x.SetKey(item[0], item[1]); err != nil {
					return nil, err
				}
			}
			return x, nil
		}
	}
	return m.binary(op, x, y)
}

func (m *meter) extend(list *starlark.List, items starlark.Iterable) error {
	n, err := length(items)
	if err != nil {
		return err
	}
	if err := m.alloc(n, 4*slot); err != nil {
		return err
	}
	added := make([]starlark.Value, 0, n) // a list may be added to itself
	for item := range starlark.Elements(items) {
		added = append(added, item)
	}
	for _, item := range added {
		if err := list.Append(item); err != nil {
			return err
		}
	}
	return nil
}

// augmentElement computes x[y] op= z.
func (m *meter) augmentElement(op syntax.Token, x, y, z starlark.Value) (starlark.Value, error) {
	if err := m.key(y); err != nil {
		return nil, err
	}
	switch x := x.(type) {
	case *starlark.Dict:
		old, found, err := x.Get(y)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("key %s not in dict", brief(y.String()))
		}
		changed, err := m.augment(op, old, z)
		if err != nil {
			return nil, err
		}
		return starlark.None, x.SetKey(y, changed)
	case *starlark.List:
		i, err := starlark.AsInt32(y)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i += x.Len()
		}
		if i < 0 || i >= x.Len() {
			return nil, fmt.Errorf("list index %s out of range", y)
		}
		changed, err := m.augment(op, x.Index(i), z)
		if err != nil {
			return nil, err
		}
		return starlark.None, x.SetIndex(i, changed)
	}
	return nil, fmt.Errorf("%s value does not support item assignment", x.Type())
}
