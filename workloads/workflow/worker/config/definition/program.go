// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Program is a workflow that was proven. It is safe for concurrent use.
type Program struct {
	workflow *Workflow
	hash     string
	steps    []*Step // those that others need before them; handlers last
	written  []*Step // in the order of the definition
	defaults map[string]any
	key      *expression
	outputs  map[string]*template
	triggers []*trigger
}

// Workflow returns what was compiled; it must not be changed.
func (p *Program) Workflow() *Workflow { return p.workflow }

// Hash identifies the definition: the same content has the same one.
func (p *Program) Hash() string { return p.hash }

// Len returns how many steps there are, handlers included.
func (p *Program) Len() int { return len(p.steps) }

// Step returns the i-th in topological order: steps first, then the handlers onSuccess, onFailure and always.
func (p *Program) Step(i int) *Step { return p.steps[i] }

// Find returns the step of a name; nil when there is none.
func (p *Program) Find(name string) *Step {
	for _, s := range p.steps {
		if s.spec.Name == name {
			return s
		}
	}
	return nil
}

// ConcurrencyKey returns the key that a run counts under; "" without one.
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
		return "", errors.New("spec.concurrency.key: the expression did not give a string")
	}
	return key, nil
}

// Outputs returns what a run gives when it ends well.
func (p *Program) Outputs(scope *Scope) (map[string]any, error) {
	return renderAll(p.outputs, scope, "spec.outputs")
}

// Step is one step that was proven.
type Step struct {
	spec              *StepSpec
	role              Role
	path              string
	index             int
	needs, dependents []int
	before            map[string]bool // the steps that an expression may read
	when              *expression
	items, with       *template
	outputs           map[string]*template
	retry             Retry
}

// Index returns the step's place in the program.
func (s *Step) Index() int { return s.index }

// Name returns the name in the definition.
func (s *Step) Name() string { return s.spec.Name }

// Type returns the step type.
func (s *Step) Type() string { return s.spec.Type }

// Role tells handlers from steps.
func (s *Step) Role() Role { return s.role }

// Needs returns the steps before this one; Dependents those that need it. Both are indexes.
func (s *Step) Needs() []int { return s.needs }

// Dependents returns the indexes of the steps that need this one.
func (s *Step) Dependents() []int { return s.dependents }

// Timeout bounds an attempt; zero: the run's bound is all.
func (s *Step) Timeout() time.Duration { return time.Duration(s.spec.Timeout) }

// OnError is Fail or Continue.
func (s *Step) OnError() OnError {
	if s.spec.OnError == "" {
		return Fail
	}
	return s.spec.OnError
}

// Retry returns how failed attempts are repeated.
func (s *Step) Retry() Retry { return s.retry }

// ForEach reports whether the step runs once for each item; Parallelism bounds those at one time.
func (s *Step) ForEach() bool { return s.items != nil }

// Parallelism returns how many items run at one time.
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
		return false, errors.New("when: the expression did not give a bool")
	}
	return yes, nil
}

// Items returns what a forEach step runs for; nil without forEach.
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
		return nil, errors.New("forEach.items: the expression did not give a list")
	case len(items) > MaxItems:
		return nil, fmt.Errorf("forEach.items: %d items, at most %d are allowed", len(items), MaxItems)
	case items == nil:
		items = []any{}
	}
	return items, nil
}

// Config returns the step's `with`, rendered. It must not be changed.
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

// Outputs returns the step's `outputs`, from its result, which may be Large; nil without.
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

// Scope has the values that expressions see.
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

// Large is a value that is loaded when something reads it.
type Large interface {
	Load() (any, error)
}

// Load returns the value itself: that of a Large, loaded.
func Load(value any) (any, error) {
	if l, ok := value.(Large); ok {
		return l.Load()
	}
	return value, nil
}

// StepResult is the outcome of a step.
type StepResult struct {
	Status string
	// Output, and Outputs by name, a map[string]any. Each may be Large.
	Output, Outputs any
	Error           string
	Attempts        int
}

// Map returns what is read of the result, by the fields' names: of output and outputs, which may be large, those that reads says.
func (r *StepResult) Map(reads func(field string) bool) (map[string]any, error) {
	out := map[string]any{"output": nil, "outputs": map[string]any{}, "status": r.Status, "error": r.Error, "attempts": int64(r.Attempts)}
	err := load(out, "output", r.Output, reads)
	if err == nil {
		err = load(out, "outputs", r.Outputs, reads)
	}
	return out, err
}

// load fills in a field that is read.
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

// RunInfo has the fields of the run that expressions see.
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

// Retry repeats failed attempts.
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

// Delay returns how long to wait after a failed attempt, which counts from 1. random gives 0 to 1.
func (r Retry) Delay(attempt int, random func() float64) time.Duration {
	grown := float64(r.Initial) * math.Pow(r.Factor, float64(max(attempt, 1)-1))
	delay := min(grown, float64(r.Maximum))
	return time.Duration(delay * (1 - r.Jitter*random()))
}
