// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// platformOf returns the Platform that a reference names, or the namespace's only one, with its Vault service.
func platformOf(ctx context.Context, c client.Reader, namespace string, ref *common.PlatformReference) (*platformv1alpha1.Platform, service.Object, error) {
	platform, err := refs.Platform(ctx, c, namespace, ref)
	if err != nil {
		return nil, nil, err
	}
	vault, err := serviceType.On(ctx, c, platform)
	if err != nil {
		return nil, nil, err
	}
	return platform, vault, nil
}

// findPlatform finds whose Vault it is. That the Vault serves matters only to a pass that needs it.
func (p *pass) findPlatform(ctx context.Context) error {
	var err error
	p.platform, p.service, err = platformOf(ctx, p.c.Client, p.secret.Namespace, p.secret.Spec.PlatformRef)
	return err
}

// connection names the Vault in claims.
func connection(platform *platformv1alpha1.Platform) string {
	return "Platform/" + platform.Namespace + "/" + platform.Name + "/" + vaultv1alpha1.Product
}

// vault returns the client of the Platform's Vault, once it is Ready.
func (p *pass) vault() (vault.Client, error) {
	if p.client != nil {
		return p.client, nil
	}
	if err := serviceType.Serving(p.service); err != nil {
		return nil, err
	}
	opened, err := p.c.Open(common.ServiceURL(p.platform.Namespace, p.platform.Name, vaultv1alpha1.Product))
	if err != nil {
		return nil, fmt.Errorf("the Vault of Platform %s: %w", p.platform.Name, err)
	}
	p.client = opened
	return opened, nil
}

// explain turns the Vault's error into the typed error that says what to do.
func (p *pass) explain(err error) error {
	var waiting *reconcile.Waiting
	var terminal *reconcile.Terminal
	switch {
	case err == nil, errors.As(err, &waiting), errors.As(err, &terminal):
		return err
	case errors.Is(err, vault.ErrSealed):
		return &reconcile.Waiting{Reason: vaultv1alpha1.ReasonSealed, After: sealedInterval,
			Message: fmt.Sprintf("the Vault of Platform %s is sealed; vaultctl seal-status tells why, and vaultctl unseal gives a share", p.platform.Name)}
	case errors.Is(err, backend.ErrAuth):
		return reconcile.Fail(common.ReasonAccessDenied, fmt.Errorf("%w; the Vault of Platform %s does not take the operator's ServiceAccount token of audience %q",
			err, p.platform.Name, common.TokenAudience))
	case errors.Is(err, backend.ErrInvalid):
		return &reconcile.Terminal{Reason: common.ReasonInvalidSpec, Message: err.Error()}
	default:
		return reconcile.Fail(common.ReasonBackendUnavailable, err)
	}
}
