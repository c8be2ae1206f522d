// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Of returns the product's service on a Platform: the oldest, of several; nil: there is none.
func (t *Type) Of(ctx context.Context, c client.Reader, namespace, platform string) (Object, error) {
	list := t.NewList()
	err := c.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{IndexPlatform: namespace + "/" + platform})
	if err != nil {
		return nil, fmt.Errorf("list services of %s: %w", t.Title, err)
	}
	var oldest Object
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if o, ok := item.(Object); ok && (oldest == nil || common.Older(o, oldest)) {
			oldest = o
		}
		return nil
	})
	return oldest, err //nolint:wrapcheck // the visitor returns none
}

// On is Of for a resource that needs the service; the error of a Platform without one says what to do.
func (t *Type) On(ctx context.Context, c client.Reader, platform *platformv1alpha1.Platform) (Object, error) {
	found, err := t.Of(ctx, c, platform.Namespace, platform.Name)
	if err == nil && found == nil {
		err = reconcile.Wait(common.ReasonReferenceNotFound, "Platform %s has no service of %s; create a %s with spec.platformRef.name %s",
			platform.Name, t.Title, t.Kind, platform.Name)
	}
	return found, err
}

// Serving returns nil when a service is Ready.
func (t *Type) Serving(o Object) error {
	ready := meta.FindStatusCondition(*o.GetConditions(), common.ConditionReady)
	if ready != nil && ready.Status == "True" {
		return nil
	}
	message := "it is being set up"
	if ready != nil && ready.Message != "" {
		message = ready.Message
	}
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s %s is not Ready: %s", t.Kind, o.GetName(), message)
}

// ServingChanged lets a service through when it comes, goes, or becomes Ready or not.
func ServingChanged() predicate.Predicate {
	state := func(obj client.Object) string {
		o, ok := obj.(Object)
		if !ok {
			return ""
		}
		ready := meta.FindStatusCondition(*o.GetConditions(), common.ConditionReady)
		if ready == nil {
			return ""
		}
		return string(ready.Status) + ready.Message
	}
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return state(e.ObjectOld) != state(e.ObjectNew) }}
}

// ByPlatform returns a handler of a service's events: it enqueues what users returns for the service's Platform.
func ByPlatform(users func(ctx context.Context, platform client.Object) []ctrlreconcile.Request) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
		o, ok := obj.(Object)
		if !ok {
			return nil
		}
		platform := &platformv1alpha1.Platform{}
		platform.Namespace, platform.Name = obj.GetNamespace(), o.ServiceSpec().PlatformRef.Name
		return users(ctx, platform)
	})
}
