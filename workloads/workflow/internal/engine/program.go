// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// maxPrograms bounds the cache of programs.
const maxPrograms = 1000

// program is a compiled definition, with values that the engine needs often.
type program struct {
	*definition.Program
	graph *store.Graph
	hash  string
	// before lists, for each step, the steps whose results its expressions may use.
	before [][]int
	all    []int // the steps that are not handlers
}

func newProgram(p *definition.Program) *program {
	out := &program{Program: p, graph: &store.Graph{}, hash: p.Hash(), before: make([][]int, p.Len())}
	for i := range p.Len() {
		step := p.Step(i)
		node := store.Node{Name: step.Name(), Needs: step.Needs(), Dependents: step.Dependents(), Role: role(step), Continue: step.OnError() == definition.Continue}
		out.graph.Nodes = append(out.graph.Nodes, node)
		if node.Role == store.Main {
			out.all = append(out.all, i)
		} else {
			out.before[i] = slices.Clone(out.all) // a handler sees all steps
		}
		for _, need := range node.Needs {
			out.before[i] = append(append(out.before[i], need), out.before[need]...)
		}
		slices.Sort(out.before[i])
		out.before[i] = slices.Compact(out.before[i])
	}
	return out
}

// target names a step of a run.
func (p *program) target(run string, step, item int) store.Target {
	return store.Target{Run: run, Step: step, Item: item, Graph: p.graph, Hash: p.hash}
}

// ErrNoProgram means that this version cannot execute the stored definition.
var ErrNoProgram = errors.New("the definition cannot be executed")

// programs caches compiled programs, by workflow and hash.
type programs struct {
	load func(ctx context.Context, workflow, hash string) (*program, error)

	mu     sync.Mutex
	cached map[[2]string]*program
	saved  map[[2]string]bool // in the database
}

func (p *programs) get(ctx context.Context, workflow, hash string) (*program, error) {
	key := [2]string{workflow, hash}
	p.mu.Lock()
	found := p.cached[key]
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	found, err := p.load(ctx, workflow, hash)
	if err == nil {
		p.put(key, found)
	}
	return found, err
}

func (p *programs) put(key [2]string, value *program) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cached == nil || len(p.cached) >= maxPrograms {
		p.cached, p.saved = map[[2]string]*program{}, map[[2]string]bool{}
	}
	p.cached[key] = value
}

// load reads a definition and compiles it.
func (e *Engine) load(ctx context.Context, workflow, hash string) (*program, error) {
	spec, err := e.store.Definition(ctx, workflow, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("workflow %s: %w: it is not in the database", workflow, ErrNoProgram)
	}
	if err != nil {
		return nil, err
	}
	compiled, err := e.options.Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w: %w", workflow, ErrNoProgram, err)
	}
	p := newProgram(compiled)
	p.hash = hash // this version may compute another hash, but runs refer to this one
	return p, nil
}

// saveDefinition makes sure that the database has a definition before a run needs it.
func (e *Engine) saveDefinition(ctx context.Context, workflow string, generation int64, compiled *definition.Program) (*program, error) {
	key := [2]string{workflow, compiled.Hash()}
	e.programs.mu.Lock()
	found, saved := e.programs.cached[key], e.programs.saved[key]
	e.programs.mu.Unlock()
	if found != nil && saved {
		return found, nil
	}
	spec, err := json.Marshal(compiled.Workflow())
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", workflow, err)
	}
	if err := e.store.PutDefinition(ctx, workflow, generation, compiled.Hash(), spec); err != nil {
		return nil, err
	}
	if found == nil {
		found = newProgram(compiled)
		e.programs.put(key, found)
	}
	e.programs.mu.Lock()
	defer e.programs.mu.Unlock()
	e.programs.saved[key] = true
	return found, nil
}
