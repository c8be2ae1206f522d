// SPDX-License-Identifier: Apache-2.0

package refs

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Names holds the name and version of every Secret, from a watch of metadata alone. It keeps two short strings of each,
// where an informer keeps an object and its indexes: 30,000 foreign Secrets must cost next to nothing. It is a Runnable of
// the manager, with or without the lease.
type Names struct {
	scopes  []*scope
	pending atomic.Int32  // scopes that are not listed yet
	listed  chan struct{} // closed when none is pending

	mu    sync.RWMutex
	known map[string]map[string]string // by namespace and name: VersionOf
	heard []func(client.ObjectKey)
}

// NewNames prepares the watch of the namespaces; none means all.
func NewNames(config *rest.Config, httpClient *http.Client, namespaces []string) (*Names, error) {
	clients, err := metadata.NewForConfigAndClient(metadata.ConfigFor(config), httpClient)
	if err != nil {
		return nil, fmt.Errorf("watch of Secret names: %w", err)
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	n := &Names{known: map[string]map[string]string{}, listed: make(chan struct{})}
	for _, namespace := range namespaces {
		n.scopes = append(n.scopes, &scope{names: n, namespace: namespace, secrets: clients.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace)})
	}
	n.pending.Store(int32(len(n.scopes)))
	return n, nil
}

// Version returns the UID and resource version of a Secret, or "" when there is none. watched is false outside of the
// watched namespaces.
func (n *Names) Version(key client.ObjectKey) (version string, watched bool) {
	for _, s := range n.scopes {
		if s.namespace == metav1.NamespaceAll || s.namespace == key.Namespace {
			n.mu.RLock()
			defer n.mu.RUnlock()
			return n.known[key.Namespace][key.Name], true
		}
	}
	return "", false
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a standby holds the names, too.
func (n *Names) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (n *Names) Start(ctx context.Context) error {
	var all sync.WaitGroup
	for _, s := range n.scopes {
		all.Go(func() { s.run(ctx) })
	}
	all.Wait()
	return nil
}

// Source enqueues what refers to a Secret when the Secret is created, changed or deleted. The Secrets that exist at the
// start enqueue nothing: every resource has its first pass anyway, which waits until the names are listed.
func (n *Names) Source(wake func(context.Context, client.ObjectKey) []ctrlreconcile.Request) *NamesSource {
	return &NamesSource{n, wake}
}

// NamesSource is a source of a controller.
type NamesSource struct {
	names *Names
	wake  func(context.Context, client.ObjectKey) []ctrlreconcile.Request
}

// Start implements source.Source.
func (s *NamesSource) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[ctrlreconcile.Request]) error {
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	s.names.heard = append(s.names.heard, func(key client.ObjectKey) {
		for _, request := range s.wake(ctx, key) {
			queue.Add(request)
		}
	})
	return nil
}

// WaitForSync implements source.SyncingSource.
func (s *NamesSource) WaitForSync(ctx context.Context) error {
	select {
	case <-s.names.listed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the names of Secrets are not known yet: %w", ctx.Err())
	}
}

// String names the source in messages of controller-runtime.
func (s *NamesSource) String() string { return "names of Secrets" }

// scope is one watched namespace, or all of them. It is the store of a reflector.
type scope struct {
	names     *Names
	namespace string
	secrets   metadata.ResourceInterface
	once      sync.Once
}

func (s *scope) run(ctx context.Context) {
	listWatch := toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return s.secrets.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return s.secrets.Watch(ctx, options)
		},
	}, s.secrets)
	options := toolscache.ReflectorOptions{Name: "names of Secrets", TypeDescription: "Secret"}
	toolscache.NewReflectorWithOptions(listWatch, &metav1.PartialObjectMetadata{}, s, options).RunWithContext(ctx)
}

// Transformer implements cache.TransformingStore. It strips objects early, because the first list is held whole for a moment.
func (s *scope) Transformer() toolscache.TransformFunc {
	return func(obj any) (any, error) {
		secret, err := meta.Accessor(obj)
		if err != nil {
			return obj, nil // a deletion that was missed
		}
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: secret.GetName(), Namespace: secret.GetNamespace(), UID: secret.GetUID(), ResourceVersion: secret.GetResourceVersion(),
		}}, nil
	}
}

// Add implements cache.ReflectorStore.
func (s *scope) Add(obj any) error { return s.note(obj, VersionOf) }

// Update implements cache.ReflectorStore.
func (s *scope) Update(obj any) error { return s.note(obj, VersionOf) }

// Delete implements cache.ReflectorStore.
func (s *scope) Delete(obj any) error { return s.note(obj, func(metav1.Object) string { return "" }) }

// Resync implements cache.ReflectorStore.
func (s *scope) Resync() error { return nil }

func (s *scope) note(obj any, version func(metav1.Object) string) error {
	secret, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: secret.GetNamespace(), Name: secret.GetName()}
	s.names.mu.Lock()
	changed := s.names.set(key, version(secret))
	s.names.mu.Unlock()
	if changed {
		s.names.tell([]client.ObjectKey{key})
	}
	return nil
}

// Replace implements cache.ReflectorStore. It reports how a new list, after a gap in the watch, differs from what was known.
func (s *scope) Replace(list []any, _ string) error {
	fresh := make(map[client.ObjectKey]string, len(list))
	for _, obj := range list {
		secret, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		fresh[client.ObjectKey{Namespace: secret.GetNamespace(), Name: secret.GetName()}] = VersionOf(secret)
	}
	var changed []client.ObjectKey
	n := s.names
	n.mu.Lock()
	for namespace, names := range n.known {
		if s.namespace != metav1.NamespaceAll && s.namespace != namespace {
			continue
		}
		for name := range names {
			if key := (client.ObjectKey{Namespace: namespace, Name: name}); fresh[key] == "" && n.set(key, "") {
				changed = append(changed, key)
			}
		}
	}
	for key, version := range fresh {
		if n.set(key, version) {
			changed = append(changed, key)
		}
	}
	n.mu.Unlock()
	first := false
	s.once.Do(func() { first = true })
	if !first {
		n.tell(changed)
	} else if n.pending.Add(-1) == 0 {
		close(n.listed)
	}
	return nil
}

// set records a version, "" when the Secret is gone, and reports whether that is new. The caller holds the lock.
func (n *Names) set(key client.ObjectKey, version string) bool {
	names := n.known[key.Namespace]
	if names[key.Name] == version {
		return false
	}
	switch {
	case version == "":
		delete(names, key.Name)
		if len(names) == 0 {
			delete(n.known, key.Namespace)
		}
	case names == nil:
		n.known[key.Namespace] = map[string]string{key.Name: version}
	default:
		names[key.Name] = version
	}
	return true
}

func (n *Names) tell(keys []client.ObjectKey) {
	n.mu.RLock()
	heard := n.heard
	n.mu.RUnlock()
	for _, key := range keys {
		for _, hear := range heard {
			hear(key)
		}
	}
}
