// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Kind builds the controller of one kind, which runs passes of package reconcile.
type Kind[T reconcile.Object] struct {
	// Name of the controller, in logs, metrics and events.
	Name string
	// Like is an object of the kind.
	Like T
	// NewPass returns the pass for an object, which the pass may change.
	NewPass func(T) reconcile.Pass
	// Forget drops what is remembered of a resource that is gone; may be nil.
	Forget func(client.ObjectKey)
}

// Builder returns the builder of the controller, to which the caller adds watches. It reconciles a resource when its
// generation changes, and on the updates that also selects.
func (k Kind[T]) Builder(d *Deps, also ...predicate.Predicate) *builder.Builder {
	when := append([]predicate.Predicate{predicate.GenerationChangedPredicate{}}, also...)
	return ctrl.NewControllerManagedBy(d.Manager).Named(k.Name).WithOptions(d.ControllerOptions()).
		For(k.Like, builder.WithPredicates(predicate.Or(when...)))
}

// Complete adds the controller that b describes to the manager.
func (k Kind[T]) Complete(d *Deps, b *builder.Builder) error {
	err := b.Complete(&reconcile.Reconciler[T]{
		Client: d.Manager.GetClient(), Recorder: d.Manager.GetEventRecorder(k.Name),
		New: func() T { return k.Like.DeepCopyObject().(T) }, NewPass: k.NewPass, Forget: k.Forget,
	})
	if err != nil {
		return fmt.Errorf("controller %s: %w", k.Name, err)
	}
	return nil
}

// Deletion selects the start of a deletion, which does not change the generation of a resource without finalizers.
func Deletion() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(obj client.Object) bool { return !obj.GetDeletionTimestamp().IsZero() })
}

// Updated selects the updates that changed reports, and no other events. Combine it with another predicate.
func Updated[T client.Object](changed func(was, is T) bool) predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, DeleteFunc: func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, ok := e.ObjectOld.(T)
			is, isOne := e.ObjectNew.(T)
			return ok && isOne && changed(was, is)
		},
	}
}
