// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
)

// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=accesspolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=accesspolicies/status,verbs=get;patch;update

// policyPass is one pass over one AccessPolicy. The Vault service reads policies by itself. The pass only reports, in the
// status, whether the service can enforce this one.
type policyPass struct {
	client client.Client
	valid  *validation.Memo[*vaultv1alpha1.AccessPolicy]
	policy *vaultv1alpha1.AccessPolicy
}

// Steps implements reconcile.Pass.
func (p *policyPass) Steps() []reconcile.Step {
	return []reconcile.Step{{Name: "rules", Run: p.rules}, {Name: "platform", Run: p.findPlatform}}
}

func (p *policyPass) rules(context.Context) error {
	if err := p.valid.Check(p.policy); err != nil {
		reason, message := reconcile.Classify(err)
		reconcile.Set(p.policy, vaultv1alpha1.ConditionAccepted, metav1.ConditionFalse, reason, message)
		return err
	}
	reconcile.Set(p.policy, vaultv1alpha1.ConditionAccepted, metav1.ConditionTrue, common.ReasonSucceeded, "Every rule can be enforced.")
	return nil
}

func (p *policyPass) findPlatform(ctx context.Context) error {
	platform, _, err := platformOf(ctx, p.client, p.policy.Namespace, p.policy.Spec.PlatformRef)
	if err != nil {
		return err
	}
	p.policy.Status.Platform = platform.Name
	return nil
}

// Finalize implements reconcile.Pass. A policy has nothing outside of Kubernetes.
func (p *policyPass) Finalize(context.Context) error { return nil }

// Finish implements reconcile.Pass.
func (p *policyPass) Finish(context.Context, error) time.Duration { return 0 }
