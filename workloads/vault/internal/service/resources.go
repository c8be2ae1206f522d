// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// promptly is how long an answer waits for the API server; then the background goes on.
const promptly = 2 * time.Second

// Resources are the Secrets and AccessPolicies of one Vault: what was seen last, and what is still to be written.
type Resources struct {
	watch    *kinds.Store // nil: there is no API server
	platform string
	log      *slog.Logger
	seen     atomic.Pointer[seen]
	changes  func([]vaultv1.AccessPolicy, []vaultv1.Secret)
	queue    queue
	known    chan struct{} // closed when all was seen once
	once     sync.Once
}

// seen is the state of the resources at one time.
type seen struct {
	byPath map[string]*vaultv1.Secret
}

// NewResources follows a watch; nil: no API server is there, and nothing is written to one.
func NewResources(watch *kinds.Store, platform string, log *slog.Logger) *Resources {
	r := &Resources{watch: watch, platform: platform, log: log, queue: newQueue(), known: make(chan struct{})}
	r.seen.Store(&seen{byPath: map[string]*vaultv1.Secret{}})
	return r
}

// onChange hears of all policies and Secrets of this Vault after each change.
func (r *Resources) onChange(do func([]vaultv1.AccessPolicy, []vaultv1.Secret)) { r.changes = do }

// Run follows the resources and writes what is to be written, until ctx ends.
func (r *Resources) Run(ctx context.Context) error {
	if r.watch == nil {
		r.changes(nil, nil) // there are none, which is known
		r.once.Do(func() { close(r.known) })
		<-ctx.Done()
		return nil
	}
	var turn sync.Mutex // the kinds' events come side by side
	look := func() {
		turn.Lock()
		defer turn.Unlock()
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("read the resources", "error", err)
		}
	}
	if err := kinds.OnChange[*vaultv1.Secret](ctx, r.watch, look); err != nil {
		return err
	}
	if err := kinds.OnChange[*vaultv1.AccessPolicy](ctx, r.watch, look); err != nil {
		return err
	}
	go func() { // also when there is nothing to see, which is no event
		if r.watch.WaitSynced(ctx) == nil {
			look()
		}
	}()
	go r.queue.run(ctx, r.write, r.log)
	return r.watch.Run(ctx)
}

// look reads all resources anew.
func (r *Resources) look(ctx context.Context) error {
	if !r.watch.Synced() {
		return nil // the first event after that comes here again
	}
	secrets, err := kinds.List[*vaultv1.Secret](ctx, r.watch)
	if err != nil {
		return err
	}
	policies, err := kinds.List[*vaultv1.AccessPolicy](ctx, r.watch)
	if err != nil {
		return err
	}
	next := &seen{byPath: map[string]*vaultv1.Secret{}}
	ours := make([]vaultv1.Secret, 0, len(secrets))
	for _, s := range secrets {
		if !r.ours(s.Spec.PlatformRef) {
			continue
		}
		ours = append(ours, *s)
		// Of two that claim one path the older wins.
		if other := next.byPath[s.StorePath()]; other == nil || older(s, other) {
			next.byPath[s.StorePath()] = s
		}
	}
	var rules []vaultv1.AccessPolicy
	for _, p := range policies {
		if r.ours(p.Spec.PlatformRef) {
			rules = append(rules, *p)
		}
	}
	r.seen.Store(next)
	r.changes(rules, ours)
	r.once.Do(func() { close(r.known) })
	return nil
}

// waitSeen waits until all was seen once; false when ctx ends before.
func (r *Resources) waitSeen(ctx context.Context) bool {
	select {
	case <-r.known:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Resources) ours(ref *common.PlatformReference) bool {
	return ref == nil || ref.Name == r.platform
}

func older(a, b *vaultv1.Secret) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

// Synced tells whether the resources were read once, or there are none to read.
func (r *Resources) Synced() bool { return r.watch == nil || r.watch.Synced() }

// declared is the resource of a path; nil: none.
func (r *Resources) declared(path string) *vaultv1.Secret { return r.seen.Load().byPath[path] }

// mayWrite refuses a value for a path whose resource says where its value comes from.
func (r *Resources) mayWrite(path string) error {
	if s := r.declared(path); s != nil && s.Spec.Source.External == nil {
		return api.Error(409, "declared", fmt.Sprintf("resource %s says where this value comes from: change it there, or let its source be external", s.Name))
	}
	return nil
}

func (r *Resources) consumers(path string) []Consumer {
	out := []Consumer{}
	if s := r.declared(path); s != nil {
		for _, c := range s.Status.Consumers {
			out = append(out, Consumer{c.Kind, c.Name, c.Via, c.Version})
		}
	}
	return out
}

// created makes the resource of a new secret, or lets the background do it when the API server does not answer at once.
func (r *Resources) created(ctx context.Context, s wire.Secret) {
	r.tell(ctx, task{path: s.Path, typ: s.Type, version: s.Version, create: true})
}

// changed notes the newest version on the resource.
func (r *Resources) changed(ctx context.Context, s wire.Secret) {
	r.tell(ctx, task{path: s.Path, typ: s.Type, version: s.Version})
}

// touched lets the controller look at a secret whose versions were deleted or brought back.
func (r *Resources) touched(ctx context.Context, path string) {
	r.tell(ctx, task{path: path, touch: true})
}

// destroyed removes the resource of a value that was written by REST.
func (r *Resources) destroyed(ctx context.Context, path string) {
	r.tell(ctx, task{path: path, remove: true})
}

// tell tries once, shortly, and leaves the rest to the background.
func (r *Resources) tell(ctx context.Context, t task) {
	if r.watch == nil {
		return
	}
	if t.create && !r.queue.holds(t.path) && r.watch.Synced() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), promptly)
		defer cancel()
		if err := r.write(limited, t); err == nil {
			return
		}
	}
	r.queue.add(t)
}

