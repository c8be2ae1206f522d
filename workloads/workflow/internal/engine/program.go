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

// maxPrograms bounds the programs that are held.
const maxPrograms = 1000

// program is a definition that is compiled, and what the engine asks of it often.
type program struct {
	*definition.Program
	graph *store.Graph
	hash  string
	// before is the steps whose results an expression of a step may see.
	before [][]int
	all    []int // the steps proper
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

// ErrNoProgram means that the definition that was kept cannot be executed: by this version of the program, say.
var ErrNoProgram = errors.New("the definition cannot be executed")

// programs caches compiled programs, by workflow and hash.
type programs struct {
	load func(ctx context.Context, workflow, hash string) (*program, error)

	mu    sync.Mutex
	known map[[2]string]*program
	kept  map[[2]string]bool // in the database
}

func (p *programs) get(ctx context.Context, workflow, hash string) (*program, error) {
	key := [2]string{workflow, hash}
	p.mu.Lock()
	found := p.known[key]
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
	if p.known == nil || len(p.known) >= maxPrograms {
		p.known, p.kept = map[[2]string]*program{}, map[[2]string]bool{}
	}
	p.known[key] = value
}

// load reads a definition and compiles it.
func (e *Engine) load(ctx context.Context, workflow, hash string) (*program, error) {
	spec, err := e.store.Definition(ctx, workflow, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("workflow %s: %w: it is not kept", workflow, ErrNoProgram)
	}
	if err != nil {
		return nil, err
	}
	compiled, err := e.options.Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w: %w", workflow, ErrNoProgram, err)
	}
	p := newProgram(compiled)
	p.hash = hash // what this version makes of it must not part it from its runs
	return p, nil
}

// keep makes sure that the database has a definition before a run needs it.
func (e *Engine) keep(ctx context.Context, workflow string, generation int64, compiled *definition.Program) (*program, error) {
	key := [2]string{workflow, compiled.Hash()}
	e.programs.mu.Lock()
	found, kept := e.programs.known[key], e.programs.kept[key]
	e.programs.mu.Unlock()
	if found != nil && kept {
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
	e.programs.kept[key] = true
	return found, nil
}
