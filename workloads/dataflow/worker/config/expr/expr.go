// SPDX-License-Identifier: Apache-2.0

// Package expr compiles and evaluates the CEL expressions of a pipeline. Every
// expression sees
//
//	this       the record's value
//	key        string
//	headers    map(string, string)
//	timestamp  timestamp
//	now()      timestamp
//
// and the CEL standard library with the extensions strings, math, encoders, sets
// and lists. Unlike in plain CEL, arithmetic between whole and other numbers works,
// because JSON has one kind of number.
package expr

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// Type is the type that an expression must return.
type Type string

// The types that can be asked for.
const (
	Bool   Type = "bool"
	String Type = "string"
	Number Type = "number"
	Any    Type = "any"
)

// Bounds of one expression and of one evaluation.
const (
	MaxLength   = 16 << 10  // characters
	maxCost     = 1_000_000 // CEL cost units, some 200 ms
	maxMemory   = 4_000_000 // elements of all values at a time
	maxNesting  = 100
	maxRange    = 100_000
	nowVariable = "@now"
)

// View is an expression's view of one record.
type View interface {
	// Raw is the value as JSON bytes, when it is available in that form.
	Raw() ([]byte, bool)
	// Tree is the decoded value: map[string]any, []any, string, int64, float64, bool, nil.
	Tree() (any, error)
	// Decoded tells that Tree answers without parsing.
	Decoded() bool
	Key() string
	Headers() map[string]string
	Time() time.Time
	Now() time.Time
}

// environment is built once: it is the same for all expressions.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	now := cel.GlobalMacro("now", 0, func(factory cel.MacroExprFactory, _ ast.Expr, _ []ast.Expr) (ast.Expr, *cel.Error) {
		return factory.NewIdent(nowVariable), nil
	})
	return cel.NewEnv(
		cel.Variable("this", cel.DynType),
		cel.Variable("key", cel.StringType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("timestamp", cel.TimestampType),
		cel.Variable(nowVariable, cel.TimestampType),
		cel.Macros(append(cel.StandardMacros, now)...),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ExpressionNestingDepthLimit(maxNesting),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		ext.Strings(), ext.Math(), ext.Encoders(), ext.Sets(), ext.Lists(ext.ListsMaxRangeSize(maxRange)),
	)
})

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	want    Type
	program cel.Program
	info    *ast.SourceInfo
	names   map[string]bool // every name that the expression itself spells
	lazy    bool            // `this` is read field by field while it is bytes
	fast    *fastNode       // nil: the expression is outside of what fast evaluation covers
}

// Compile checks an expression and its type. Errors read "line:column: message".
func Compile(source string, want Type) (*Program, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	checked, err := celguard.Compile(env, source)
	if err != nil {
		return nil, err
	}
	if got := checked.OutputType(); !fits(got, want) {
		return nil, fmt.Errorf("want %s, got %s", want, got)
	}
	native := checked.NativeRep()
	about := analyze(native)
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(celguard.MixNumbers)}
	if about.unbounded {
		options = append(options, cel.CostLimit(maxCost), cel.MemoryLimit(maxMemory))
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	out := &Program{want: want, program: program, info: native.SourceInfo(), names: about.names, lazy: about.lazy}
	if want == Bool {
		out.fast = compileFast(native.Expr())
	}
	return out, nil
}

func fits(got *cel.Type, want Type) bool {
	if got.Kind() == types.DynKind || want == Any {
		return true
	}
	switch got.Kind() {
	case types.BoolKind:
		return want == Bool
	case types.StringKind:
		return want == String
	case types.IntKind, types.UintKind, types.DoubleKind:
		return want == Number
	default:
		return false
	}
}

// Eval gives the result as a decoded value (the types of View.Tree); timestamps
// become RFC 3339 text, durations text such as "1.5s", bytes base64 text.
func (p *Program) Eval(view View) (any, error) {
	result, err := p.run(view)
	if err != nil {
		return nil, err
	}
	native, err := toNative(result, 0)
	if err != nil {
		return nil, err
	}
	if p.want != Any && typeOf(native) != p.want {
		return nil, fmt.Errorf("expression: want %s, got %s", p.want, result.Type().TypeName())
	}
	return native, nil
}

// EvalBool is Eval of a program that was compiled with Bool.
func (p *Program) EvalBool(view View) (bool, error) {
	if p.fast != nil {
		if raw, ok := view.Raw(); ok && !view.Decoded() {
			if result, certain := p.fast.evalBool(raw); certain {
				return result, nil
			}
		}
	}
	result, err := p.run(view)
	if err != nil {
		return false, err
	}
	truth, ok := result.(types.Bool)
	if !ok {
		return false, fmt.Errorf("expression: want bool, got %s", result.Type().TypeName())
	}
	return bool(truth), nil
}

func typeOf(native any) Type {
	switch native.(type) {
	case bool:
		return Bool
	case string:
		return String
	case int64, float64:
		return Number
	default:
		return Any
	}
}

func (p *Program) run(view View) (ref.Val, error) {
	input := bindings{view: view, lazy: p.lazy}
	result, _, err := p.program.Eval(&input)
	if input.err != nil {
		return nil, input.err
	}
	if err != nil {
		return nil, errors.New("expression: " + celguard.Explain(err, p.info, p.names))
	}
	return result, nil
}

var _ cel.Activation = (*bindings)(nil)

// bindings resolves the variables of one evaluation.
type bindings struct {
	view View
	lazy bool
	err  error // the value could not be read
}

// Parent says that there is no outer scope.
func (b *bindings) Parent() cel.Activation { return nil }

// ResolveName gives a variable's value, which is made only now.
func (b *bindings) ResolveName(name string) (any, bool) {
	switch name {
	case "this":
		return b.this(), true
	case "key":
		return types.String(b.view.Key()), true
	case "headers":
		return b.view.Headers(), true
	case "timestamp":
		return types.Timestamp{Time: b.view.Time()}, true
	case nowVariable:
		return types.Timestamp{Time: b.view.Now()}, true
	default:
		return nil, false
	}
}

func (b *bindings) this() any {
	if raw, ok := b.view.Raw(); ok && b.lazy && !b.view.Decoded() && looksLikeObject(raw) {
		return &lazyObject{raw: raw, bindings: b, root: true}
	}
	tree, err := b.view.Tree()
	if err != nil {
		b.err = err
		return types.WrapErr(err)
	}
	return tree
}
