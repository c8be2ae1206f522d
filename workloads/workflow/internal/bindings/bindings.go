// SPDX-License-Identifier: Apache-2.0

// Package bindings watches the file, rendered by the operator, with the connections and webhook keys of the namespace's Workflows.
package bindings

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/filewatch"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// Bindings is the content of the file. It is safe for concurrent use.
type Bindings struct {
	dir string
	log *slog.Logger
	now atomic.Pointer[config.Bindings]

	mu          sync.Mutex
	subscribers []func()
	unknown     []string // the unknown keys logged last
}

// Open reads the file in dir. A missing or invalid file counts as empty until it changes.
func Open(dir string, log *slog.Logger) *Bindings {
	b := &Bindings{dir: dir, log: log}
	b.now.Store(&config.Bindings{})
	b.read()
	return b
}

// Run watches the file until ctx is done.
func (b *Bindings) Run(ctx context.Context) { filewatch.Run(ctx, b.dir, b.log, b.read) }

// Subscribe calls do after each change.
func (b *Bindings) Subscribe(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscribers = append(b.subscribers, do)
}

func (b *Bindings) read() {
	fresh, unknown, err := config.LoadBindings(b.dir)
	if err != nil {
		b.log.Warn("cannot read the bindings; the previous ones stay in use", "error", err)
		return
	}
	b.mu.Lock()
	if len(unknown) > 0 && !slices.Equal(unknown, b.unknown) {
		b.log.Warn("the bindings have keys unknown to this version; they are ignored", "keys", unknown)
	}
	b.unknown = unknown
	b.mu.Unlock()
	if reflect.DeepEqual(fresh, b.now.Load()) {
		return
	}
	b.now.Store(fresh)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, do := range b.subscribers {
		do()
	}
}

// Connection returns the binding of a workflow's connection, or backend.ErrNotFound.
func (b *Bindings) Connection(workflow, connection string) (backend.Binding, error) {
	data, ok := b.now.Load().Workflows[workflow].Connections[connection]
	if !ok {
		return backend.Binding{}, fmt.Errorf("connection %s of workflow %s: %w: see the Workflow's conditions", connection, workflow, backend.ErrNotFound)
	}
	return backend.ParseBinding(data), nil
}

// Binding returns the binding of "<workflow>/<connection>".
func (b *Bindings) Binding(name string) (backend.Binding, error) {
	workflow, connection, _ := strings.Cut(name, "/")
	return b.Connection(workflow, connection)
}

// Shared reports whether the namespace has more than one Platform.
func (b *Bindings) Shared() bool { return b.now.Load().Shared }

// HMAC returns the key of a webhook, or nil if it has none.
func (b *Bindings) HMAC(workflow, trigger string) []byte {
	return b.now.Load().Workflows[workflow].HMAC[trigger]
}
