// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/itechsmart/operator/workloads/internal/schema"
)

const (
	maxTimeout     = 30 * 24 * time.Hour
	maxAttempts    = 20
	maxParallelism = 100
	defaultItems   = 10 // parallel items
	maxOutputs     = 64
)

var nameForm = regexp.MustCompile(`^[a-z]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

const nameRule = "want a lower-case letter, then lower-case letters, digits, - and _, at most 63 characters"

// Role distinguishes main steps from handlers.
type Role string

// Roles of steps. Main steps are those of spec.steps.
const (
	Main        Role = ""
	OnSuccess   Role = "onSuccess"
	OnFailure   Role = "onFailure"
	AlwaysAfter Role = "always"
)

// Compile validates and compiles a workflow. Its error is *Problems.
func Compile(w *Workflow) (*Program, error) {
	problems := &Problems{}
	p := &Program{workflow: w, hash: hashOf(w)}
	p.inputs(problems)
	groups := []struct {
		role  Role
		specs []StepSpec
	}{{Main, w.Steps}, {OnSuccess, w.OnSuccess}, {OnFailure, w.OnFailure}, {AlwaysAfter, w.Always}}
	names := map[string]string{}
	total := 0
	for _, group := range groups {
		total += len(group.specs)
		checkNames(group.role, group.specs, names, problems)
	}
	if len(w.Steps) == 0 {
		problems.add("spec.steps", "want at least one step")
	}
	if total > MaxSteps {
		problems.add("spec.steps", "%d steps, at most %d are allowed, handlers included", total, MaxSteps)
	}
	if total == 0 || total > MaxSteps {
		return nil, problems
	}
	for _, group := range groups {
		p.order(group.role, group.specs, problems)
	}
	all := make([]string, 0, len(names))
	for name := range names {
		all = append(all, name)
	}
	env, err := environment(w.Inputs, all)
	if err != nil {
		problems.add("spec", "%s", err)
		return nil, problems
	}
	c := &compiler{env: env, problems: problems}
	kinds, err := stepTypes()
	if err != nil {
		problems.add("spec", "%s", err)
		return nil, problems
	}
	c.kinds = kinds
	for i := range w.Triggers {
		p.trigger(c, i)
	}
	p.settings(c)
	for _, step := range p.written {
		p.compileStep(c, step)
	}
	p.outputs = c.templates("spec.outputs", w.Outputs, func(e *expression) error { return e.visible(false, false) })
	p.history(c)
	if len(problems.List) > 0 {
		return nil, problems
	}
	return p, nil
}

// hashOf identifies a definition by its content.
func hashOf(w *Workflow) string {
	data, err := json.Marshal(w)
	if err != nil {
		return "" // a raw part is not JSON, which Compile reports
	}
	// Decode and encode again: the order of fields and the whitespace of raw parts do not matter.
	tree, err := Decode(data)
	if err != nil {
		return ""
	}
	if data, err = json.Marshal(tree); err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

func groupPath(role Role) string {
	if role == Main {
		return "spec.steps"
	}
	return "spec." + string(role)
}

func checkNames(role Role, specs []StepSpec, seen map[string]string, problems *Problems) {
	for i := range specs {
		path := fmt.Sprintf("%s[%d].name", groupPath(role), i)
		name := specs[i].Name
		switch first := seen[name]; {
		case !nameForm.MatchString(name):
			problems.add(path, nameRule)
		case first != "":
			problems.add(path, "%s is already the name of %s", name, first)
		default:
			seen[name] = strings.TrimSuffix(path, ".name")
		}
	}
}

// compileStep compiles the fields of a step.
func (p *Program) compileStep(c *compiler, s *Step) {
	spec := s.spec
	kind, known := c.kinds[spec.Type]
	if !known {
		c.problems.add(s.path+".type", "there is no step type %q; there are %s", spec.Type, strings.Join(StepTypes(), ", "))
	}
	inItem := spec.ForEach != nil
	inStep := func(e *expression) error { return s.sees(e, false, false) }
	if spec.When != "" {
		s.when = c.expression(s.path+".when", spec.When, func(e *expression) error {
			if !e.is(types.BoolType) {
				return fmt.Errorf("want a bool, got %s", e.result)
			}
			return inStep(e)
		})
	}
	p.forEach(c, s, inStep)
	with := schema.OrEmpty(spec.With)
	s.with = c.template(s.path+".with", with, func(e *expression) error { return s.sees(e, inItem, false) })
	if known {
		(&withCheck{problems: c.problems, open: map[string]bool{}}).check(kind, s.path+".with", s.with)
		p.selfCall(c, s)
		if field := s.with.fields["connection"]; field != nil && field.fixed {
			name, _ := field.literal.(string)
			p.connection(c.problems, s.path+".with.connection", name)
		}
	}
	if len(spec.Outputs) > maxOutputs {
		c.problems.add(s.path+".outputs", "%d outputs, at most %d are allowed", len(spec.Outputs), maxOutputs)
	}
	s.outputs = c.templates(s.path+".outputs", spec.Outputs, func(e *expression) error { return s.sees(e, inItem, true) })
	duration(c.problems, s.path+".timeout", spec.Timeout)
	if spec.OnError != "" && spec.OnError != Fail && spec.OnError != Continue {
		c.problems.add(s.path+".onError", "want Fail or Continue")
	}
	s.retry = retryOf(c.problems, s.path+".retry", spec.Retry)
}

func (c *compiler) templates(path string, values map[string]json.RawMessage, allowed func(*expression) error) map[string]*template {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]*template, len(values))
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !identifier.MatchString(name) {
			c.problems.add(join(path, name), "want a name of letters, digits and _ that does not start with a digit")
		}
		out[name] = c.template(join(path, name), values[name], allowed)
	}
	return out
}

// sees returns an error if an expression uses a name that is not available in this step.
func (s *Step) sees(e *expression, inItem, result bool) error {
	for _, name := range e.steps {
		if !s.before[name] {
			return fmt.Errorf("step %s does not come before %s: add it to needs", name, s.spec.Name)
		}
	}
	return e.visible(inItem, result)
}

func (e *expression) visible(inItem, result bool) error {
	switch {
	case !inItem && e.uses["item"], !inItem && e.uses["index"]:
		return errors.New("item and index are only available in a step with forEach")
	case !result && e.uses["result"]:
		return errors.New("result is only available in a step's outputs")
	}
	return nil
}

func (p *Program) forEach(c *compiler, s *Step, allowed func(*expression) error) {
	each := s.spec.ForEach
	if each == nil {
		return
	}
	path := s.path + ".forEach"
	if each.Parallelism < 0 || each.Parallelism > maxParallelism {
		c.problems.add(path+".parallelism", "want 1 to %d", maxParallelism)
	}
	if len(each.Items) == 0 {
		c.problems.add(path+".items", "is required")
		return
	}
	s.items = c.template(path+".items", each.Items, allowed)
	if s.items.broken {
		return
	}
	list := s.items.items != nil
	if e := s.items.whole; e != nil {
		list = e.result.Kind() == types.ListKind || e.is(types.DynType)
	}
	if literal, ok := s.items.literal.([]any); ok {
		list = true
		if len(literal) > MaxItems {
			c.problems.add(path+".items", "%d items, at most %d are allowed", len(literal), MaxItems)
		}
	}
	if !list {
		c.problems.add(path+".items", "want a list, or ${{ }} with an expression that returns one")
	}
}

// connection adds a problem if the workflow does not declare the connection.
func (p *Program) connection(problems *Problems, path, name string) {
	if name == "" {
		return
	}
	names := make([]string, 0, len(p.workflow.Connections))
	for _, c := range p.workflow.Connections {
		if c.Name == name {
			return
		}
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		problems.add(path, "%s is not declared: add it to spec.connections", name)
		return
	}
	problems.add(path, "%s is not declared in spec.connections; there are %s", name, strings.Join(names, ", "))
}

// selfCall adds a problem if a workflow calls itself, which would never end.
func (p *Program) selfCall(c *compiler, s *Step) {
	if s.spec.Type != typeWorkflowStep || s.with.fields == nil {
		return
	}
	if field := s.with.fields["name"]; field != nil && field.fixed && field.literal == p.workflow.Name && p.workflow.Name != "" {
		c.problems.add(s.path+".with.name", "workflow %s calls itself", p.workflow.Name)
	}
}

// settings compiles the settings of the whole workflow.
func (p *Program) settings(c *compiler) {
	w := p.workflow
	duration(c.problems, "spec.timeout", w.Timeout)
	early := func(e *expression) error {
		if len(e.steps) > 0 || e.uses["steps"] {
			return fmt.Errorf("steps are not available here: no step has run yet")
		}
		return e.visible(false, false)
	}
	if k := w.Concurrency; k != nil {
		if k.Max < 1 || k.Max > 10_000 {
			c.problems.add("spec.concurrency.max", "want 1 to 10000")
		}
		oneOf(c.problems, "spec.concurrency.policy", k.Policy, "", QueueRun, SkipRun, CancelPrevious)
		if k.Key != "" {
			p.key = c.expression("spec.concurrency.key", k.Key, func(e *expression) error {
				if !e.is(types.StringType) {
					return fmt.Errorf("want a string, got %s", e.result)
				}
				return early(e)
			})
		}
	}
}

func (p *Program) history(c *compiler) {
	h := p.workflow.History
	if h == nil {
		return
	}
	count := func(path string, n *int) {
		if n != nil && (*n < 0 || *n > 10_000) {
			c.problems.add(path, "want 0 to 10000")
		}
	}
	count("spec.history.successful", h.Successful)
	count("spec.history.failed", h.Failed)
	if h.TTL < 0 {
		c.problems.add("spec.history.ttl", "want zero or more")
	}
}

func oneOf[T ~string](problems *Problems, path string, value T, choices ...T) {
	if !slices.Contains(choices, value) {
		texts := make([]string, 0, len(choices))
		for _, choice := range choices {
			if choice != "" {
				texts = append(texts, string(choice))
			}
		}
		problems.add(path, "want one of %s", strings.Join(texts, ", "))
	}
}

func duration(problems *Problems, path string, d Duration) {
	if d < 0 || time.Duration(d) > maxTimeout {
		problems.add(path, "want 0s to %s", maxTimeout)
	}
}
