// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"go.starlark.net/lib/json"
	starmath "go.starlark.net/lib/math"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// use is one call of a function, with its arguments. recv is the receiver of a method, or nil.
type use struct {
	*meter
	recv   starlark.Value
	args   starlark.Tuple
	kwargs []starlark.Tuple
}

// arg returns the i-th argument, or None.
func (u use) arg(i int) starlark.Value {
	if i < len(u.args) {
		return u.args[i]
	}
	return starlark.None
}

// cost charges a call before it is made. Invalid arguments are left to the function itself.
type cost func(use) error

func free(use) error { return nil }

// each charges size bytes for every element of the arguments and of the receiver.
func each(size int) cost {
	return func(u use) error {
		args := u.args
		if u.recv != nil {
			args = append(starlark.Tuple{u.recv}, args...)
		}
		for _, arg := range args {
			n, err := length(arg)
			if err != nil {
				return err
			}
			if err := errors.Join(u.work(n/16), u.alloc(n, size)); err != nil {
				return err
			}
		}
		return nil
	}
}

func fixed(size int) cost { return func(u use) error { return u.alloc(1, size) } }

func all(costs ...cost) cost {
	return func(u use) error {
		for _, c := range costs {
			if err := c(u); err != nil {
				return err
			}
		}
		return nil
	}
}

func weighed(u use) error  { return u.weigh(u.args...) }
func received(u use) error { return u.weigh(u.recv) }
func keyed(u use) error    { return u.key(u.arg(0)) }

// keys charges the elements of every argument as keys.
func keys(u use) error { return u.elements(u.key) }

// pairs charges the elements of every argument as pairs of key and value.
func pairs(u use) error {
	return u.elements(func(item starlark.Value) error {
		if pair, ok := item.(starlark.Indexable); ok && pair.Len() > 0 {
			return u.key(pair.Index(0))
		}
		return nil
	})
}

func (u use) elements(count func(starlark.Value) error) error {
	for _, arg := range u.args {
		items, ok := arg.(starlark.Iterable)
		if _, dict := arg.(*starlark.Dict); !ok || dict {
			continue // its keys are keys already
		}
		if _, err := length(items); err != nil {
			return err
		}
		for item := range starlark.Elements(items) {
			if err := errors.Join(u.work(1), count(item)); err != nil {
				return err
			}
		}
	}
	return nil
}

func printed(u use) error { return u.printed(1) }

// encoded charges for JSON, which escapes some bytes with six: \u003c.
func encoded(u use) error { return u.printed(2) }

func (u use) printed(times int) error {
	for _, pair := range u.kwargs { // the separator is repeated between arguments
		if err := u.text(times*max(1, len(u.args)), pair[1]); err != nil {
			return err
		}
	}
	return u.text(times, u.args...)
}

func iterated(u use) error {
	n, err := length(u.arg(0))
	return errors.Join(err, u.work(n))
}

func sortedCost(u use) error {
	n, err := length(u.arg(0))
	if err != nil {
		return err
	}
	if err := u.alloc(n, 3*slot); err != nil {
		return err
	}
	for range bits.Len(uint(n)) {
		if err := errors.Join(u.work(n), u.weigh(u.arg(0))); err != nil {
			return err
		}
	}
	return nil
}

func digits(u use) error {
	if s, ok := u.arg(0).(starlark.String); ok && len(s) > maxDigits {
		return fmt.Errorf("text of %d bytes is too long for a number", len(s))
	}
	return nil
}

// universe lists the functions of scripts with their costs. Other functions of the language are not available: getattr would bypass
// the costs of methods, and dir and hash expose the interpreter.
var universe = map[string]cost{
	"abs": free, "all": iterated, "any": iterated, "bool": free, "bytes": each(slot), "chr": free, "dict": all(pairs, each(entry)),
	"enumerate": each(6 * slot), "fail": printed, "float": digits, "int": digits, "len": free, "list": each(slot),
	"max": all(iterated, weighed), "min": all(iterated, weighed), "ord": free, "print": printed, "range": free, "repr": printed, "reversed": each(slot),
	"set": all(keys, each(entry)), "sorted": sortedCost, "str": printed, "tuple": each(slot), "type": free, "zip": each(4 * slot),
}

// methods lists the methods of values with their costs, by type.
var methods = map[string]map[string]cost{
	"string": stringMethods,
	"bytes":  {"elems": free},
	"list": {
		"append": fixed(3 * slot), "clear": each(0), "extend": each(3 * slot), "index": all(received, weighed), "insert": all(fixed(3*slot), each(0)),
		"pop": free, "remove": all(received, weighed),
	},
	"dict": {
		"clear": each(0), "get": keyed, "items": each(4 * slot), "keys": each(slot), "pop": keyed, "popitem": fixed(4 * slot),
		"setdefault": all(keyed, fixed(entry)), "update": all(pairs, each(entry)), "values": each(slot),
	},
	"set": {
		"add": all(keyed, fixed(entry)), "clear": each(0), "difference": all(keys, each(entry)), "discard": keyed,
		"intersection": all(keys, each(entry)), "issubset": all(keys, each(entry)), "issuperset": all(keys, each(entry)), "pop": free,
		"remove": keyed, "symmetric_difference": all(keys, each(entry)), "union": all(keys, each(entry)), "update": all(keys, each(entry)),
	},
}

