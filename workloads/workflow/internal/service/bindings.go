// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/itechsmart/operator/workloads/internal/filewatch"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// Bindings are what the Workflows name, as their file told it last.
type Bindings struct {
	dir  string
	log  *slog.Logger
	last atomic.Pointer[workerconfig.Bindings]
}

// NewBindings reads the file in dir. One that cannot be read is told, and holds nothing until it can.
func NewBindings(dir string, log *slog.Logger) *Bindings {
	b := &Bindings{dir: dir, log: log}
	b.last.Store(&workerconfig.Bindings{})
	b.read()
	return b
}

// Run follows the file until ctx ends.
func (b *Bindings) Run(ctx context.Context) {
	filewatch.Watch(ctx, filepath.Join(b.dir, workerconfig.BindingsName), b.log, b.read)
}

func (b *Bindings) read() {
	fresh, err := workerconfig.LoadBindings(b.dir)
	if err != nil {
		b.log.Warn("the bindings cannot be read; the old ones stay", "error", err)
		return
	}
	b.last.Store(fresh)
}

// Of are a Workflow's. They must not be changed.
func (b *Bindings) Of(workflow string) workerconfig.WorkflowBindings {
	return b.last.Load().Workflows[workflow]
}
