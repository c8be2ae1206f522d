// SPDX-License-Identifier: Apache-2.0

package refs

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Platform is the one that spec.platformRef names, or the namespace's only one.
func Platform(ctx context.Context, c client.Reader, namespace string, ref *common.PlatformReference) (*platformv1alpha1.Platform, error) {
	if ref == nil {
		var platforms platformv1alpha1.PlatformList
		if err := c.List(ctx, &platforms, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list Platforms: %w", err)
		}
		if len(platforms.Items) != 1 {
			return nil, reconcile.Wait(common.ReasonReferenceNotFound,
				"namespace %s has %d Platforms; create one, or set spec.platformRef", namespace, len(platforms.Items))
		}
		return &platforms.Items[0], nil
	}
	var platform platformv1alpha1.Platform
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, &platform)
	if apierrors.IsNotFound(err) {
		return nil, reconcile.Wait(common.ReasonReferenceNotFound, "spec.platformRef: Platform %s/%s does not exist; create it", namespace, ref.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("spec.platformRef: read Platform: %w", err)
	}
	return &platform, nil
}

// PlatformKey is the index value, for PlatformUsers, of a resource with that spec.platformRef.
func PlatformKey(namespace string, ref *common.PlatformReference) string {
	if ref == nil {
		return namespace + "/"
	}
	return namespace + "/" + ref.Name
}

// Serving is nil when a product of the Platform is Ready; title is what to call it, as in "the Vault".
func Serving(platform *platformv1alpha1.Platform, product, title string) error {
	row := platform.Status.Product(product)
	if row != nil && row.Ready {
		return nil
	}
	message := "it is being set up"
	if row != nil && row.Message != "" {
		message = row.Message
	}
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s of Platform %s is not Ready: %s", title, platform.Name, message)
}

// ServingChanged lets a Platform through when its product comes, goes, or becomes Ready or not.
func ServingChanged(product string) predicate.Predicate {
	state := func(obj client.Object) string {
		platform, ok := obj.(*platformv1alpha1.Platform)
		if !ok {
			return ""
		}
		row := platform.Status.Product(product)
		if row == nil {
			row = &platformv1alpha1.ProductStatus{}
		}
		return fmt.Sprint(platform.Spec.Products.Has(product), row.Ready, row.Message)
	}
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return state(e.ObjectOld) != state(e.ObjectNew) }}
}
