// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"slices"
	"strings"
)

// order sorts the steps of a group topologically, and reports cycles.
func (p *Program) order(role Role, specs []StepSpec, problems *Problems) {
	o := &ordering{program: p, role: role, specs: specs, problems: problems, position: map[string]int{}, placed: map[int]int{}, edges: map[int][]int{}}
	for i := range specs {
		if _, taken := o.position[specs[i].Name]; !taken {
			o.position[specs[i].Name] = i
		}
	}
	for i := range specs {
		o.needs(i)
	}
	for i := range specs {
		o.place(i)
	}
	for i := range specs {
		p.written = append(p.written, p.steps[o.placed[i]])
	}
	p.connect(role)
}

// ordering is the state of one group's depth-first search.
type ordering struct {
	program  *Program
	role     Role
	specs    []StepSpec
	problems *Problems
	position map[string]int
	edges    map[int][]int
	placed   map[int]int // position in the group → index in the program
	trail    []int
}

// needs resolves the needs of a step, and reports invalid ones.
func (o *ordering) needs(i int) {
	spec := &o.specs[i]
	for n, need := range spec.Needs {
		path := fmt.Sprintf("%s[%d].needs[%d]", groupPath(o.role), i, n)
		at, known := o.position[need]
		switch {
		case !known && o.role != Main:
			o.problems.add(path, "there is no step %q among the handlers of %s", need, o.role)
		case !known:
			o.problems.add(path, "there is no step %q", need)
		case slices.Index(spec.Needs, need) < n:
			o.problems.add(path, "%s is listed twice", need)
		default:
			o.edges[i] = append(o.edges[i], at)
		}
	}
}

// place adds a step to the program, after the steps that it needs. It reports and skips a need that closes a cycle, so that the
// rest is checked too.
func (o *ordering) place(i int) {
	if _, done := o.placed[i]; done {
		return
	}
	o.trail = append(o.trail, i)
	step := &Step{spec: &o.specs[i], role: o.role, path: fmt.Sprintf("%s[%d]", groupPath(o.role), i)}
	for _, at := range o.edges[i] {
		if from := slices.Index(o.trail, at); from >= 0 {
			o.cycle(from)
			continue
		}
		o.place(at)
		step.needs = append(step.needs, o.placed[at])
	}
	o.trail = o.trail[:len(o.trail)-1]
	step.index = len(o.program.steps)
	o.placed[i] = step.index
	o.program.steps = append(o.program.steps, step)
}

func (o *ordering) cycle(from int) {
	names := make([]string, 0, len(o.trail)-from+1)
	for _, i := range append(slices.Clone(o.trail[from:]), o.trail[from]) {
		names = append(names, o.specs[i].Name)
	}
	o.problems.add(fmt.Sprintf("%s[%d].needs", groupPath(o.role), o.trail[from]), "a cycle: %s", strings.Join(names, " -> "))
}

// connect sets the dependents of a group's steps, and the steps whose results they may read. A handler may read every main step.
func (p *Program) connect(role Role) {
	for _, step := range p.steps {
		if step.role != role {
			continue
		}
		step.before = map[string]bool{}
		for _, need := range step.needs {
			p.steps[need].dependents = append(p.steps[need].dependents, step.index)
			step.before[p.steps[need].spec.Name] = true
			for name := range p.steps[need].before {
				step.before[name] = true
			}
		}
		for _, other := range p.steps {
			if role != Main && other.role == Main {
				step.before[other.spec.Name] = true
			}
		}
	}
}
