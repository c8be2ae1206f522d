// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/workloads/vault/config"
)

// serviceWorld returns a namespace with a Platform, and a manager of its Vault, whose Deployment runs.
func serviceWorld(t *testing.T) *platformtest.World {
	t.Helper()
	w := platformtest.NewWorld(t)
	platformtest.New(t, w.Client, w.Namespace, nil, platformv1alpha1.BackendPostgreSQL)
	w.Serve()
	w.Start(serviceType)
	return w
}

// unsealedBy makes a service unseal in a way.
func unsealedBy(unseal *vaultv1alpha1.VaultUnseal) func(service.Object) {
	return func(o service.Object) { o.(*vaultv1alpha1.VaultService).Spec.Unseal = unseal }
}

// settings returns Vault's part of the configuration.
func settings(w *platformtest.World) config.Settings {
	var s config.Settings
	w.Expect(json.Unmarshal(w.Config(vaultv1alpha1.Product).Settings, &s)).To(Succeed())
	return s
}

// TestPassphraseIsMadeOnce: a Secret that is deleted by hand comes back with what the service still knows.
func TestPassphraseIsMadeOnce(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine")
	w.Succeeds(o)
	passphrase := settings(w).Passphrase
	w.Expect(passphrase).To(HaveLen(32))
	secret := &corev1.Secret{}
	w.Expect(w.Get("main-vault-unseal", secret)).To(Succeed())
	w.Expect(string(secret.Data["passphrase"])).To(Equal(passphrase))
	w.Expect(secret.OwnerReferences).To(BeEmpty(), "with Retain it outlives the service")
	w.Delete(secret)
	w.Eventually(func() string {
		again := &corev1.Secret{}
		if w.Get("main-vault-unseal", again) != nil {
			return ""
		}
		return string(again.Data["passphrase"])
	}).Should(Equal(passphrase))
	w.Succeeds(o)
}

// TestLostPassphraseIsNotReplaced: what the database holds would not open with another one.
func TestLostPassphraseIsNotReplaced(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine")
	w.Succeeds(o)
	w.Delete(o)
	w.Gone("mine", o)
	w.Collect(o)
	lost := &corev1.Secret{}
	w.Expect(w.Get("main-vault-unseal", lost)).To(Succeed())
	w.Delete(lost)
	ctrltest.Unseen(t, w.Cache, lost)
	again := w.Service(serviceType, "mine")
	w.Says(again, common.ReasonReferenceNotFound, "restore it from a copy")
	w.Says(again, common.ReasonReferenceNotFound, "drop the schema "+tenants.Name(w.Namespace, "main", "vault"))
	w.Expect(w.Get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())
}

func TestGivenPassphrase(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine", unsealedBy(&vaultv1alpha1.VaultUnseal{SecretRef: &vaultv1alpha1.PassphraseReference{Name: "own"}}))
	w.Says(o, common.ReasonReferenceNotFound, "spec.unseal.secretRef: Secret "+w.Namespace+"/own does not exist")
	w.Secret("own", map[string]string{"passphrase": "short"})
	w.Says(o, common.ReasonInvalidSpec, "fewer than 16 bytes")
	var own corev1.Secret
	w.Expect(w.Get("own", &own)).To(Succeed())
	w.Edit(&own, func() { own.Data["passphrase"] = []byte("correct horse battery staple\n") })
	w.Succeeds(o)
	w.Expect(settings(w)).To(Equal(config.Settings{MaxFileBytes: 64 << 20, Passphrase: "correct horse battery staple"}))
	w.Expect(w.Get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())
	w.Edit(&own, func() { own.Data["passphrase"] = []byte("another horse battery staple") })
	w.Eventually(func() string { return settings(w).Passphrase }).Should(Equal("another horse battery staple"))
}

func TestKeyInAnHSM(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine", unsealedBy(&vaultv1alpha1.VaultUnseal{PKCS11: &vaultv1alpha1.VaultPKCS11{
		Module: "/usr/lib/hsm.so", TokenLabel: "vault", KeyLabel: "unseal", PINSecretRef: vaultv1alpha1.PINReference{Name: "hsm"},
	}}))
	w.Says(o, common.ReasonReferenceNotFound, "spec.unseal.pkcs11.pinSecretRef")
	w.Secret("hsm", map[string]string{"pin": "1843\n"})
	w.Succeeds(o)
	w.Expect(settings(w)).To(Equal(config.Settings{MaxFileBytes: 64 << 20, PKCS11: &config.PKCS11{
		Module: "/usr/lib/hsm.so", TokenLabel: "vault", KeyLabel: "unseal", PIN: "1843",
	}}))
	w.Expect(w.Get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())
}

func TestShares(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine", unsealedBy(&vaultv1alpha1.VaultUnseal{Shamir: &vaultv1alpha1.VaultShamir{Shares: 5, Threshold: 3}}))
	w.Succeeds(o)
	w.Expect(settings(w)).To(Equal(config.Settings{MaxFileBytes: 64 << 20, Shares: 5, Threshold: 3}))
	w.Expect(w.Get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())
}

// TestTheOwnedPassphraseGoes: with Delete the passphrase goes with the data that it opens.
func TestTheOwnedPassphraseGoes(t *testing.T) {
	w := serviceWorld(t)
	o := w.Service(serviceType, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
	w.Succeeds(o)
	w.Expect(w.Children(o)).To(And(HaveKey("Secret/main-vault-unseal"), HaveKey("Secret/main-vault-database")))
	w.Edit(o, func() { o.ServiceSpec().DeletionPolicy = common.DeletionRetain })
	w.Eventually(func() any { return w.Children(o) }).Should(And(Not(HaveKey("Secret/main-vault-unseal")), Not(HaveKey("Secret/main-vault-database"))))
}
