// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var identifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,62}$`)

// inputs checks the declared inputs, and decodes their defaults.
func (p *Program) inputs(problems *Problems) {
	if len(p.workflow.Inputs) > MaxInputs {
		problems.add("spec.inputs", "%d inputs, at most %d are allowed", len(p.workflow.Inputs), MaxInputs)
		return
	}
	p.defaults = map[string]any{}
	seen := map[string]bool{}
	for i := range p.workflow.Inputs {
		in := &p.workflow.Inputs[i]
		path := fmt.Sprintf("spec.inputs[%d]", i)
		if !identifier.MatchString(in.Name) {
			problems.add(path+".name", "want a name of letters, digits and _ that does not start with a digit")
		}
		if seen[in.Name] {
			problems.add(path+".name", "%s is declared twice", in.Name)
		}
		seen[in.Name] = true
		oneOf(problems, path+".type", in.Type, "", String, Integer, Number, Boolean, Object, Array)
		if len(in.Default) == 0 {
			continue
		}
		value, err := Decode(in.Default)
		if err != nil {
			problems.add(path+".default", "%s", err)
			continue
		}
		fitted, ok := in.Type.fits(value)
		switch {
		case in.Required:
			problems.add(path+".default", "a required input cannot have a default")
		case !ok:
			problems.add(path+".default", "want %s", in.kind().words())
		default:
			p.defaults[in.Name] = fitted
		}
	}
}

func (in *Input) kind() InputType {
	if in.Type == "" {
		return String
	}
	return in.Type
}

// absent is the value of an optional input without a default.
var absent = map[InputType]any{String: "", Integer: int64(0), Number: int64(0), Boolean: false, Object: map[string]any{}, Array: []any{}}

// Inputs returns the inputs of a run: the given values and the defaults. Its error is an *InputError, which does not quote values.
func (p *Program) Inputs(given map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(p.workflow.Inputs))
	for i := range p.workflow.Inputs {
		in := &p.workflow.Inputs[i]
		value, ok := given[in.Name]
		switch {
		case ok && value != nil:
			fitted, fits := in.Type.fits(value)
			if !fits {
				return nil, &InputError{"inputs." + in.Name, "want " + in.kind().words()}
			}
			out[in.Name] = fitted
		case in.Required:
			return nil, &InputError{"inputs." + in.Name, "is required"}
		default:
			preset, has := p.defaults[in.Name]
			if !has {
				preset = absent[in.kind()]
			}
			out[in.Name] = preset
		}
	}
	for name := range given {
		if _, known := out[name]; known {
			continue
		}
		if !identifier.MatchString(name) {
			name = "…"
		}
		return nil, &InputError{"inputs." + name, "unknown input; valid are " + p.inputNames()}
	}
	return out, nil
}

func (p *Program) inputNames() string {
	names := map[string]bool{}
	for i := range p.workflow.Inputs {
		names[p.workflow.Inputs[i].Name] = true
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}
