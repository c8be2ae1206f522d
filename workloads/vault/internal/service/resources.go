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

// promptly is how long a response waits for the API server before the background takes over.
const promptly = 2 * time.Second

// Resources are the last known Secrets and AccessPolicies of one Vault, and the pending writes to them.
type Resources struct {
	*kinds.Reader
	watch    *kinds.Store // nil: there is no API server
	platform string
	log      *slog.Logger
	seen     atomic.Pointer[seen]
	changes  func([]vaultv1.AccessPolicy, []vaultv1.Secret)
	queue    queue
}

// seen is the state of the resources at one time.
type seen struct {
	byPath map[string]*vaultv1.Secret
}

// add records the path of a Secret; of two with the same path the older wins.
func (n *seen) add(s *vaultv1.Secret) {
	if other := n.byPath[s.StorePath()]; other == nil || common.Older(s, other) {
		n.byPath[s.StorePath()] = s
	}
}

// NewResources reads the resources of a store; nil: there is no API server, and nothing is written to one.
func NewResources(watch *kinds.Store, platform string, log *slog.Logger) *Resources {
	r := &Resources{watch: watch, platform: platform, log: log, queue: newQueue()}
	r.Reader = kinds.NewReader(watch, log, r.read)
	r.seen.Store(&seen{byPath: map[string]*vaultv1.Secret{}})
	return r
}

// onChange sets what is called with all policies and Secrets of this Vault after each change.
func (r *Resources) onChange(do func([]vaultv1.AccessPolicy, []vaultv1.Secret)) { r.changes = do }

// Run reads the resources and writes the pending changes, until ctx ends.
func (r *Resources) Run(ctx context.Context) error {
	go r.queue.run(ctx, r.write, r.log)
	return r.Reader.Run(ctx, &vaultv1.Secret{}, &vaultv1.AccessPolicy{})
}

// read reads all resources.
func (r *Resources) read(ctx context.Context) error {
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
		next.add(s)
	}
	var rules []vaultv1.AccessPolicy
	for _, p := range policies {
		if r.ours(p.Spec.PlatformRef) {
			rules = append(rules, *p)
		}
	}
	r.seen.Store(next)
	r.changes(rules, ours)
	return nil
}

func (r *Resources) ours(ref *common.PlatformReference) bool {
	return ref == nil || ref.Name == r.platform
}

// declared returns the resource of a path; nil: there is none.
func (r *Resources) declared(path string) *vaultv1.Secret { return r.seen.Load().byPath[path] }

// mayWrite refuses a value for a path whose resource has another source.
func (r *Resources) mayWrite(path string) error {
	if s := r.declared(path); s != nil && s.Spec.Source.External == nil {
		return api.Error(409, "declared", fmt.Sprintf("resource %s declares the source of this value: change it there, or set its source to external", s.Name))
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

// created creates the resource of a new secret, in the background if the API server does not respond in time.
func (r *Resources) created(ctx context.Context, s wire.Secret) {
	r.enqueue(ctx, task{path: s.Path, typ: s.Type, version: s.Version, create: true})
}

// changed records the newest version on the resource.
func (r *Resources) changed(ctx context.Context, s wire.Secret) {
	r.enqueue(ctx, task{path: s.Path, typ: s.Type, version: s.Version})
}

// touched makes the controller reconcile a secret whose versions were deleted or undeleted.
func (r *Resources) touched(ctx context.Context, path string) {
	r.enqueue(ctx, task{path: path, touch: true})
}

// destroyed deletes the resource of a value that was written over REST.
func (r *Resources) destroyed(ctx context.Context, path string) {
	r.enqueue(ctx, task{path: path, remove: true})
}

// enqueue tries a creation once, for a short time, and leaves the rest to the background.
func (r *Resources) enqueue(ctx context.Context, t task) {
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

// catchUp queues what an earlier process could not write: versions that are newer than the recorded ones.
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
			// The controller knows these versions already if it created them.
			if d := r.declared(s.Path); d != nil && d.Status.LatestVersion < s.Version && d.Spec.Source.External != nil {
				r.queue.add(task{path: s.Path, typ: s.Type, version: s.Version})
			}
		}
		if !more {
			return nil
		}
	}
}

// write does one task. On an error it is retried later.
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
	return nil // there is no resource
}

// annotate records the version, which makes the controller reconcile. Of several replicas the newest version wins: versions
// only grow.
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

// create creates the resource of a path, under its usual name, or under a unique one when that is taken.
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

// uniqueName returns a name for a path that cannot be one (a name has no "_"), or that shares its name with another path.
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
