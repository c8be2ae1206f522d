// SPDX-License-Identifier: Apache-2.0

// Package catalog caches the Workflows of the service's Platform, validated and compiled. They stay available while the API
// server is down.
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

// Entry is one Workflow. It must not be modified.
type Entry struct {
	Workflow *workflowv1.Workflow
	// Program is nil if the definition is invalid: see Problems.
	Program  *definition.Program
	Problems error
}

// Options configure a Catalog.
type Options struct {
	// Resources watches Workflows. Without it there is no API server, and no Workflow.
	Resources *kinds.Store
	// Platform selects the Workflows that reference it, and those without a reference while it is the namespace's only Platform.
	Platform string
	// Bindings report whether it is; if nil, it is.
	Bindings interface {
		Shared() bool
		Subscribe(do func())
	}
	Log *slog.Logger
}

// Catalog is safe for concurrent use.
type Catalog struct {
	options  Options
	reader   *kinds.Reader
	snapshot atomic.Pointer[snapshot]

	mu          sync.Mutex // serializes reads; guards subscribers
	subscribers []func(name string)
}

// snapshot is the state at one time.
type snapshot struct {
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
	c.snapshot.Store(&snapshot{})
	return c
}

// Run updates the catalog until ctx is done. The caller runs Resources.
func (c *Catalog) Run(ctx context.Context) error {
	if c.options.Bindings != nil {
		c.options.Bindings.Subscribe(func() { c.reader.Read(ctx) })
	}
	return c.reader.Run(ctx, &workflowv1.Workflow{})
}

// WaitSeen waits until all Workflows have been read once. It returns false if ctx is done first.
func (c *Catalog) WaitSeen(ctx context.Context) bool { return c.reader.WaitSeen(ctx) }

// Subscribe calls do with the name of each existing Workflow, and of each one that is created or deleted or whose specification
// changes. Calls are serialized; do must not block.
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
	e, ok := c.snapshot.Load().entries[name]
	return e, ok
}

// All returns the Workflows, ordered by name.
func (c *Catalog) All() []*Entry {
	entries := c.snapshot.Load().entries
	out := make([]*Entry, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, entries[name])
	}
	return out
}

// ByWebhook returns the trigger at a path, and its Workflow: the oldest valid one with that path.
func (c *Catalog) ByWebhook(path string) (e *Entry, trigger string, ok bool) {
	h, ok := c.snapshot.Load().hooks[path]
	return h.entry, h.trigger, ok
}

// read lists all Workflows and compiles those that changed.
func (c *Catalog) read(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := kinds.List[*workflowv1.Workflow](ctx, c.options.Resources)
	if err != nil {
		return err
	}
	before, next := c.snapshot.Load(), &snapshot{entries: map[string]*Entry{}, hooks: map[string]hook{}}
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
	c.snapshot.Store(next)
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

// hook records the webhook paths of a Workflow. The older of two Workflows with the same path wins.
func (s *snapshot) hook(e *Entry) {
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

// Compile validates and compiles a specification. The error is *definition.Problems, unless spec cannot be marshaled.
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
