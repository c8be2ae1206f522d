// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// Limits of one expression and of one evaluation.
const (
	maxExpression = 16 << 10  // characters
	maxCost       = 1_000_000 // CEL cost units, about 200 ms
	maxMemory     = 4_000_000 // elements of all values at one time
	maxNesting    = 100
	maxRange      = 100_000
)

// Names of types in expressions.
const (
	typeInputs  = "workflow.Inputs"
	typeSteps   = "workflow.Steps"
	typeStep    = "workflow.Step"
	typeRun     = "workflow.Run"
	typeTrigger = "workflow.Trigger"
)

// base is the environment shared by the expressions of all workflows.
var base = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("run", cel.ObjectType(typeRun)), cel.Variable("trigger", cel.ObjectType(typeTrigger)),
		cel.Variable("item", cel.DynType), cel.Variable("index", cel.IntType), cel.Variable("result", cel.DynType),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ExpressionNestingDepthLimit(maxNesting),
		cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true), cel.EnableIdentifierEscapeSyntax(),
		ext.Strings(), ext.Math(), ext.Encoders(), ext.Sets(), ext.Lists(ext.ListsMaxRangeSize(maxRange)),
	)
})

// fixed are the fields of the types that are the same for all workflows.
var fixed = map[string]map[string]*types.Type{
	typeStep: {
		"output": types.DynType, "outputs": types.NewMapType(types.StringType, types.DynType), "status": types.StringType,
		"error": types.StringType, "attempts": types.IntType,
	},
	typeRun: {
		"id": types.StringType, "workflow": types.StringType, "namespace": types.StringType, "generation": types.IntType,
		"attempt": types.IntType, "trigger": types.StringType, "startedAt": types.TimestampType,
	},
	typeTrigger: {
		"type": types.StringType, "name": types.StringType, "body": types.DynType,
		"headers": types.NewMapType(types.StringType, types.StringType), "scheduledAt": types.TimestampType,
	},
}

// provider has the fields of one workflow's inputs and steps, so that unknown names are compile errors.
type provider struct {
	types.Provider
	own map[string]map[string]*types.Type
}

func (p *provider) fields(name string) (map[string]*types.Type, bool) {
	if found, ok := fixed[name]; ok {
		return found, true
	}
	found, ok := p.own[name]
	return found, ok
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.fields(name); ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	fields, ok := p.fields(name)
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	out := make([]string, 0, len(fields))
	for field := range fields {
		out = append(out, field)
	}
	return out, true
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	fields, ok := p.fields(name)
	if !ok {
		return p.Provider.FindStructFieldType(name, field)
	}
	found, ok := fields[field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: found}, true
}

var inputTypes = map[InputType]*types.Type{
	String: types.StringType, Integer: types.IntType, Number: types.DynType, Boolean: types.BoolType,
	Object: types.NewMapType(types.StringType, types.DynType), Array: types.NewListType(types.DynType),
}

// environment returns the environment of a workflow's expressions.
func environment(inputs []Input, steps []string) (*cel.Env, error) {
	env, err := base()
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	own := map[string]map[string]*types.Type{typeInputs: {}, typeSteps: {}}
	for _, in := range inputs {
		t := inputTypes[in.Type]
		if t == nil {
			t = types.StringType
		}
		own[typeInputs][in.Name] = t
	}
	for _, name := range steps {
		own[typeSteps][name] = types.NewObjectType(typeStep)
	}
	return env.Extend(
		cel.CustomTypeProvider(&provider{Provider: env.CELTypeProvider(), own: own}),
		cel.Variable("inputs", cel.ObjectType(typeInputs)), cel.Variable("steps", cel.ObjectType(typeSteps)),
	)
}

// expression is a compiled expression. It is safe for concurrent use.
type expression struct {
	program cel.Program
	info    *ast.SourceInfo
	names   map[string]bool    // every name in the expression's text
	steps   []string           // the steps that it reads
	fields  map[[2]string]bool // the fields that it reads, by step and field; field "" means all
	body    bool               // whether it reads trigger.body
	result  *types.Type
	uses    map[string]bool // the variables that it uses
}

