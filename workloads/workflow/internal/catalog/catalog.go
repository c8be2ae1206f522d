// SPDX-License-Identifier: Apache-2.0

// Package catalog knows the Workflows of the service's Platform as they were
// seen last, proven and compiled. It goes on knowing them while the API server
// is away.
package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Entry is one Workflow. It must not be changed.
type Entry struct {
	Workflow *workflowv1.Workflow
	// Program is nil when the definition is not proven: Problems tells why.
	Program  *definition.Program
	Problems error
}

// Options are what a Catalog needs.
type Options struct {
	// Resources watches Workflows; nil: there is no API server, and no Workflow.
	Resources *kinds.Store
	// Platform is whose Workflows these are: those that name it, and those that name none while it is alone.
	Platform string
	// Bindings tell whether it is; nil: it is.
	Bindings interface {
		Shared() bool
		Subscribe(do func())
	}
	Log *slog.Logger
}

// Catalog is safe for concurrent use.
type Catalog struct {
	options Options
	seen    atomic.Pointer[seen]
	known   chan struct{} // closed when all was seen once
	once    sync.Once

	mu   sync.Mutex // one look at a time; and who listens
	told []func(name string)
}

// seen is the state at one time.
type seen struct {
	entries map[string]*Entry
	hooks   map[string]hook
}

type hook struct {
	entry   *Entry
	trigger string
}

// New makes a catalog that knows nothing yet.
func New(o Options) *Catalog {
	c := &Catalog{options: o, known: make(chan struct{})}
	c.seen.Store(&seen{})
	return c
}

// Run follows the Workflows until ctx ends. Who runs the watch of Resources is not its business.
func (c *Catalog) Run(ctx context.Context) error {
	if c.options.Resources == nil {
		c.once.Do(func() { close(c.known) })
		<-ctx.Done()
		return nil
	}
	look := func() {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.options.Log.Error("read the Workflows", "error", err)
		}
	}
	if c.options.Bindings != nil {
		c.options.Bindings.Subscribe(look)
	}
	if err := kinds.OnChange[*workflowv1.Workflow](ctx, c.options.Resources, look); err != nil {
		return err
	}
	if err := c.options.Resources.WaitSynced(ctx); err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	look() // also when there is none, which is no change
	<-ctx.Done()
	return nil
}

// WaitSeen waits until all Workflows were seen once; false when ctx ends before.
func (c *Catalog) WaitSeen(ctx context.Context) bool {
	select {
	case <-c.known:
		return true
	case <-ctx.Done():
		return false
	}
}

// Subscribe calls do with the name of each Workflow that came, changed its specification or went, and at once with those that
// are there. The calls come one at a time; do must not wait.
func (c *Catalog) Subscribe(do func(name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, do)
	for _, e := range c.All() {
		do(e.Workflow.Name)
	}
}

// Get is a Workflow by its name.
func (c *Catalog) Get(name string) (*Entry, bool) {
	e, ok := c.seen.Load().entries[name]
	return e, ok
}

// All are the Workflows, ordered by name.
func (c *Catalog) All() []*Entry {
	entries := c.seen.Load().entries
	out := make([]*Entry, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, entries[name])
	}
	return out
}

// ByWebhook finds who is called at a path: the oldest Workflow that has it and is proven.
func (c *Catalog) ByWebhook(path string) (e *Entry, trigger string, ok bool) {
	h, ok := c.seen.Load().hooks[path]
	return h.entry, h.trigger, ok
}

// look reads all Workflows anew, and compiles those that changed.
func (c *Catalog) look(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.options.Resources.Synced() {
		return nil // the first event after that comes here again
	}
	all, err := kinds.List[*workflowv1.Workflow](ctx, c.options.Resources)
	if err != nil {
		return err
	}
	before, next := c.seen.Load(), &seen{entries: map[string]*Entry{}, hooks: map[string]hook{}}
	var changed []string
	for _, w := range all {
		if !c.ours(w) {
			continue
		}
		last := before.entries[w.Name]
		e := &Entry{Workflow: w}
		if last != nil && same(last.Workflow, w) {
			e.Program, e.Problems = last.Program, last.Problems
		} else {
			e.Program, e.Problems = Compile(w.Name, &w.Spec)
			changed = append(changed, w.Name)
		}
		next.entries[w.Name] = e
		next.hook(e)
	}
	for name := range before.entries {
		if next.entries[name] == nil {
			changed = append(changed, name)
		}
	}
	c.seen.Store(next)
	c.once.Do(func() { close(c.known) })
	for _, name := range changed {
		for _, do := range c.told {
			do(name)
		}
	}
	return nil
}

func (c *Catalog) ours(w *workflowv1.Workflow) bool {
	if w.Spec.PlatformRef == nil {
		return c.options.Bindings == nil || !c.options.Bindings.Shared()
	}
	return w.Spec.PlatformRef.Name == c.options.Platform
}

func same(a, b *workflowv1.Workflow) bool {
	return a.UID == b.UID && a.Generation == b.Generation
}

// hook notes the paths of a Workflow; of two that have one the older wins.
func (s *seen) hook(e *Entry) {
	if e.Program == nil {
		return
	}
	for i := range e.Workflow.Spec.Triggers {
		t := &e.Workflow.Spec.Triggers[i]
		if t.Webhook == nil {
			continue
		}
		if other, taken := s.hooks[t.Webhook.Path]; !taken || older(e.Workflow, other.entry.Workflow) {
			s.hooks[t.Webhook.Path] = hook{e, t.Name}
		}
	}
}

func older(a, b *workflowv1.Workflow) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.UID < b.UID
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

// Compile proves a specification. The error is *definition.Problems, or tells that it is none.
func Compile(name string, spec *workflowv1.WorkflowSpec) (*definition.Program, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	parsed, err := definition.Parse(name, data)
	if err != nil {
		return nil, err
	}
	return definition.Compile(parsed)
}
