// SPDX-License-Identifier: Apache-2.0

package refs

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Platform returns the one that spec.platformRef names, or the namespace's only one.
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

// PlatformKey returns the index value, for PlatformUsers, of a resource with that spec.platformRef.
func PlatformKey(namespace string, ref *common.PlatformReference) string {
	if ref == nil {
		return namespace + "/"
	}
	return namespace + "/" + ref.Name
}
