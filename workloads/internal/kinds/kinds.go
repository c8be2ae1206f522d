// SPDX-License-Identifier: Apache-2.0

// Package kinds gives a service the resources of its own kinds in its own namespace, from informers: they stay available while
// the API server is down.
package kinds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// requestTimeout limits every write and every live read.
const requestTimeout = 10 * time.Second

// Options of a Store.
type Options struct {
	// Config connects to the API server: rest.InClusterConfig.
	Config *rest.Config
	// Scheme contains the kinds.
	Scheme *runtime.Scheme
	// Namespace is the service's own: nothing else is watched.
	Namespace string
	// Kinds are the namespaced kinds to watch, one empty object each.
	Kinds []client.Object
	Log   *slog.Logger
}

// Store holds the resources as last seen. A nil Store is for a service without an API server: synced, and empty.
type Store struct {
	namespace string
	scheme    *runtime.Scheme
	cache     cache.Cache
	client    client.Client
	kinds     map[reflect.Type]watch
	running   atomic.Bool
}

// watch is one watched kind.
type watch struct {
	kind     schema.GroupVersionKind
	informer cache.Informer
}

// Open returns a Store, without a request to the API server.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Namespace == "" {
		return nil, errors.New("resources: no namespace")
	}
	settings := rest.CopyConfig(o.Config)
	if settings.QPS == 0 { // client-go would fall back to 5 a second; the API server has its own fairness
		settings.QPS, settings.Burst = -1, -1
	}
	mapper, kinds, err := mapping(o.Scheme, o.Kinds)
	if err != nil {
		return nil, err
	}
	s := &Store{namespace: o.Namespace, scheme: o.Scheme, kinds: map[reflect.Type]watch{}}
	s.cache, err = cache.New(settings, cache.Options{
		Scheme: o.Scheme, Mapper: mapper,
		DefaultNamespaces: map[string]cache.Config{o.Namespace: {}},
		DefaultWatchErrorHandler: func(ctx context.Context, _ *toolscache.Reflector, err error) {
			o.Log.WarnContext(ctx, "the API server does not respond; serving the last known state", "error", err)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("resources: prepare the cache: %w", err)
	}
	// Watches are long-lived; every other request has a timeout.
	bounded := rest.CopyConfig(settings)
	bounded.Timeout = requestTimeout
	if s.client, err = client.New(bounded, client.Options{Scheme: o.Scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("resources: prepare the client: %w", err)
	}
	for i, kind := range kinds {
		informer, err := s.cache.GetInformer(ctx, o.Kinds[i], cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("resources: watch %s: %w", kind.Kind, err)
		}
		s.kinds[reflect.TypeOf(o.Kinds[i])] = watch{kind, informer}
	}
	return s, nil
}

// mapping returns a mapper of the kinds, without discovery.
func mapping(scheme *runtime.Scheme, objects []client.Object) (meta.RESTMapper, []schema.GroupVersionKind, error) {
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	kinds := make([]schema.GroupVersionKind, 0, len(objects))
	for _, o := range objects {
		kind, err := apiutil.GVKForObject(o, scheme)
		if err != nil {
			return nil, nil, fmt.Errorf("resources: %w", err)
		}
		mapper.Add(kind, meta.RESTScopeNamespace)
		// The cache looks up the scope of lists by their own kind.
		mapper.Add(kind.GroupVersion().WithKind(kind.Kind+"List"), meta.RESTScopeNamespace)
		kinds = append(kinds, kind)
	}
	return mapper, kinds, nil
}

// Run watches until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	s.running.Store(true)
	if err := s.cache.Start(ctx); err != nil {
		return fmt.Errorf("resources: watch: %w", err)
	}
	return nil
}

// Synced reports whether every kind was listed once. It stays true while the API server is down.
func (s *Store) Synced() bool {
	if s == nil {
		return true
	}
	if !s.running.Load() {
		return false
	}
	for _, w := range s.kinds {
		if !w.informer.HasSynced() {
			return false
		}
	}
	return true
}

// WaitSynced waits until every kind was listed once, or ctx ends.
func (s *Store) WaitSynced(ctx context.Context) error {
	waits := make([]toolscache.InformerSynced, 0, len(s.kinds))
	for _, w := range s.kinds {
		waits = append(waits, w.informer.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), waits...) {
		return fmt.Errorf("resources: the API server has not listed them: %w", context.Cause(ctx))
	}
	return nil
}

// Client writes to the API server, and reads from it directly.
func (s *Store) Client() client.Client { return s.client }

// Namespace returns the namespace of the resources.
func (s *Store) Namespace() string { return s.namespace }

// List returns copies of all resources of a kind as last seen; none before they were first listed. It never waits.
func List[T client.Object](ctx context.Context, s *Store) ([]T, error) {
	if s == nil {
		return nil, nil
	}
	kind, informer, err := s.watched(reflect.TypeFor[T]())
	if err != nil || !informer.HasSynced() {
		return nil, err
	}
	listKind := kind.GroupVersion().WithKind(kind.Kind + "List")
	object, err := s.scheme.New(listKind)
	if err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	list, ok := object.(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("resources: %s is not a list", listKind.Kind)
	}
	if err := s.cache.List(ctx, list, client.InNamespace(s.namespace)); err != nil {
		return nil, fmt.Errorf("resources: list %s: %w", kind.Kind, err)
	}
	out := make([]T, 0, meta.LenList(list))
	err = meta.EachListItem(list, func(o runtime.Object) error {
		item, ok := o.(T)
		if !ok {
			return fmt.Errorf("resources: %s holds a %T", listKind.Kind, o)
		}
		out = append(out, item)
		return nil
	})
	return out, err
}

// Get returns a copy of one resource as last seen. It never waits.
func Get[T client.Object](ctx context.Context, s *Store, name string) (T, bool, error) {
	var none T
	if s == nil {
		return none, false, nil
	}
	kind, informer, err := s.watched(reflect.TypeFor[T]())
	if err != nil || !informer.HasSynced() {
		return none, false, err
	}
	object, err := s.scheme.New(kind)
	if err != nil {
		return none, false, fmt.Errorf("resources: %w", err)
	}
	item, ok := object.(T)
	if !ok {
		return none, false, fmt.Errorf("resources: %s is a %T", kind.Kind, object)
	}
	err = s.cache.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, item)
	if client.IgnoreNotFound(err) != nil {
		return none, false, fmt.Errorf("resources: get %s %s: %w", kind.Kind, name, err)
	}
	if err != nil {
		return none, false, nil
	}
	return item, true, nil
}

// OnChange calls do after resources of a kind changed, and once at the start, one call at a time, until ctx ends.
// Changes during a call are combined into one further call.
func OnChange[T client.Object](ctx context.Context, s *Store, do func()) error {
	return s.onChange(ctx, reflect.TypeFor[T](), do)
}

func (s *Store) onChange(ctx context.Context, object reflect.Type, do func()) error {
	kind, informer, err := s.watched(object)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	signal := func() {
		select {
		case changed <- struct{}{}:
		default: // a call is due anyway
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { signal() }, UpdateFunc: func(_, _ any) { signal() }, DeleteFunc: func(any) { signal() },
	})
	if err != nil {
		return fmt.Errorf("resources: watch %s: %w", kind.Kind, err)
	}
	go func() {
		defer informer.RemoveEventHandler(registration) //nolint:errcheck // it is of this informer
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				do()
			}
		}
	}()
	return nil
}

func (s *Store) watched(object reflect.Type) (schema.GroupVersionKind, cache.Informer, error) {
	w, ok := s.kinds[object]
	if !ok {
		return w.kind, nil, fmt.Errorf("resources: %s is not watched", object)
	}
	return w.kind, w.informer, nil
}
