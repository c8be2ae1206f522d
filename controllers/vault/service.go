// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/vault/config"
)

// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=vaultservices,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=vaultservices/status,verbs=patch
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=vaultservices/finalizers,verbs=update

// Product is Vault in the list of products.
var Product = product.Product{
	Name: vaultv1alpha1.Product, AddToScheme: vaultv1alpha1.AddToScheme, Setup: Setup, Service: serviceType,
	Kinds: []validation.Kind{validation.For(&vaultv1alpha1.Secret{}, validateSecret), validation.For(&vaultv1alpha1.AccessPolicy{}, validatePolicy)},
}

const (
	// shortestPassphrase is the minimum length in bytes: typed passphrases are weak.
	shortestPassphrase = 16
	keyPassphrase      = "passphrase"
)

// serviceType is the Vault service.
var serviceType = &service.Type{
	Product: vaultv1alpha1.Product, Kind: "VaultService", Title: "Vault",
	New:     func() service.Object { return &vaultv1alpha1.VaultService{} },
	NewList: func() client.ObjectList { return &vaultv1alpha1.VaultServiceList{} },
	Sizing:  workload.Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"},
	Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"vault.itechsmart.dev"}, Resources: []string{"accesspolicies", "secrets"},
		Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"},
	}},
	References: unsealReferences,
	Configure:  configure,
	Retained:   func(platform string) []string { return []string{unsealName(platform)} },
}

// unsealName returns the Secret with the passphrase that the operator makes.
func unsealName(platform string) string {
	return common.ServiceName(platform, vaultv1alpha1.Product) + "-unseal"
}

func unsealReferences(o service.Object) []string {
	s, ok := o.(*vaultv1alpha1.VaultService)
	switch {
	case !ok || s.Spec.Unseal == nil:
	case s.Spec.Unseal.SecretRef != nil:
		return []string{s.Spec.Unseal.SecretRef.Name}
	case s.Spec.Unseal.PKCS11 != nil:
		return []string{s.Spec.Unseal.PKCS11.PINSecretRef.Name}
	}
	return nil
}

// configure finds where Vault's root key comes from.
func configure(ctx context.Context, r *service.Request) (any, error) {
	spec := &r.Service.(*vaultv1alpha1.VaultService).Spec
	settings := &config.Settings{MaxFileBytes: spec.MaxFileSize.Value()}
	var err error
	switch unseal := spec.Unseal; {
	case unseal == nil:
		settings.Passphrase, err = passphrase(ctx, r)
	case unseal.Shamir != nil:
		settings.Shares, settings.Threshold = int(unseal.Shamir.Shares), int(unseal.Shamir.Threshold)
	case unseal.PKCS11 != nil:
		p := unseal.PKCS11
		settings.PKCS11 = &config.PKCS11{Module: p.Module, TokenLabel: p.TokenLabel, KeyLabel: p.KeyLabel}
		settings.PKCS11.PIN, err = r.Secret(ctx, "spec.unseal.pkcs11.pinSecretRef", p.PINSecretRef.Name, p.PINSecretRef.Key)
	default:
		settings.Passphrase, err = givenPassphrase(ctx, r, unseal.SecretRef)
	}
	return settings, err
}

// givenPassphrase returns the passphrase in the user's Secret.
func givenPassphrase(ctx context.Context, r *service.Request, ref *vaultv1alpha1.PassphraseReference) (string, error) {
	const path = "spec.unseal.secretRef"
	given, err := r.Secret(ctx, path, ref.Name, ref.Key)
	if err == nil && len(given) < shortestPassphrase {
		err = reconcile.Stall(common.ReasonInvalidSpec, "%s: key %q of Secret %s has fewer than %d bytes", path, ref.Key, ref.Name, shortestPassphrase)
	}
	return given, err
}

// passphrase returns the one that the operator makes. It is there before the database's Secret: where that one exists, a new
// passphrase would not open what the database holds.
func passphrase(ctx context.Context, r *service.Request) (string, error) {
	name := unsealName(r.Platform.Name)
	secret, err := r.Retain(ctx, retained.Secret{
		Name: name, Type: corev1.SecretTypeOpaque, Keys: []string{keyPassphrase},
		Make: func() (map[string][]byte, error) {
			var serving config.Settings
			if r.Serving(&serving) && serving.Passphrase != "" {
				// The Secret was deleted by hand; the service still knows.
				return map[string][]byte{keyPassphrase: []byte(serving.Passphrase)}, nil
			}
			schema, database, exists, err := r.Database(ctx)
			if err == nil && exists {
				err = reconcile.Stall(common.ReasonReferenceNotFound, "Secret %s is missing, and what Vault holds is encrypted under it; "+
					"restore it from a copy, or give up the data: delete Secret %s and drop the schema %s", name, database, schema)
			}
			return map[string][]byte{keyPassphrase: []byte(workload.Password())}, err
		},
	})
	if err != nil {
		return "", err
	}
	return retained.Value(secret, "spec.unseal", keyPassphrase)
}
