// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/sha256"
	"encoding/hex"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
)

const (
	// ownerKind is the value of LabelOwnerKind on destinations. It is not Secret, which could be the core kind. Other
	// controllers find destinations by it.
	ownerKind = string(common.ConnectionVaultSecret)
	// claimKind is the kind of a stored value in the annotation of claims.
	claimKind = "Secret"
	// metadataOwner is the metadata key of a stored version that names the resource which declared it.
	metadataOwner = "itechsmart.dev/owner"
	// macKey is the key of the Secret with a Platform's HMAC key.
	macKey = "key"
	// annotationRestart begins the annotation of a Pod template that was changed to restart its Pods.
	annotationRestart = "restart.vault.itechsmart.dev/"
	// fieldOwnerRestart begins the name that owns that annotation, one per Secret.
	fieldOwnerRestart = "itechsmart-vault-"

	// indexPath indexes Secrets by their path in the store: "namespace/path".
	indexPath = "spec.path"
	// indexPlatform indexes Secrets and AccessPolicies by their Platform; "namespace/" stands for the only one.
	indexPlatform = "spec.platform"
	// indexSource indexes Secrets by the core Secrets that they copy: "namespace/name".
	indexSource = "spec.source.secrets"
	// indexDestination indexes Secrets by the core Secret that they write: "namespace/name".
	indexDestination = "spec.destination.name"
	// indexUses indexes workloads by the core Secrets that their Pods refer to: "namespace/name".
	indexUses = "spec.template.secrets"
)

// macName returns the name of the core Secret with the key of a Platform's HMACs.
func macName(platform string) string { return platform + "-vault-mac" }

// instance shortens a name to the 63 characters of a label's value, an annotation's key or a field owner.
func instance(name string) string {
	const longest, kept = 63, 52
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:kept] + "-" + hex.EncodeToString(sum[:5])
}

// labelsOf returns the operator's own labels of a destination.
func labelsOf(s *vaultv1alpha1.Secret) map[string]string {
	return map[string]string{
		"app.kubernetes.io/part-of": "itechsmart", common.LabelComponent: "vault-secret",
		apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: ownerKind, common.LabelOwnerName: instance(s.Name),
	}
}

func restartAnnotation(s *vaultv1alpha1.Secret) string { return annotationRestart + instance(s.Name) }
