// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ApplyStatus applies fields of a resource's status, a struct or a map that is marshalled to JSON, by server-side apply
// as owner, with force. The resource needs only its name and UID. Fields that owner applied before and omits now are
// removed; fields of other owners stay. The error is that of the API server: NotFound if the resource is gone, Conflict
// if another resource has its name.
func (s *Store) ApplyStatus(ctx context.Context, object client.Object, owner string, status any) error {
	w, ok := s.kinds[reflect.TypeOf(object)]
	if !ok {
		return fmt.Errorf("resources: %T is not watched", object)
	}
	metadata := map[string]any{"name": object.GetName(), "namespace": s.namespace}
	if uid := object.GetUID(); uid != "" {
		metadata["uid"] = uid
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": w.kind.GroupVersion().String(), "kind": w.kind.Kind, "metadata": metadata, "status": status,
	})
	if err != nil {
		return fmt.Errorf("resources: status of %s %s: %w", w.kind.Kind, object.GetName(), err)
	}
	into, ok := reflect.New(reflect.TypeOf(object).Elem()).Interface().(client.Object)
	if !ok {
		return fmt.Errorf("resources: %T is not a resource", object)
	}
	into.SetName(object.GetName())
	into.SetNamespace(s.namespace)
	err = s.client.Status().Patch(ctx, into, client.RawPatch(types.ApplyPatchType, data), client.FieldOwner(owner), client.ForceOwnership)
	if another(err) {
		err = apierrors.NewConflict(schema.GroupResource{Group: w.kind.Group, Resource: w.kind.Kind}, object.GetName(), err)
	}
	if err != nil {
		return fmt.Errorf("resources: status of %s %s: %w", w.kind.Kind, object.GetName(), err)
	}
	return nil
}

// another reports whether the API server refused because a resource with another UID has the name, which it calls
// invalid.
func another(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}
