// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/config"
)

// shortestPassphrase in bytes: what somebody types is weaker than it looks.
const shortestPassphrase = 16

var vaultProduct = &productType{
	name: v1alpha1.ProductVault, title: "Vault",
	pick: func(p *v1alpha1.Products) *v1alpha1.ProductSpec {
		if p.Vault == nil {
			return nil
		}
		return &p.Vault.ProductSpec
	},
	image:  "docker.io/itechsmart/vault:dev",
	sizing: sizing{cpu: "100m", memory: "128Mi", memoryLimit: "512Mi"},
	rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"vault.itechsmart.dev"}, Resources: []string{"accesspolicies", "secrets"},
		Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"},
	}},
	references: func(p *v1alpha1.Platform) []string {
		switch u := p.Spec.Products.Vault.Unseal; {
		case u != nil && u.SecretRef != nil:
			return []string{u.SecretRef.Name}
		case u != nil && u.PKCS11 != nil:
			return []string{u.PKCS11.PINSecretRef.Name}
		}
		return nil
	},
	keeps:     func(p *v1alpha1.Platform) []string { return []string{unsealName(p.Name)} },
	configure: configureVault,
}

// configureVault finds where Vault's root key comes from.
func configureVault(ctx context.Context, r *productRun) (func(*config.Service), error) {
	unseal := r.platform.Spec.Products.Vault.Unseal
	told := &config.Vault{MaxFileBytes: r.platform.Spec.Products.Vault.MaxFileSize.Value()}
	switch {
	case unseal == nil:
		passphrase, err := r.passphrase(ctx)
		if err != nil {
			return nil, err
		}
		told.Passphrase = passphrase
	case unseal.Shamir != nil:
		told.Shares, told.Threshold = int(unseal.Shamir.Shares), int(unseal.Shamir.Threshold)
	case unseal.PKCS11 != nil:
		path, p := productPath(v1alpha1.ProductVault)+".unseal.pkcs11.pinSecretRef", unseal.PKCS11
		pin, err := r.referenced(ctx, path, p.PINSecretRef.Name, p.PINSecretRef.Key)
		if err != nil {
			return nil, err
		}
		told.PKCS11 = &config.PKCS11{Module: p.Module, TokenLabel: p.TokenLabel, KeyLabel: p.KeyLabel, PIN: pin}
	default:
		path, ref := productPath(v1alpha1.ProductVault)+".unseal.secretRef", unseal.SecretRef
		passphrase, err := r.referenced(ctx, path, ref.Name, ref.Key)
		if err != nil {
			return nil, err
		}
		if len(passphrase) < shortestPassphrase {
			return nil, reconcile.Stall(common.ReasonInvalidSpec, "%s: key %q of Secret %s has fewer than %d bytes", path, ref.Key, ref.Name, shortestPassphrase)
		}
		told.Passphrase = passphrase
	}
	return func(c *config.Service) { c.Vault = told }, nil
}

// passphrase is the one that the operator makes. It is there before the database's Secret: where that one exists, a new
// passphrase would not open what the database holds.
func (r *productRun) passphrase(ctx context.Context) (string, error) {
	name := unsealName(r.platform.Name)
	secret, err := r.keep(ctx, kept{
		name: name, component: v1alpha1.ProductVault, secretType: corev1.SecretTypeOpaque, keys: []string{keyPassphrase},
		make: func() (map[string][]byte, error) {
			if r.serving != nil && r.serving.Vault != nil && r.serving.Vault.Passphrase != "" {
				// The Secret was deleted by hand; the service still knows.
				return map[string][]byte{keyPassphrase: []byte(r.serving.Vault.Passphrase)}, nil
			}
			var database corev1.Secret
			key := client.ObjectKey{Namespace: r.platform.Namespace, Name: databaseName(r.platform.Name, v1alpha1.ProductVault)}
			err := r.client.Get(ctx, key, &database)
			switch {
			case err == nil:
				return nil, reconcile.Stall(common.ReasonReferenceNotFound, "Secret %s is missing, and what Vault holds is encrypted under it; "+
					"restore it from a copy, or give up the data: delete Secret %s and drop the schema %s", name, key.Name, database.Data[keySchema])
			case !apierrors.IsNotFound(err):
				return nil, fmt.Errorf("read Secret %s: %w", key.Name, err)
			}
			return map[string][]byte{keyPassphrase: []byte(password())}, nil
		},
	})
	if err != nil {
		return "", err
	}
	return valueOf(secret, productPath(v1alpha1.ProductVault), keyPassphrase)
}
