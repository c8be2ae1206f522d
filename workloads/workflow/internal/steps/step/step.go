// SPDX-License-Identifier: Apache-2.0

// Package step is the contract of step types beyond the engine's Executor: their environment, configuration and errors. Each type
// is a small package below internal/steps.
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

// Connections returns the connections of the worker's file.
type Connections interface {
	// Binding returns a binding by name, or backend.ErrNotFound. The binding may change while the worker runs.
	Binding(name string) (backend.Binding, error)
}

// Env is the environment of all step types.
type Env struct {
	Connections Connections
	// Private are the private addresses that steps may reach by URL.
	Private []netip.Prefix
	// MaxOutput bounds one step's output, in bytes as JSON.
	MaxOutput int
	// Script bounds one run of a script.
	Script script.Limits
	Now    func() time.Time
}

// Spec describes a step type in the list of package steps.
type Spec struct {
	Type    string // the name in a step's `type`
	Summary string // one sentence for the list of types
	// New returns the type's executor. It is called once per process. An executor that is an io.Closer is closed at the end.
	New func(Env) engine.Executor
}

// Refuse returns a permanent error.
func Refuse(format string, args ...any) error {
	return &engine.Permanent{Err: fmt.Errorf(format, args...)}
}

// Classify makes an error of a backend permanent if only an edit can fix it.
func Classify(err error) error {
	if errors.Is(err, backend.ErrInvalid) || errors.Is(err, backend.ErrAuth) || errors.Is(err, backend.ErrNotFound) {
		return &engine.Permanent{Err: err}
	}
	return err
}

// Connect returns the binding of the connection in a step's field `connection`.
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

// RetryLater is an error of a server that requested a delay.
type RetryLater struct {
	Err   error
	After time.Duration
}

func (l *RetryLater) Error() string { return l.Err.Error() }

// Unwrap returns the cause.
func (l *RetryLater) Unwrap() error { return l.Err }

// RetryAfter returns the minimum delay before the next attempt.
func (l *RetryLater) RetryAfter() time.Duration { return l.After }