// parseExpression compiles an expression. Its errors read "line:column: message".
func parseExpression(env *cel.Env, source string) (*expression, error) {
	checked, err := celguard.Compile(env, source)
	if err != nil {
		return nil, err
	}
	out := &expression{info: checked.NativeRep().SourceInfo(), names: map[string]bool{}, uses: map[string]bool{}, fields: map[[2]string]bool{}, result: checked.OutputType()}
	refs := &references{expression: out}
	refs.visit(checked.NativeRep().Expr(), nil)
	if refs.wholeSteps {
		return nil, errors.New("steps can only be used with the name of a step: steps.fetch.output")
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(celguard.MixNumbers)}
	if refs.unbounded {
		options = append(options, cel.CostLimit(maxCost), cel.MemoryLimit(maxMemory))
	}
	if out.program, err = env.Program(checked, options...); err != nil {
		return nil, errors.New("the expression cannot be evaluated: a constant part of it fails")
	}
	return out, nil
}

// is reports whether the expression can return t, as far as known at compile time.
func (e *expression) is(t *types.Type) bool {
	return e.result.IsExactType(t) || e.result.IsExactType(types.DynType)
}

// eval returns the value as plain JSON, with int64 for integers.
func (e *expression) eval(scope *Scope) (any, error) {
	a := &activation{scope: scope, expression: e}
	value, _, err := e.program.Eval(a)
	if a.failed != nil { // whatever CEL returned for the missing value
		return nil, a.failed
	}
	if err != nil {
		return nil, errors.New(celguard.Explain(err, e.info, e.names))
	}
	return plain(value, 0)
}

// activation provides the scope to an expression, with only the steps that it reads. Large values are loaded when CEL reads them.
type activation struct {
	*expression
	scope  *Scope
	failed error // the first error of loading a value
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

func (a *activation) results() map[string]any {
	out := make(map[string]any, len(a.steps))
	for _, step := range a.steps {
		r, ok := a.scope.Steps[step]
		if !ok {
			continue
		}
		value, err := r.Map(func(field string) bool { return a.fields[[2]string{step, field}] || a.fields[[2]string{step, ""}] })
		if err != nil {
			a.fail(fmt.Errorf("steps.%s.%w", step, err)) // not a field of the definition
		}
		out[step] = value
	}
	return out
}

func (a *activation) fail(err error) {
	if a.failed == nil {
		a.failed = err
	}
}

func (a *activation) trigger() map[string]any {
	t := &a.scope.Trigger
	out := map[string]any{"type": t.Type, "name": t.Name, "body": nil, "headers": t.Headers, "scheduledAt": t.ScheduledAt}
	if a.body {
		var err error
		if out["body"], err = Load(t.Body); err != nil {
			a.fail(fmt.Errorf("trigger.body: %w", err))
		}
	}
	return out
}

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	s := a.scope
	switch name {
	case "inputs":
		return s.Inputs, true
	case "steps":
		return a.results(), true
	case "run":
		return map[string]any{
			"id": s.Run.ID, "workflow": s.Run.Workflow, "namespace": s.Run.Namespace, "generation": s.Run.Generation,
			"attempt": int64(s.Run.Attempt), "trigger": s.Trigger.Name, "startedAt": s.Run.StartedAt,
		}, true
	case "trigger":
		return a.trigger(), true
	case "item":
		return s.Item, s.InItem
	case "index":
		return int64(s.ItemIndex), s.InItem
	case "result":
		value, err := Load(s.result)
		if err != nil {
			a.fail(fmt.Errorf("result: %w", err))
		}
		return value, true
	}
	return nil, false
}

const maxDepth = 64

// plain converts a value to JSON types.
func plain(value ref.Val, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the value is nested more than %d levels deep", maxDepth)
	}
	switch v := value.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > 1<<63-1 {
			return float64(v), nil
		}
		return int64(v), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errors.New("the value is not a finite number")
		}
		return float64(v), nil
	case types.String:
		return string(v), nil
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return v.Duration.String(), nil
	case types.Bytes:
		return nil, errors.New("bytes are not JSON: use base64.encode")
	}
	return composite(value, depth)
}
