// SPDX-License-Identifier: Apache-2.0

// Package launch is the one way from something that came, at a trigger or from
// another workflow, to a run.
package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

var (
	// ErrNoWorkflow means that there is no Workflow of that name.
	ErrNoWorkflow = fmt.Errorf("workflow %w", backend.ErrNotFound)
	// ErrNoTrigger means that the Workflow has no such trigger.
	ErrNoTrigger = fmt.Errorf("trigger %w", backend.ErrNotFound)
	// ErrNotProven means that the definition is wrong: its status tells what.
	ErrNotProven = errors.New("the workflow's definition is not proven")
	// ErrSuspended means that spec.suspend is set.
	ErrSuspended = errors.New("the workflow is suspended")
)

// Workflows finds them; *catalog.Catalog does.
type Workflows interface {
	Get(name string) (*catalog.Entry, bool)
}

// Engine starts runs; *engine.Engine does.
type Engine interface {
	Start(ctx context.Context, s engine.Start) (id string, created bool, err error)
}

// Launcher is safe for concurrent use.
type Launcher struct {
	workflows Workflows
	engine    Engine
	counts    counts
}

// New makes a launcher that counts in the table triggers of db. Run writes the counts.
func New(workflows Workflows, e Engine, db Database) *Launcher {
	return &Launcher{workflows: workflows, engine: e, counts: counts{db: db, unwritten: map[key]Count{}}}
}

// Request is a request to start a run.
type Request struct {
	// Workflow is its name; Trigger is the trigger's, empty when another workflow calls.
	Workflow, Trigger string
	// Inputs are given by who starts the run, and go before those that the trigger makes.
	Inputs map[string]any
	Info   definition.TriggerInfo
	// Key counts once, of all that come at the Workflow; empty: each time counts. A dedupeKey of the trigger goes before.
	Key string
}

// Started is the result of a Request.
type Started struct {
	ID string
	// Created is false when a run with the key was there already; then ID is that one's.
	Created bool
	// Skipped: the trigger's filter turned it away, and there is no run.
	Skipped bool
}

// Start starts a run. Errors: ErrNoWorkflow, ErrNoTrigger, ErrNotProven, ErrSuspended, *definition.InputError, and those of
// engine.Engine.Start. What is wrong with what came is counted as rejected.
func (l *Launcher) Start(ctx context.Context, r Request) (Started, error) {
	e, ok := l.workflows.Get(r.Workflow)
	switch {
	case !ok:
		return Started{}, ErrNoWorkflow
	case e.Program == nil:
		return Started{}, ErrNotProven
	case e.Workflow.Spec.Suspend:
		return Started{}, ErrSuspended
	}
	s := engine.Start{
		Workflow: r.Workflow, Generation: e.Workflow.Generation, Program: e.Program, Inputs: r.Inputs, Trigger: r.Info, IdempotencyKey: r.Key,
	}
	if r.Trigger != "" {
		starts, err := l.prepare(&s, r)
		if err != nil || !starts {
			l.reject(r, err)
			return Started{Skipped: err == nil}, err
		}
	}
	id, created, err := l.engine.Start(ctx, s)
	if err != nil {
		l.reject(r, err)
		return Started{}, err
	}
	if r.Trigger != "" && created {
		l.counts.add(key{r.Workflow, r.Trigger}, Count{Fired: time.Now()})
	}
	return Started{ID: id, Created: created}, nil
}

// prepare evaluates what the trigger says.
func (l *Launcher) prepare(s *engine.Start, r Request) (starts bool, err error) {
	known := false
	for _, t := range s.Program.Workflow().Triggers {
		known = known || t.Name == r.Trigger
	}
	if !known {
		return false, ErrNoTrigger
	}
	starts, inputs, dedupe, err := s.Program.Start(r.Trigger, r.Info)
	if err != nil {
		return false, fmt.Errorf("trigger %s: %w: %w", r.Trigger, backend.ErrInvalid, err)
	}
	if dedupe != "" {
		s.IdempotencyKey = "trigger/" + r.Trigger + "/" + dedupe
	}
	if len(inputs) > 0 {
		maps.Copy(inputs, r.Inputs)
		s.Inputs = inputs
	}
	return starts, nil
}

// reject counts what is wrong with what came; what is wrong with the service is tried again.
func (l *Launcher) reject(r Request, err error) {
	var input *definition.InputError
	if r.Trigger != "" && (errors.Is(err, backend.ErrInvalid) || errors.As(err, &input)) {
		l.Reject(r.Workflow, r.Trigger)
	}
}

// Reject counts what came at a trigger and started nothing: a wrong signature, a payload that is too large.
func (l *Launcher) Reject(workflow, trigger string) {
	l.counts.add(key{workflow, trigger}, Count{Rejected: 1})
}