// catchUp queues what a process before could not write: versions that are newer than the noted ones.
func (r *Resources) catchUp(ctx context.Context, vault store.Vault) error {
	if r.watch == nil {
		return nil
	}
	for options := (store.ListOptions{Limit: 1000}); ; {
		secrets, more, err := vault.List(ctx, options)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			options.After = s.Path
			// What the controller has seen itself needs no note.
			if d := r.declared(s.Path); d != nil && d.Status.LatestVersion < s.Version && d.Spec.Source.External != nil {
				r.queue.add(task{path: s.Path, typ: s.Type, version: s.Version})
			}
		}
		if !more {
			return nil
		}
	}
}

// write does one task. An error means: try again later.
func (r *Resources) write(ctx context.Context, t task) error {
	if !r.watch.Synced() {
		return fmt.Errorf("the resources were not read yet")
	}
	s := r.declared(t.path)
	switch {
	case t.remove:
		if s == nil || s.Spec.Source.External == nil {
			return nil
		}
		return client.IgnoreNotFound(r.watch.Client().Delete(ctx, s, client.Preconditions{UID: &s.UID}))
	case s != nil:
		return r.annotate(ctx, s, t)
	case t.create:
		return r.create(ctx, t)
	}
	return nil // nobody declares it
}

// annotate notes the version, so that the controller looks. The newest of several replicas wins: versions only grow.
func (r *Resources) annotate(ctx context.Context, s *vaultv1.Secret, t task) error {
	noted := s.Annotations[vaultv1.AnnotationVersion]
	value := strconv.FormatInt(t.version, 10)
	if t.touch {
		value, _, _ = strings.Cut(noted, "+")
		value += "+" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	} else if known, err := strconv.ParseInt(noted, 10, 64); err == nil && known >= t.version {
		return nil
	}
	patch := client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, vaultv1.AnnotationVersion, value))
	object := &vaultv1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	if err := client.IgnoreNotFound(r.watch.Client().Patch(ctx, object, patch)); err != nil {
		return fmt.Errorf("annotate Secret %s: %w", s.Name, err)
	}
	return nil
}

// create makes the resource of a path, under its usual name, or one of its own when that is another's.
func (r *Resources) create(ctx context.Context, t task) error {
	for _, name := range []string{vaultv1.NameForPath(t.path), uniqueName(t.path)} {
		if !validName(name) {
			continue
		}
		s := &vaultv1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: r.watch.Namespace(), Name: name,
				Annotations: map[string]string{vaultv1.AnnotationVersion: strconv.FormatInt(t.version, 10)},
			},
			Spec: vaultv1.SecretSpec{
				Type: vaultv1.SecretType(t.typ), Path: t.path, PlatformRef: &common.PlatformReference{Name: r.platform},
				Source: vaultv1.Source{External: &vaultv1.External{}},
			},
		}
		err := r.watch.Client().Create(ctx, s)
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create Secret %s: %w", name, err)
		}
		var other vaultv1.Secret
		if err := r.watch.Client().Get(ctx, client.ObjectKeyFromObject(s), &other); err != nil {
			return fmt.Errorf("read Secret %s: %w", name, err)
		}
		if r.ours(other.Spec.PlatformRef) && other.StorePath() == t.path {
			return r.annotate(ctx, &other, t)
		}
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func validName(name string) bool { return len(name) <= 253 && nameForm.MatchString(name) }

// uniqueName is for paths that are no names ("_" is none of a name's characters), or share theirs with another path.
func uniqueName(path string) string {
	sum := sha256.Sum256([]byte(path))
	readable := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, path)
	return strings.TrimRight(readable[:min(len(readable), 200)], "-") + "-" + hex.EncodeToString(sum[:5])
}
