// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Program is a compiled workflow. It is safe for concurrent use.
type Program struct {
	workflow *Workflow
	hash     string
	steps    []*Step // in topological order; handlers last
	written  []*Step // in the order of the definition
	defaults map[string]any
	key      *expression
	outputs  map[string]*template
	triggers []*trigger
}

// Workflow returns the compiled workflow, which must not be modified.
func (p *Program) Workflow() *Workflow { return p.workflow }

// Hash returns the hash of the definition's content.
func (p *Program) Hash() string { return p.hash }

// Len returns the number of steps, including handlers.
func (p *Program) Len() int { return len(p.steps) }

// Step returns the i-th step in topological order: main steps first, then the handlers onSuccess, onFailure and always.
func (p *Program) Step(i int) *Step { return p.steps[i] }

// Find returns a step by name, or nil.
func (p *Program) Find(name string) *Step {
	for _, s := range p.steps {
		if s.spec.Name == name {
			return s
		}
	}
	return nil
}

// ConcurrencyKey returns the concurrency key of a run, or "".
func (p *Program) ConcurrencyKey(scope *Scope) (string, error) {
	if p.key == nil {
		return "", nil
	}
	value, err := p.key.eval(scope)
	if err != nil {
		return "", fmt.Errorf("spec.concurrency.key: %w", err)
	}
	key, ok := value.(string)
	if !ok {
		return "", errors.New("spec.concurrency.key: the expression did not return a string")
	}
	return key, nil
}

// Outputs returns the outputs of a succeeded run.
func (p *Program) Outputs(scope *Scope) (map[string]any, error) {
	return renderAll(p.outputs, scope, "spec.outputs")
}

// Step is a compiled step.
type Step struct {
	spec              *StepSpec
	role              Role
	path              string
	index             int
	needs, dependents []int
	before            map[string]bool // the steps whose results its expressions may read
	when              *expression
	items, with       *template
	outputs           map[string]*template
	retry             Retry
}

// Index returns the step's index in the program.
func (s *Step) Index() int { return s.index }

// Name returns the name of the step.
func (s *Step) Name() string { return s.spec.Name }

// Type returns the step type.
func (s *Step) Type() string { return s.spec.Type }

// Role returns the role of the step.
func (s *Step) Role() Role { return s.role }

// Needs returns the indexes of the steps that this one needs.
func (s *Step) Needs() []int { return s.needs }

// Dependents returns the indexes of the steps that need this one.
func (s *Step) Dependents() []int { return s.dependents }

// Timeout returns the timeout of an attempt. Zero means only the run's timeout applies.
func (s *Step) Timeout() time.Duration { return time.Duration(s.spec.Timeout) }

// OnError returns Fail or Continue.
func (s *Step) OnError() OnError {
	if s.spec.OnError == "" {
		return Fail
	}
	return s.spec.OnError
}

// Retry returns how failed attempts are retried.
func (s *Step) Retry() Retry { return s.retry }

// ForEach reports whether the step runs once for each item of a list.
func (s *Step) ForEach() bool { return s.items != nil }

// Parallelism returns how many items run at a time.
func (s *Step) Parallelism() int {
	if s.spec.ForEach == nil || s.spec.ForEach.Parallelism == 0 {
		return defaultItems
	}
	return s.spec.ForEach.Parallelism
}

// When reports whether to run the step.
func (s *Step) When(scope *Scope) (bool, error) {
	if s.when == nil {
		return true, nil
	}
	value, err := s.when.eval(scope)
	if err != nil {
		return false, fmt.Errorf("when: %w", err)
	}
	yes, ok := value.(bool)
	if !ok {
		return false, errors.New("when: the expression did not return a bool")
	}
	return yes, nil
}

// Items returns the items of forEach, or nil without forEach.
func (s *Step) Items(scope *Scope) ([]any, error) {
	if s.items == nil {
		return nil, nil
	}
	value, err := s.items.render(scope)
	if err != nil {
		return nil, fmt.Errorf("forEach.items: %w", err)
	}
	items, ok := value.([]any)
	switch {
	case !ok:
		return nil, errors.New("forEach.items: the expression did not return a list")
	case len(items) > MaxItems:
		return nil, fmt.Errorf("forEach.items: %d items, at most %d are allowed", len(items), MaxItems)
	case items == nil:
		items = []any{}
	}
	return items, nil
}

