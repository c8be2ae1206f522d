// SPDX-License-Identifier: Apache-2.0

// Package script runs Starlark in a sandbox: no files, no network, no clock, no random numbers, no other modules, and hard limits
// of time, steps and memory.
package script

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

const (
	// MaxSource bounds a script's text, in bytes. The parser itself bounds its depth.
	MaxSource = 64 << 10
	fileName  = "script"
	// A script defines a function main, or sets result.
	nameMain   = "main"
	nameResult = "result"
)

// Limits are the limits of one run. Zero values select the defaults.
type Limits struct {
	Steps  uint64 // steps of computation; default 2 million
	Memory int64  // bytes allocated in total; default 64 MiB
	Log    int    // bytes of printed text; default 64 KiB
	Output int    // bytes of the result; default 256 KiB
}

func (l Limits) withDefaults() Limits {
	if l.Steps == 0 {
		l.Steps = 2_000_000
	}
	if l.Memory <= 0 {
		l.Memory = 64 << 20
	}
	if l.Log <= 0 {
		l.Log = 64 << 10
	}
	if l.Output <= 0 {
		l.Output = 256 << 10
	}
	return l
}

// Error is an error of the script itself: a repeated run fails in the same way.
type Error struct {
	Line    int // 0 if unknown
	Message string
}

// Error returns "line N: message".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

// Result is the result of a run.
type Result struct {
	Value any    // plain JSON, with int64 for whole numbers
	Log   string // printed lines
}

// Names are the names of a script's data, as parameters of main or as variables.
var Names = []string{"inputs", "steps", "item", "index", "run", "trigger"}

// Program is a compiled script. It is safe for concurrent use.
type Program struct {
	program *starlark.Program
	used    []string            // of Names
	members map[string][]string // the used members of a name; all, if the name is missing
}

var base = sync.OnceValue(predeclared)

// options enable the whole language except recursion, which would be unbounded.
var options = &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true}

// Compile compiles a script. Its errors are of type *Error.
func Compile(source string) (*Program, error) {
	if len(source) > MaxSource {
		return nil, &Error{Message: fmt.Sprintf("script has %d bytes, at most %d are allowed", len(source), MaxSource)}
	}
	file, err := options.Parse(fileName, source, 0)
	if err != nil {
		return nil, sourceError(err)
	}
	p := &Program{}
	seen, members := references(file)
	if !seen[nameMain] && !seen[nameResult] {
		return nil, &Error{Message: "script has neither a function main nor an assignment to result"}
	}
	for _, name := range Names {
		if seen[name] {
			p.used = append(p.used, name)
		}
	}
	p.members = members
	if err := rewriteAll(file.Stmts); err != nil {
		return nil, sourceError(err)
	}
	names := base()
	p.program, err = starlark.FileProgram(file, func(name string) bool { return names.Has(name) || slices.Contains(p.used, name) })
	if err != nil {
		return nil, sourceError(err)
	}
	return p, nil
}

// sourceError converts an error of the parser or the resolver, with its line.
func sourceError(err error) error {
	var parse syntax.Error
	var resolved resolve.ErrorList
	switch {
	case errors.As(err, &parse):
		return &Error{Line: int(parse.Pos.Line), Message: brief(parse.Msg)}
	case errors.As(err, &resolved) && len(resolved) > 0:
		return &Error{Line: int(resolved[0].Pos.Line), Message: brief(resolved[0].Msg)}
	}
	return &Error{Message: brief(err.Error())}
}

// atOnce bounds the scripts that run at the same time, and so their memory. Scripts only compute, so that more would not be faster.
var atOnce = make(chan struct{}, runtime.GOMAXPROCS(0))

// Run executes the script with vars, by Names, until ctx is done. An error of the script itself is an *Error; the result then has
// the log.
func (p *Program) Run(ctx context.Context, vars map[string]any, limits Limits) (result Result, err error) {
	select {
	case atOnce <- struct{}{}:
		defer func() { <-atOnce }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	limits = limits.withDefaults()
	log := &log{left: limits.Log}
	defer func() { result.Log = log.String() }()
	thread := &starlark.Thread{Name: fileName, Print: func(_ *starlark.Thread, text string) { log.add(text) }}
	thread.SetMaxExecutionSteps(limits.Steps + 1)
	meter := &meter{thread: thread, steps: limits.Steps, memory: uint64(limits.Memory)}
	thread.OnMaxSteps = func(thread *starlark.Thread) { thread.Cancel(meter.stepsError().Error()) }
	globals := make(starlark.StringDict, len(base())+len(Names))
	for name, value := range base() {
		globals[name] = value
	}
	data := make(starlark.StringDict, len(p.used))
	for _, name := range p.used {
		if data[name], err = meter.toStarlark(p.wanted(name, vars[name]), name, 0); err != nil {
			return Result{}, &Error{Message: err.Error()}
		}
		globals[name] = data[name]
	}
	thread.SetLocal(meterKey, meter)
	defer context.AfterFunc(ctx, func() { thread.Cancel("the context is done") })()
	value, err := p.call(thread, globals, data)
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if err != nil {
		return Result{}, failure(err)
	}
	convert := converter{left: limits.Output}
	if result.Value, err = convert.fromStarlark(value, nameResult, 0); err != nil {
		return Result{}, &Error{Message: err.Error()}
	}
	return result, nil
}

// call executes the top level, and main if there is one.
func (p *Program) call(thread *starlark.Thread, globals, data starlark.StringDict) (value starlark.Value, err error) {
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, errors.New("the interpreter failed") // the panic may quote data
		}
	}()
	defined, err := p.program.Init(thread, globals)
	if err != nil {
		return nil, err
	}
	main, ok := defined[nameMain].(*starlark.Function)
	if !ok {
		if value, ok := defined[nameResult]; ok {
			return value, nil
		}
		return nil, errors.New("script has neither a function main nor a result")
	}
	args := make(starlark.Tuple, main.NumParams())
	for i := range args {
		name, pos := main.Param(i)
		if args[i], ok = data[name]; !ok {
			return nil, &Error{Line: int(pos.Line), Message: fmt.Sprintf("main has a parameter %q; it may have %s", brief(name), strings.Join(Names, ", "))}
		}
	}
	return starlark.Call(thread, main, args, nil)
}

// failure converts a runtime error, with the innermost line of the script.
func failure(err error) error {
	var ours *Error
	if errors.As(err, &ours) {
		return ours
	}
	var eval *starlark.EvalError
	if !errors.As(err, &eval) {
		return &Error{Message: brief(err.Error())}
	}
	out := &Error{Message: brief(strings.TrimPrefix(eval.Msg, "Starlark computation cancelled: "))}
	for i := range eval.CallStack {
		if frame := eval.CallStack.At(i); frame.Pos.Filename() == fileName {
			out.Line = int(frame.Pos.Line)
			break
		}
	}
	return out
}

// log holds the start of the printed text.
type log struct {
	strings.Builder
	left int
	full bool
}

func (l *log) add(text string) {
	text = strings.ToValidUTF8(text, "�") + "\n"
	if l.full {
		return
	}
	if len(text) > l.left {
		l.full = true
		l.WriteString(strings.ToValidUTF8(text[:l.left], "") + "\n… more was printed\n")
		return
	}
	l.left -= len(text)
	l.WriteString(text)
}