// scanned charges for a scan of the text.
func scanned(u use) error {
	n, err := length(u.recv)
	return errors.Join(err, u.work(n/64))
}

// recased charges for a change of case: the other case of a letter may be longer.
func recased(u use) error { return u.alloc(len(str(u.recv)), 3) }

var stringMethods = map[string]cost{
	"capitalize": recased, "codepoint_ords": free, "codepoints": free, "count": scanned, "elem_ords": free, "elems": free, "endswith": scanned, "find": scanned, "format": formatCost, "index": scanned,
	"isalnum": scanned, "isalpha": scanned, "isdigit": scanned, "islower": scanned, "isspace": scanned, "istitle": scanned, "isupper": scanned,
	"join": joinCost, "lower": recased, "lstrip": stripCost, "partition": scanned, "removeprefix": scanned, "removesuffix": scanned,
	"replace": replaceCost, "rfind": scanned, "rindex": scanned, "rpartition": scanned, "rsplit": splitCost, "rstrip": stripCost, "split": splitCost,
	"splitlines": linesCost, "startswith": scanned, "strip": stripCost, "title": recased, "upper": recased,
}

func str(v starlark.Value) string {
	s, _ := starlark.AsString(v)
	return s
}

func formatCost(u use) error {
	format := str(u.recv)
	values := append(starlark.Tuple{}, u.args...)
	for _, pair := range u.kwargs {
		values = append(values, pair[1])
	}
	return errors.Join(u.alloc(len(format), 1), u.text(strings.Count(format, "{"), values...))
}

func joinCost(u use) error {
	items, ok := u.arg(0).(starlark.Iterable)
	if !ok {
		return nil
	}
	n, err := length(items)
	if err != nil {
		return err
	}
	if err := errors.Join(u.work(n), u.alloc(n, len(str(u.recv)))); err != nil {
		return err
	}
	for item := range starlark.Elements(items) {
		if err := u.alloc(len(str(item)), 1); err != nil {
			return err
		}
	}
	return nil
}

func replaceCost(u use) error {
	s, before, after := str(u.recv), str(u.arg(0)), str(u.arg(1))
	n := strings.Count(s, before)
	if n == 0 {
		return u.work(len(s) / 64)
	}
	return errors.Join(u.alloc(len(s), 1), u.alloc(n, len(after)))
}

// splitCost charges for the largest possible number of parts.
func splitCost(u use) error {
	s, parts := str(u.recv), 0
	if separator := str(u.arg(0)); separator != "" {
		parts = strings.Count(s, separator) + 1
	} else {
		parts = len(s)/2 + 1
	}
	return u.alloc(parts, 3*slot)
}

func linesCost(u use) error { return u.alloc(len(str(u.recv))+1, 3*slot) }

func stripCost(u use) error {
	return u.work(len(str(u.recv)) / 64 * (1 + len(str(u.arg(0)))))
}

// counted returns a function that charges its cost before it runs.
func counted(name string, inner *starlark.Builtin, c cost) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if err := c(use{meter: meterOf(thread), recv: inner.Receiver(), args: args, kwargs: kwargs}); err != nil {
			return nil, err
		}
		return inner.CallInternal(thread, args, kwargs)
	})
}

// attribute returns x.name: a method of the list above, or a member of a module.
func attribute(_ *meter, args []starlark.Value) (starlark.Value, error) {
	x, name := args[0], str(args[1])
	missing := fmt.Errorf("%s has no .%s", x.Type(), name)
	object, ok := x.(starlark.HasAttrs)
	if !ok {
		return nil, missing
	}
	found, err := object.Attr(name)
	if err != nil || found == nil {
		return nil, missing
	}
	if _, module := x.(*starlarkstruct.Module); module {
		return found, nil
	}
	method, ok := found.(*starlark.Builtin)
	c := methods[x.Type()][name]
	if !ok || c == nil {
		return nil, fmt.Errorf("%s.%s is not available in a step", x.Type(), name)
	}
	return counted(name, method, c), nil
}

// predeclared returns all names that scripts can use, except for their data.
func predeclared() starlark.StringDict {
	out := operators()
	for name, value := range starlark.Universe {
		inner, ok := value.(*starlark.Builtin)
		if !ok {
			continue // None, True, False
		}
		c := universe[name]
		if c == nil {
			c = func(use) error { return fmt.Errorf("%s is not available in a step", name) }
		}
		out[name] = counted(name, inner, c)
	}
	out["math"] = starmath.Module // its functions take and return numbers
	out["json"] = &starlarkstruct.Module{Name: "json", Members: starlark.StringDict{
		"encode": counted("json.encode", member("encode"), encoded),
		"decode": counted("json.decode", member("decode"), decodeCost),
	}}
	out.Freeze()
	return out
}

func member(name string) *starlark.Builtin { return json.Module.Members[name].(*starlark.Builtin) }

// decodeCost charges for the largest possible number of values: the smallest one is a list of two bytes and a comma. It bounds the
// depth, since the decoder is recursive, and the length of numbers, which cost the square of it.
func decodeCost(u use) error {
	text := str(u.arg(0))
	depth, digits := 0, 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			digits = 0
		} else if digits++; digits > maxDigits {
			return errBits
		}
		switch c {
		case '[', '{':
			if depth++; depth > maxDepth {
				return errDeep
			}
		case ']', '}':
			depth--
		}
	}
	return errors.Join(u.work(len(text)/16), u.alloc(len(text), 2*slot))
}
