// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// ErrDead is returned by every call after the crash.
var ErrDead = errors.New("this manager has crashed")

// When is the side of a write on which a manager crashes.
type When string

const (
	// After means that the API server has the write, but the manager gets no response.
	After When = "after"
	// Before means that the write does not reach the API server; everything since the previous write is done.
	Before When = "before"
)

// Crash makes a manager crash at a chosen write. The zero value counts writes and lets all pass.
type Crash struct {
	mu     sync.Mutex
	armed  bool
	at     string
	when   When
	seen   map[string]int
	known  map[string]string // the server's response to the last apply of each object
	writes []string
	last   time.Time // of the last write, armed or not
	dead   chan struct{}
	kill   context.CancelFunc
}

// NewCrash returns a Crash that is not armed.
func NewCrash() *Crash {
	return &Crash{dead: make(chan struct{}), known: map[string]string{}, seen: map[string]int{}}
}

// Arm records writes from here on, and crashes the manager at one of them, named as by Writes; at "" never.
func (c *Crash) Arm(at string, when When) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.at, c.when, c.writes, c.seen = true, at, when, nil, map[string]int{}
}

// Writes returns the writes since Arm that changed something at the API server, in order, as "verb Kind[/subresource]
// #n", where n counts equal texts from 1; the last may not have reached it.
func (c *Crash) Writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.writes...)
}

// Quiet reports whether nothing was written for that long.
func (c *Crash) Quiet(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last) >= d
}

// Dead is closed when the manager has crashed.
func (c *Crash) Dead() <-chan struct{} { return c.dead }

// OnDeath sets what is called at the crash: it ends the manager's context.
func (c *Crash) OnDeath(kill context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill = kill
}

// gone reports whether the manager has crashed.
func (c *Crash) gone() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// write does one write, or crashes at it. do reports whether it changed anything.
func (c *Crash) write(what string, do func() (bool, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock() // one write at a time: a crash can cut between any two
	if c.gone() {
		return ErrDead
	}
	c.last = time.Now()
	named := fmt.Sprintf("%s #%d", what, c.seen[what]+1)
	if c.armed && named == c.at && c.when == Before {
		c.writes = append(c.writes, named)
		return c.die()
	}
	changed, err := do()
	if err != nil || !changed || !c.armed {
		return err // a stale cache makes a manager repeat what is done: that does not count
	}
	c.seen[what]++
	c.writes = append(c.writes, named)
	if named == c.at {
		return c.die()
	}
	return nil
}

// always treats a successful call as a write that changed something.
func always(do func() error) func() (bool, error) {
	return func() (bool, error) { return true, do() }
}

// apply changes nothing if the response equals that to the previous apply.
func (c *Crash) apply(obj runtime.ApplyConfiguration, do func() error) func() (bool, error) {
	return func() (bool, error) {
		if err := do(); err != nil {
			return false, err
		}
		answer, ok := obj.(interface{ UnstructuredContent() map[string]any })
		if !ok {
			return true, nil
		}
		u := (&unstructured.Unstructured{Object: answer.UnstructuredContent()}).DeepCopy()
		key := u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
		u.SetResourceVersion("")
		u.SetManagedFields(nil)
		delete(u.Object, "status")
		data, err := json.Marshal(u.Object)
		changed := err != nil || c.known[key] != string(data)
		c.known[key] = string(data)
		return changed, nil
	}
}

// die ends the manager; the caller holds the lock.
func (c *Crash) die() error {
	close(c.dead)
	if c.kill != nil {
		c.kill()
	}
	return ErrDead
}

// NewClient returns the client for a manager's options.
func (c *Crash) NewClient(cfg *rest.Config, options client.Options) (client.Client, error) {
	inner, err := client.NewWithWatch(cfg, options)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return interceptor.NewClient(inner, c.funcs(options.Scheme)), nil
}

func (c *Crash) funcs(scheme *runtime.Scheme) interceptor.Funcs {
	kind := func(obj runtime.Object) string {
		gvk, err := apiutil.GVKForObject(obj, scheme)
		if err != nil {
			return fmt.Sprintf("%T", obj)
		}
		return gvk.Kind
	}
	funcs := interceptor.Funcs{
		Get: func(ctx context.Context, inner client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if c.gone() {
				return ErrDead
			}
			return inner.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, inner client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if c.gone() {
				return ErrDead
			}
			return inner.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, inner client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return c.write("create "+kind(obj), always(func() error { return inner.Create(ctx, obj, opts...) }))
		},
		Delete: func(ctx context.Context, inner client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			return c.write("delete "+kind(obj), always(func() error { return inner.Delete(ctx, obj, opts...) }))
		},
		DeleteAllOf: func(ctx context.Context, inner client.WithWatch, obj client.Object, opts ...client.DeleteAllOfOption) error {
			return c.write("delete all of "+kind(obj), always(func() error { return inner.DeleteAllOf(ctx, obj, opts...) }))
		},
		Update: func(ctx context.Context, inner client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return c.write("update "+kind(obj), always(func() error { return inner.Update(ctx, obj, opts...) }))
		},
		Patch: func(ctx context.Context, inner client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return c.write("patch "+kind(obj), always(func() error { return inner.Patch(ctx, obj, patch, opts...) }))
		},
		Apply: func(ctx context.Context, inner client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return c.write("apply "+applied(obj), c.apply(obj, func() error { return inner.Apply(ctx, obj, opts...) }))
		},
	}
	c.subResources(&funcs, kind)
	return funcs
}

func (c *Crash) subResources(funcs *interceptor.Funcs, kind func(runtime.Object) string) {
	funcs.SubResourceCreate = func(ctx context.Context, inner client.Client, name string, obj, sub client.Object, opts ...client.SubResourceCreateOption) error {
		return c.write("create "+kind(obj)+"/"+name, always(func() error { return inner.SubResource(name).Create(ctx, obj, sub, opts...) }))
	}
	funcs.SubResourceUpdate = func(ctx context.Context, inner client.Client, name string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
		return c.write("update "+kind(obj)+"/"+name, always(func() error { return inner.SubResource(name).Update(ctx, obj, opts...) }))
	}
	funcs.SubResourcePatch = func(ctx context.Context, inner client.Client, name string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
		return c.write("patch "+kind(obj)+"/"+name, always(func() error { return inner.SubResource(name).Patch(ctx, obj, patch, opts...) }))
	}
	funcs.SubResourceApply = func(ctx context.Context, inner client.Client, name string, obj runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
		return c.write("apply "+applied(obj)+"/"+name, c.apply(obj, func() error { return inner.SubResource(name).Apply(ctx, obj, opts...) }))
	}
}

// applied returns the kind of an apply configuration.
func applied(obj runtime.ApplyConfiguration) string {
	if named, ok := obj.(interface{ GetKind() string }); ok {
		return named.GetKind()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", obj), "*")
}