// Config returns the evaluated `with`, which must not be modified.
func (s *Step) Config(scope *Scope) (map[string]any, error) {
	value, err := s.with.render(scope)
	if err != nil {
		return nil, fmt.Errorf("%w", &FieldError{"with", err})
	}
	config, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("with: want an object")
	}
	return config, nil
}

// Outputs evaluates the step's `outputs` with its result, which may be Large. It returns nil without outputs.
func (s *Step) Outputs(scope *Scope, result any) (map[string]any, error) {
	if s.outputs == nil {
		return nil, nil
	}
	with := *scope
	with.result = result
	return renderAll(s.outputs, &with, "outputs")
}

func renderAll(of map[string]*template, scope *Scope, path string) (map[string]any, error) {
	if of == nil {
		return nil, nil
	}
	out, err := renderFields(of, scope)
	if err != nil {
		return nil, &FieldError{path, err}
	}
	return out, nil
}

// Scope has the values for expressions.
type Scope struct {
	Inputs    map[string]any
	Steps     map[string]StepResult
	Run       RunInfo
	Trigger   TriggerInfo
	Item      any
	ItemIndex int
	InItem    bool

	result any
}

// Large is a value that is loaded on first use.
type Large interface {
	Load() (any, error)
}

// Load returns a value, which it loads if it is Large.
func Load(value any) (any, error) {
	if l, ok := value.(Large); ok {
		return l.Load()
	}
	return value, nil
}

// StepResult is the outcome of a step.
type StepResult struct {
	Status string
	// Output is the output. Outputs is a map[string]any of named outputs. Each may be Large.
	Output, Outputs any
	Error           string
	Attempts        int
}

// Map returns the result as an object. It includes output and outputs, which may be large, only if reads returns true for them.
func (r *StepResult) Map(reads func(field string) bool) (map[string]any, error) {
	out := map[string]any{"output": nil, "outputs": map[string]any{}, "status": r.Status, "error": r.Error, "attempts": int64(r.Attempts)}
	err := load(out, "output", r.Output, reads)
	if err == nil {
		err = load(out, "outputs", r.Outputs, reads)
	}
	return out, err
}

// load sets a field if it is read.
func load(out map[string]any, field string, value any, reads func(field string) bool) error {
	if value == nil || !reads(field) {
		return nil
	}
	value, err := Load(value)
	if err != nil {
		return &FieldError{field, err}
	}
	out[field] = value
	return nil
}

// RunInfo has the fields of run in expressions.
type RunInfo struct {
	ID, Workflow, Namespace string
	Generation              int64
	Attempt                 int
	StartedAt               time.Time
}

// TriggerInfo describes the trigger that started the run.
type TriggerInfo struct {
	Type, Name  string
	Body        any // may be Large
	Headers     map[string]string
	ScheduledAt time.Time
}

// Retry is how failed attempts are retried.
type Retry struct {
	Attempts         int
	Initial, Maximum time.Duration
	Factor, Jitter   float64
}

func retryOf(problems *Problems, path string, spec *RetrySpec) Retry {
	r := Retry{Attempts: 1, Initial: time.Second, Maximum: 5 * time.Minute, Factor: 2, Jitter: 0.2}
	if spec == nil {
		return r
	}
	if spec.Attempts < 1 || spec.Attempts > maxAttempts {
		problems.add(path+".attempts", "want 1 to %d", maxAttempts)
	}
	duration(problems, path+".delay", spec.Delay)
	duration(problems, path+".maxDelay", spec.MaxDelay)
	r.Attempts = spec.Attempts
	if spec.Delay > 0 {
		r.Initial = time.Duration(spec.Delay)
	}
	if spec.MaxDelay > 0 {
		r.Maximum = time.Duration(spec.MaxDelay)
	}
	r.Maximum = max(r.Maximum, r.Initial)
	if spec.Factor != 0 {
		if r.Factor = spec.Factor; r.Factor < 1 || r.Factor > 10 {
			problems.add(path+".factor", "want 1 to 10")
		}
	}
	if spec.JitterPercent != nil {
		if r.Jitter = float64(*spec.JitterPercent) / 100; r.Jitter < 0 || r.Jitter > 1 {
			problems.add(path+".jitterPercent", "want 0 to 100")
		}
	}
	return r
}

// Delay returns the delay after a failed attempt, counted from 1. random returns a number in [0, 1).
func (r Retry) Delay(attempt int, random func() float64) time.Duration {
	grown := float64(r.Initial) * math.Pow(r.Factor, float64(max(attempt, 1)-1))
	delay := min(grown, float64(r.Maximum))
	return time.Duration(delay * (1 - r.Jitter*random()))
}
