// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// unapplied are the managed fields of every cached object that was created and never applied since.
var unapplied = []metav1.ManagedFieldsEntry{{Manager: common.FieldOwner, Operation: metav1.ManagedFieldsOperationUpdate}}

// Unapplied returns what the cache keeps of an object's managed fields: one shared entry while the operator owns fields
// from creating the object, otherwise nothing.
func Unapplied(fields []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	for i := range fields {
		if fields[i].Manager == common.FieldOwner && fields[i].Operation == metav1.ManagedFieldsOperationUpdate && fields[i].Subresource == "" {
			return unapplied
		}
	}
	return nil
}

// create sends a new child with POST, which costs the API server about half of an apply, and returns the answer. adopt makes up
// for it at the first change: most children are never changed.
func (a *Applier) create(ctx context.Context, obj client.Object, want *unstructured.Unstructured) (client.Object, error) {
	created := client.Object(want)
	if _, isUnstructured := obj.(*unstructured.Unstructured); !isUnstructured {
		created = obj.DeepCopyObject().(client.Object) // builtin kinds with a Go type are sent as protobuf
		created.SetLabels(want.GetLabels())
		created.SetAnnotations(want.GetAnnotations())
		created.SetOwnerReferences(want.GetOwnerReferences())
	}
	return created, a.Client.Create(ctx, created, client.FieldOwner(common.FieldOwner)) //nolint:wrapcheck // explain does
}

// adopt makes the fields that the operator owns from creating a child its applied fields: otherwise an apply would not
// remove what is no longer desired.
func (a *Applier) adopt(ctx context.Context, current client.Object, gvk schema.GroupVersionKind) error {
	if Unapplied(current.GetManagedFields()) == nil {
		return nil
	}
	live, err := a.read(ctx, a.Live, current, gvk)
	if err != nil || live == nil {
		return err
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(common.FieldOwner), common.FieldOwner)
	if err == nil && patch != nil {
		err = a.Client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch))
	}
	if err != nil {
		return fmt.Errorf("take over the fields of %s %q: %w", gvk.Kind, live.GetName(), err)
	}
	return nil
}
