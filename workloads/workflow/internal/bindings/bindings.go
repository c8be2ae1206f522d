// SPDX-License-Identifier: Apache-2.0

// Package bindings is what the Workflows of the namespace name, as the file
// that the operator renders tells it: connections, and keys of webhooks.
package bindings

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/filewatch"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// Bindings follow the file. They are safe for concurrent use.
type Bindings struct {
	dir string
	log *slog.Logger
	now atomic.Pointer[config.Bindings]

	mu   sync.Mutex
	told []func()
}

// Open reads the file in a directory; one that is missing, or wrong, is as an empty one until it changes.
func Open(dir string, log *slog.Logger) *Bindings {
	b := &Bindings{dir: dir, log: log}
	b.now.Store(&config.Bindings{})
	b.look()
	return b
}

// Run follows the file until ctx ends.
func (b *Bindings) Run(ctx context.Context) { filewatch.Run(ctx, b.dir, b.log, b.look) }

// Subscribe calls do after each change.
func (b *Bindings) Subscribe(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, do)
}

func (b *Bindings) look() {
	fresh, err := config.LoadBindings(b.dir)
	if err != nil {
		b.log.Warn("the bindings cannot be read; the old ones stay", "error", err)
		return
	}
	if reflect.DeepEqual(fresh, b.now.Load()) {
		return
	}
	b.now.Store(fresh)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, do := range b.told {
		do()
	}
}

// Of is the binding of a workflow's connection; backend.ErrNotFound.
func (b *Bindings) Of(workflow, connection string) (backend.Binding, error) {
	data, ok := b.now.Load().Workflows[workflow].Connections[connection]
	if !ok {
		return backend.Binding{}, fmt.Errorf("connection %s of workflow %s: %w: the Workflow's conditions tell why", connection, workflow, backend.ErrNotFound)
	}
	return backend.ParseBinding(data), nil
}

// Binding is Of by "<workflow>/<connection>": steps' connections are told apart by their workflow.
func (b *Bindings) Binding(name string) (backend.Binding, error) {
	workflow, connection, _ := strings.Cut(name, "/")
	return b.Of(workflow, connection)
}

// Shared tells whether the namespace has other Platforms as well.
func (b *Bindings) Shared() bool { return b.now.Load().Shared }

// HMAC is the key of a webhook; nil when there is none.
func (b *Bindings) HMAC(workflow, trigger string) []byte {
	return b.now.Load().Workflows[workflow].HMAC[trigger]
}
