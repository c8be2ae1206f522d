// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"strings"
	"testing"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

var serviceSchema = ctrltest.Schema{Kind: vaultv1alpha1.GroupVersion.WithKind("VaultService"), Base: "platformRef: {name: main}"}

// hsm is a key in one.
const hsm = `pkcs11: {module: /usr/lib/hsm.so, tokenLabel: vault, keyLabel: unseal, pinSecretRef: {name: hsm}}`

// Each rule of Vault's own has a case that it accepts and one that it refuses.
func TestServiceSchemaOnCreate(t *testing.T) {
	serviceSchema.OnCreate(t, []ctrltest.Creation{
		{"an unknown unseal", `unseal: {}`, "spec.unseal: Invalid value: exactly one of secretRef, shamir and pkcs11"},
		{"a passphrase", `unseal: {secretRef: {name: x}}`, ""},
		{"two unseals", `unseal: {secretRef: {name: x}, shamir: {}}`, "exactly one of secretRef, shamir and pkcs11"},
		{"three unseals", `unseal: {secretRef: {name: x}, shamir: {}, ` + hsm + `}`, "exactly one of secretRef, shamir and pkcs11"},
		{"a key in an HSM", `unseal: {` + hsm + `}`, ""},
		{"an HSM's library by a relative path", `unseal: {` + strings.Replace(hsm, "/usr", "usr", 1) + `}`, "module must be an absolute path"},
		{"an HSM's library by a path upwards", `unseal: {` + strings.Replace(hsm, "/usr", "/usr/..", 1) + `}`, "module must be an absolute path"},
		{"an HSM without a key", `unseal: {pkcs11: {module: /a.so, tokenLabel: a, pinSecretRef: {name: x}}}`, "spec.unseal.pkcs11.keyLabel"},
		{"an HSM without a PIN", `unseal: {pkcs11: {module: /a.so, tokenLabel: a, keyLabel: a}}`, "spec.unseal.pkcs11.pinSecretRef"},
		{"shares", `unseal: {shamir: {shares: 3, threshold: 3}}`, ""},
		{"too few shares", `unseal: {shamir: {shares: 2, threshold: 3}}`, "threshold must not exceed shares"},
		{"one share", `unseal: {shamir: {shares: 1, threshold: 1}}`, "spec.unseal.shamir"},
		{"large files", `maxFileSize: 1Gi`, ""},
		{"files of any size", `maxFileSize: 2Gi`, "maxFileSize must be from 1Mi to 1Gi"},
		{"no files", `maxFileSize: 1Ki`, "maxFileSize must be from 1Mi to 1Gi"},
	})
}

func TestServiceSchemaOnUpdate(t *testing.T) {
	const generated, named, shared = ``, `unseal: {secretRef: {name: x}}`, `unseal: {shamir: {shares: 5, threshold: 3}}`
	const keyed = `unseal: {` + hsm + `}`
	const fixed = "unseal cannot change between a passphrase, Shamir shares and PKCS #11"
	serviceSchema.OnUpdate(t, []ctrltest.Update{
		{"a passphrase of one's own", generated, named, ""},
		{"another passphrase's Secret", named, `unseal: {secretRef: {name: another}}`, ""},
		{"shares instead of a passphrase", generated, shared, fixed},
		{"a key in an HSM instead of a passphrase", generated, keyed, fixed},
		{"a key in an HSM instead of a passphrase of one's own", named, keyed, fixed},
		{"a key in an HSM instead of shares", shared, keyed, fixed},
		{"a passphrase instead of a key in an HSM", keyed, generated, fixed},
		{"another library of the HSM", keyed, strings.Replace(keyed, "hsm.so", "hsm-2.so", 1), ""},
		{"a passphrase instead of shares", shared, named, fixed},
		{"more shares", shared, `unseal: {shamir: {shares: 7, threshold: 3}}`, "shares and threshold are immutable"},
		{"the same shares", shared, shared + `, replicas: 2`, ""},
	})
}

func TestServiceDefaults(t *testing.T) {
	var s vaultv1alpha1.VaultService
	serviceSchema.Defaulted(t, `unseal: {pkcs11: {module: /a.so, tokenLabel: a, keyLabel: a, pinSecretRef: {name: x}}}`, &s)
	if s.Spec.MaxFileSize.String() != "64Mi" || s.Spec.Unseal.PKCS11.PINSecretRef.Key != "pin" || s.Status.ObservedGeneration != -1 {
		t.Errorf("%+v, observed %d", s.Spec, s.Status.ObservedGeneration)
	}
	var shared vaultv1alpha1.VaultService
	serviceSchema.Defaulted(t, `unseal: {shamir: {}}`, &shared)
	if *shared.Spec.Unseal.Shamir != (vaultv1alpha1.VaultShamir{Shares: 5, Threshold: 3}) {
		t.Errorf("%+v", shared.Spec.Unseal.Shamir)
	}
}
