// SPDX-License-Identifier: Apache-2.0

package refs

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Fields defines field indexes of one kind: for each name, the values that an object has.
type Fields[T client.Object] map[string]func(T) []string

// Index registers field indexes of the kind of like.
func Index[T client.Object](ctx context.Context, indexer client.FieldIndexer, like T, fields Fields[T]) error {
	for name, values := range fields {
		err := indexer.IndexField(ctx, like, name, func(obj client.Object) []string {
			typed, ok := obj.(T)
			if !ok {
				return nil
			}
			return values(typed)
		})
		if err != nil {
			return fmt.Errorf("index %T by %s: %w", like, name, err)
		}
	}
	return nil
}

// Bucket returns the index value of a value that hardly two objects share. An entry for each such value costs several hundred
// bytes in each namespace; one of 32 buckets has objects that are not meant, and the reader drops those.
func Bucket(value string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(value))
	return strconv.Itoa(int(sum.Sum32() % 32))
}

// Others is Matching without a request for obj itself. It finds the objects that may win or lose when obj changes.
func Others(ctx context.Context, reader client.Reader, obj client.Object, list client.ObjectList, field string, values ...string) []ctrlreconcile.Request {
	self := ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)}
	return slices.DeleteFunc(Matching(ctx, reader, list, field, values...), func(r ctrlreconcile.Request) bool { return r == self })
}

// Matching returns a request for each object whose indexed field has one of the values. list is an empty list of the kind.
func Matching(ctx context.Context, reader client.Reader, list client.ObjectList, field string, values ...string) []ctrlreconcile.Request {
	var out []ctrlreconcile.Request
	for _, value := range values {
		if err := reader.List(ctx, list, client.MatchingFields{field: value}); err != nil {
			return nil // the cache answers; it fails only while the manager stops
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error { // which gives this function's errors, and it has none
			if obj, ok := item.(client.Object); ok {
				out = append(out, ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
			}
			return nil
		})
	}
	return out
}

// PlatformUsers returns requests for the objects that name a Platform, which the index has as "namespace/name", and for
// those that use the only one of their namespace, as "namespace/".
func PlatformUsers(ctx context.Context, reader client.Reader, list client.ObjectList, field string, platform client.Object) []ctrlreconcile.Request {
	namespace := platform.GetNamespace() + "/"
	return Matching(ctx, reader, list, field, namespace, namespace+platform.GetName())
}
