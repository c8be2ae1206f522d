// SPDX-License-Identifier: Apache-2.0

// Package launch starts a run for every event, whether it came from a trigger or from another workflow.
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
	// ErrNoWorkflow means that no Workflow has this name.
	ErrNoWorkflow = fmt.Errorf("workflow %w", backend.ErrNotFound)
	// ErrNoTrigger means that the Workflow has no such trigger.
	ErrNoTrigger = fmt.Errorf("trigger %w", backend.ErrNotFound)
	// ErrInvalidDefinition means that the definition is invalid: the Workflow's status says why.
	ErrInvalidDefinition = errors.New("the workflow's definition is invalid")
	// ErrSuspended means that spec.suspend is set.
	ErrSuspended = errors.New("the workflow is suspended")
)

// Workflows looks up Workflows, as *catalog.Catalog does.
type Workflows interface {
	Get(name string) (*catalog.Entry, bool)
}

// Engine starts runs, as *engine.Engine does.
type Engine interface {
	Start(ctx context.Context, s engine.Start) (id string, created bool, err error)
}

// Launcher is safe for concurrent use.
type Launcher struct {
	workflows Workflows
	engine    Engine
	counts    counts
}

// New returns a launcher that counts in the table triggers of db. Run writes the counts.
func New(workflows Workflows, e Engine, db Database) *Launcher {
	return &Launcher{workflows: workflows, engine: e, counts: counts{db: db, unwritten: map[key]Count{}}}
}

// Request is a request to start a run.
type Request struct {
	// Workflow and Trigger are names. Trigger is empty if another workflow starts the run.
	Workflow, Trigger string
	// Inputs come from the caller, and override those from the trigger.
	Inputs map[string]any
	Info   definition.TriggerInfo
	// Key is the idempotency key within the Workflow; empty: each request starts a run. The trigger's dedupeKey overrides it.
	Key string
}

// Started is the result of a Request.
type Started struct {
	ID string
	// Created is false if ID is an earlier run with the same key.
	Created bool
	// Skipped means that the trigger's filter did not match: there is no run.
	Skipped bool
}

// Start starts a run. Errors: ErrNoWorkflow, ErrNoTrigger, ErrInvalidDefinition, ErrSuspended, *definition.InputError, and those
// of engine.Engine.Start. Invalid events are counted as rejected.
func (l *Launcher) Start(ctx context.Context, r Request) (Started, error) {
	e, ok := l.workflows.Get(r.Workflow)
	switch {
	case !ok:
		return Started{}, ErrNoWorkflow
	case e.Program == nil:
		return Started{}, ErrInvalidDefinition
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

// prepare evaluates the trigger's filter, inputs and dedupeKey.
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

// reject counts an invalid event. Other errors are the service's, and the event is retried.
func (l *Launcher) reject(r Request, err error) {
	var input *definition.InputError
	if r.Trigger != "" && (errors.Is(err, backend.ErrInvalid) || errors.As(err, &input)) {
		l.Reject(r.Workflow, r.Trigger)
	}
}

// Reject counts an event that the trigger rejected, such as one with a wrong signature or too large a payload.
func (l *Launcher) Reject(workflow, trigger string) {
	l.counts.add(key{workflow, trigger}, Count{Rejected: 1})
}
