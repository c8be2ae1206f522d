// SPDX-License-Identifier: Apache-2.0

// Package dynamic watches kinds that a cluster may lack, each from the moment it is first needed and installed: those of
// other operators and of the Gateway API.
package dynamic

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Retry is the interval at which a missing CustomResourceDefinition is looked up.
const Retry = time.Minute

// Kind is a kind that may not be installed, with its versions by preference.
type Kind struct {
	Group, Kind string
	Versions    []string
}

// GroupKind returns the kind without a version.
func (k Kind) GroupKind() schema.GroupKind { return schema.GroupKind{Group: k.Group, Kind: k.Kind} }

// Kinds starts the watches of one controller.
type Kinds struct {
	Mapper     meta.RESTMapper
	Cache      cache.Cache
	Controller controller.Controller
	// Wake maps an object to the requests that it concerns.
	Wake handler.MapFunc

	mu      sync.Mutex
	watched map[schema.GroupVersionKind]bool
}

// Installed returns which version of each kind the cluster serves, by kind, and watches it. A kind that is missing is a
// NoMatchError.
func (k *Kinds) Installed(kinds ...Kind) (map[string]schema.GroupVersionKind, error) {
	versions := map[string]schema.GroupVersionKind{}
	for _, kind := range kinds {
		mapping, err := k.Mapper.RESTMapping(kind.GroupKind(), kind.Versions...)
		if err != nil {
			return nil, err //nolint:wrapcheck // IsNoMatchError does not unwrap
		}
		versions[kind.Kind] = mapping.GroupVersionKind
	}
	for _, gvk := range versions {
		if err := k.watch(gvk); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

func (k *Kinds) watch(gvk schema.GroupVersionKind) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watched[gvk] {
		return nil
	}
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(gvk)
	if err := k.Controller.Watch(source.Kind[client.Object](k.Cache, obj, handler.EnqueueRequestsFromMapFunc(k.Wake))); err != nil {
		return fmt.Errorf("watch %s: %w", gvk, err)
	}
	if k.watched == nil {
		k.watched = map[schema.GroupVersionKind]bool{}
	}
	k.watched[gvk] = true
	return nil
}
