// SPDX-License-Identifier: Apache-2.0

// Package step is the contract of step types, beyond the engine's Executor: what a type gets, how it reads its
// configuration, how it sorts its errors. A type is one small package below internal/steps.
package step

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/script"
)

// Connections of the worker's file.
type Connections interface {
	// Binding of a name; backend.ErrNotFound. It may change while the worker runs.
	Binding(name string) (backend.Binding, error)
}

// Env is the environment of all step types.
type Env struct {
	Connections Connections
	// Private are addresses that steps may reach by URL although they are no public ones.
	Private []netip.Prefix
	// MaxOutput bounds one step's output, in bytes as JSON.
	MaxOutput int
	// Script bounds one run of a script.
	Script script.Limits
	Now    func() time.Time
}

// Spec describes a step type: one line in package steps' list.
type Spec struct {
	Type    string // the name in a step's `type`
	Summary string // one sentence for the catalogue
	// New makes the type's executor, once per process. One that is an io.Closer is closed at the end.
	New func(Env) engine.Executor
}

// Refuse returns an error that another attempt would meet again.
func Refuse(format string, args ...any) error {
	return &engine.Permanent{Err: fmt.Errorf(format, args...)}
}

// Sort makes errors permanent by their backend's sentinel: what only an edit heals is not tried again.
func Sort(err error) error {
	if errors.Is(err, backend.ErrInvalid) || errors.Is(err, backend.ErrAuth) || errors.Is(err, backend.ErrNotFound) {
		return &engine.Permanent{Err: err}
	}
	return err
}

// Connect finds the connection that a step names in its field `connection`.
func (e Env) Connect(name string, types ...string) (backend.Binding, error) {
	if e.Connections == nil {
		return backend.Binding{}, Refuse("with.connection: the worker has no connections")
	}
	b, err := e.Connections.Binding(name)
	if err != nil {
		return backend.Binding{}, Refuse("with.connection: %q: %w", name, err)
	}
	for _, wanted := range types {
		if b.Type == wanted {
			return b, nil
		}
	}
	if len(types) > 0 {
		return backend.Binding{}, Refuse("with.connection: %q is of type %q; want %s", name, b.Type, list(types))
	}
	return b, nil
}

// Later is an error of a server that told when to come again.
type Later struct {
	Err   error
	After time.Duration
}

func (l *Later) Error() string { return l.Err.Error() }

// Unwrap gives the cause.
func (l *Later) Unwrap() error { return l.Err }

// RetryAfter returns how long to wait at least before the next attempt.
func (l *Later) RetryAfter() time.Duration { return l.After }
