// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// TestOfOneSecondTheLesserUIDHasThePath: controller and service order Secrets alike, whatever they are called.
func TestOfOneSecondTheLesserUIDHasThePath(t *testing.T) {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	secret := func(name string, uid types.UID) *vaultv1alpha1.Secret {
		s := generated("ns", name)
		s.Spec.Path, s.UID, s.CreationTimestamp = "shared", uid, made
		return s
	}
	older, younger := secret("z", "1"), secret("a", "2")
	scheme := runtime.NewScheme()
	if err := vaultv1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := &Controller{Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(older, younger).
		WithIndex(&vaultv1alpha1.Secret{}, indexPath, func(obj client.Object) []string {
			return []string{obj.GetNamespace() + "/" + obj.(*vaultv1alpha1.Secret).StorePath()}
		}).Build()}
	if err := (&pass{c: c, secret: older}).conflicts(t.Context()); err != nil {
		t.Errorf("the older one: %v", err)
	}
	err := (&pass{c: c, secret: younger}).conflicts(t.Context())
	if err == nil {
		t.Fatal("the younger one has the path as well")
	}
	if reason, _ := reconcile.Classify(err); reason != common.ReasonConflict {
		t.Errorf("the younger one: %v", err)
	}
}
