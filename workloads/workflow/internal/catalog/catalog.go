// SPDX-License-Identifier: Apache-2.0

// Package catalog holds the Workflows of the service's Platform as last seen, proven and compiled. They stay available while the
// API server is down.
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

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Entry is one Workflow. It must not be changed.
type Entry struct {
	Workflow *workflowv1.Workflow
	// Program is nil when the definition is not proven: see Problems.
	Program  *definition.Program
	Problems error
}

// Options configure a Catalog.
type Options struct {
	// Resources watches Workflows; nil: there is no API server, and no Workflow.
	Resources *kinds.Store
	// Platform selects the Workflows that name it, and those that name none while the namespace has no other Platform.
	Platform string
	// Bindings report whether it has; nil: it has none.
	Bindings interface {
		Shared() bool
		Subscribe(do func())
	}
	Log *slog.Logger
}

// Catalog is safe for concurrent use.
type Catalog struct {
	options Options
	reader  *kinds.Reader
	seen    atomic.Pointer[seen]

	mu          sync.Mutex // one read at a time; guards subscribers
	subscribers []func(name string)
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

// New returns an empty catalog.
func New(o Options) *Catalog {
	c := &Catalog{options: o}
	c.reader = kinds.NewReader(o.Resources, o.Log, c.read)
	c.seen.Store(&seen{})
	return c
}

// Run follows the Workflows until ctx ends; Resources are watched elsewhere.
func (c *Catalog) Run(ctx context.Context) error {
	if c.options.Bindings != nil {
		c.options.Bindings.Subscribe(func() { c.reader.Read(ctx) })
	}
	return c.reader.Run(ctx, &workflowv1.Workflow{})
}

// WaitSeen waits until all Workflows were seen once; false when ctx ends before.
func (c *Catalog) WaitSeen(ctx context.Context) bool { return c.reader.WaitSeen(ctx) }

// Subscribe calls do with the name of each Workflow that is created, deleted, or changed in its specification, and at once with
// those that exist. There is one call at a time; do must not block.
func (c *Catalog) Subscribe(do func(name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribers = append(c.subscribers, do)
	for _, e := range c.All() {
		do(e.Workflow.Name)
	}
}

// Get returns a Workflow by its name.
func (c *Catalog) Get(name string) (*Entry, bool) {
	e, ok := c.seen.Load().entries[name]
	return e, ok
}

// All returns the Workflows, ordered by name.
func (c *Catalog) All() []*Entry {
	entries := c.seen.Load().entries
	out := make([]*Entry, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, entries[name])
	}
	return out
}

// ByWebhook returns the Workflow and the trigger at a path: of the proven Workflows that have it, the oldest.
func (c *Catalog) ByWebhook(path string) (e *Entry, trigger string, ok bool) {
	h, ok := c.seen.Load().hooks[path]
	return h.entry, h.trigger, ok
}

// read reads all Workflows, and compiles those that changed.
func (c *Catalog) read(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	for _, name := range changed {
		for _, do := range c.subscribers {
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

// hook records the paths of a Workflow; of two with the same path the older wins.
func (s *seen) hook(e *Entry) {
	if e.Program == nil {
		return
	}
	for i := range e.Workflow.Spec.Triggers {
		t := &e.Workflow.Spec.Triggers[i]
		if t.Webhook == nil {
			continue
		}
		if other, taken := s.hooks[t.Webhook.Path]; !taken || common.Older(e.Workflow, other.entry.Workflow) {
			s.hooks[t.Webhook.Path] = hook{e, t.Name}
		}
	}
}

// Compile proves and compiles a specification. The error is *definition.Problems, unless spec is no specification at all.
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
