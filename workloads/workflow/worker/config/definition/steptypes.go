// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
)

const typeWorkflowStep = "workflow"

// field is one field of a step type's `with`. What a value must be beyond its type is for the step's executor.
type field struct {
	types    []InputType // none: anything
	required bool
	choices  []string
}

// stepType is what a type's `with` may hold.
type stepType map[string]field

func text(choices ...string) field { return field{types: []InputType{String}, choices: choices} }
func must(f field) field           { f.required = true; return f }
func of(t ...InputType) field      { return field{types: t} }

// stepTypes are all types there are. Their executors are elsewhere: the contract is these fields.
var stepTypes = map[string]stepType{
	"http": {
		"url": must(text()), "method": text("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), "headers": of(Object), "query": of(Object), "body": {},
		"timeout": text(), "expect": of(Array), "maxResponseBytes": of(Integer), "connection": text(),
	},
	"script":  {"source": must(text())},
	"sql":     {"connection": must(text()), "query": must(text()), "args": of(Array), "mode": text("query", "exec"), "maxRows": of(Integer)},
	"publish": {"connection": must(text()), "topic": text(), "exchange": text(), "key": text(), "headers": of(Object), "message": must(field{})},
	"notify":  {"channel": must(text()), "template": text(), "recipients": of(Array), "data": of(Object), "subject": text(), "message": text()},
	"pipeline": {
		"name": must(text()), "action": must(text("start", "pause", "wait")), "until": text("Running", "Paused", "Completed"), "timeout": text(),
	},
	typeWorkflowStep: {"name": must(text()), "inputs": of(Object), "wait": of(Boolean)},
	"approval":       {"approvers": must(of(Array)), "message": text(), "timeout": text(), "onTimeout": text("fail", "approve", "reject")},
	"wait":           {"for": text(), "until": text(), "event": of(Boolean), "timeout": text()},
	"transform":      {"value": must(field{})},
	"job": {
		"image": must(text()), "command": of(Array), "args": of(Array), "env": of(Object), "resources": of(Object), "timeout": text(), "serviceAccount": text(),
	},
}

// StepTypes are the names of all types, in order.
func StepTypes() []string { return slices.Sorted(maps.Keys(stepTypes)) }

// check compares the parts of `with` that are known beforehand: its literals, and the types of its expressions.
func (s stepType) check(problems *Problems, path string, with *template) {
	if with.fields == nil {
		problems.add(path, "want an object")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(with.fields)) {
		f, known := s[name]
		if !known {
			problems.add(join(path, name), "unknown field; there are %s", strings.Join(slices.Sorted(maps.Keys(s)), ", "))
			continue
		}
		if err := f.check(with.fields[name]); err != nil {
			problems.add(join(path, name), "%s", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if given := with.fields[name]; s[name].required && (given == nil || given.fixed && (given.literal == nil || given.literal == "")) {
			problems.add(join(path, name), "is required")
		}
	}
}

func (f field) check(given *template) error {
	if len(f.types) == 0 {
		return nil
	}
	switch {
	case given.whole != nil:
		if given.whole.is(types.NullType) || slices.ContainsFunc(f.types, func(t InputType) bool { return gives(given.whole, t) }) {
			return nil
		}
		return fmt.Errorf("want %s, the expression gives %s", f.words(), given.whole.gives)
	case given.pieces != nil:
		if !slices.Contains(f.types, String) {
			return fmt.Errorf("want %s, got a string", f.words())
		}
		return nil
	case given.fields != nil:
		if !slices.Contains(f.types, Object) {
			return fmt.Errorf("want %s, got an object", f.words())
		}
		return nil
	case given.items != nil:
		if !slices.Contains(f.types, Array) {
			return fmt.Errorf("want %s, got a list", f.words())
		}
		return nil
	case given.literal == nil:
		return nil
	}
	if !slices.ContainsFunc(f.types, func(t InputType) bool { _, ok := t.fits(given.literal); return ok }) {
		return fmt.Errorf("want %s", f.words())
	}
	if choice, ok := given.literal.(string); ok && len(f.choices) > 0 && !slices.Contains(f.choices, choice) {
		return fmt.Errorf("want one of %s", strings.Join(f.choices, ", "))
	}
	return nil
}

// gives tells whether an expression may give a value of t.
func gives(e *expression, t InputType) bool {
	switch t {
	case Object:
		return e.gives.Kind() == types.MapKind || e.gives.Kind() == types.StructKind || e.is(types.DynType)
	case Array:
		return e.gives.Kind() == types.ListKind || e.is(types.DynType)
	case String: // what plain makes a text of counts as one
		return e.is(types.StringType) || e.is(types.TimestampType) || e.is(types.DurationType)
	case Number:
		return e.is(types.DoubleType) || e.is(types.IntType)
	}
	return e.is(inputTypes[t])
}

func (f field) words() string {
	words := map[InputType]string{String: "a string", Integer: "a whole number", Number: "a number", Boolean: "true or false", Object: "an object", Array: "a list"}
	out := make([]string, len(f.types))
	for i, t := range f.types {
		out[i] = words[t]
	}
	return strings.Join(out, " or ")
}
