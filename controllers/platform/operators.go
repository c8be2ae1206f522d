// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// operators watches the kinds of other operators, each from the moment it is first needed and installed.
type operators struct {
	mapper     meta.RESTMapper
	cache      cache.Cache
	controller controller.Controller
	wake       handler.MapFunc

	mu      sync.Mutex
	watched map[schema.GroupVersionKind]bool
}

// installed finds which version of each kind the cluster serves, and watches it. A kind that is
// missing is a NoMatchError.
func (o *operators) installed(t *operatedType) (map[string]schema.GroupVersionKind, error) {
	versions := map[string]schema.GroupVersionKind{}
	for _, kind := range t.kinds {
		mapping, err := o.mapper.RESTMapping(schema.GroupKind{Group: kind.group, Kind: kind.kind}, kind.versions...)
		if err != nil {
			return nil, err //nolint:wrapcheck // IsNoMatchError does not unwrap
		}
		versions[kind.kind] = mapping.GroupVersionKind
	}
	for _, gvk := range versions {
		if err := o.watch(gvk); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

func (o *operators) watch(gvk schema.GroupVersionKind) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watched[gvk] {
		return nil
	}
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(gvk)
	if err := o.controller.Watch(source.Kind[client.Object](o.cache, obj, handler.EnqueueRequestsFromMapFunc(o.wake))); err != nil {
		return fmt.Errorf("watch %s: %w", gvk, err)
	}
	o.watched[gvk] = true
	return nil
}
