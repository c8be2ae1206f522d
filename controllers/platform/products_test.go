// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/config"
)

const reviewer = "itechsmart-token-reviewer"

// serviceWorld is a world with the Secret of an external PostgreSQL, whose Deployments run by themselves.
func serviceWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.create(postgresSecret())
	w.keepServing()
	return w
}

func postgresSecret() *corev1.Secret {
	return binding("database", map[string]string{
		"type": "postgresql", "host": "db.example.com", "port": "5432", "username": "admin", "password": "canary-admin", "database": "app",
		"uri": "postgresql://admin:canary-admin@db.example.com:5432/app", "superuser-token": "canary-extra",
	})
}

func vaultPlatform() *v1alpha1.Platform {
	p := newPlatform(v1alpha1.Backends{PostgreSQL: externalAt("database")})
	p.Spec.Products.Vault = &v1alpha1.VaultProduct{}
	return p
}

// keepServing does to every Deployment of the namespace what its controller and the kubelet would, until the test ends.
func (w *world) keepServing() {
	done, ended := make(chan struct{}), make(chan struct{})
	w.t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(ctrltest.Interval):
			}
			var list appsv1.DeploymentList
			if w.client.List(context.Background(), &list, client.InNamespace(w.namespace)) != nil {
				continue
			}
			for i := range list.Items {
				if d := &list.Items[i]; d.Status.ObservedGeneration != d.Generation {
					d.Status = serving(d)
					_ = w.client.Status().Update(context.Background(), d) // the next round tries again
				}
			}
		}
	}()
}

func serving(d *appsv1.Deployment) appsv1.DeploymentStatus {
	n := ptr.Deref(d.Spec.Replicas, 1)
	return appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
}

func (w *world) deployment() *appsv1.Deployment {
	w.t.Helper()
	d := &appsv1.Deployment{}
	w.Eventually(func() error { return w.get("main-vault", d) }).Should(Succeed())
	return d
}

// told is the configuration that the live Deployment mounts.
func (w *world) told() *config.Service {
	w.t.Helper()
	c, err := w.configOf(w.deployment())
	w.Expect(err).NotTo(HaveOccurred())
	return c
}

func (w *world) configOf(d *appsv1.Deployment) (*config.Service, error) {
	var secret corev1.Secret
	if err := w.get(d.Spec.Template.Spec.Volumes[0].Secret.SecretName, &secret); err != nil {
		return nil, err
	}
	var c config.Service
	return &c, json.Unmarshal(secret.Data[config.FileName], &c)
}

func (w *world) data(secret string) map[string][]byte {
	w.t.Helper()
	var s corev1.Secret
	w.Eventually(func() error { return w.get(secret, &s) }).Should(Succeed())
	return s.Data
}

func TestProductBecomesReady(t *testing.T) {
	w := serviceWorld(t)
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	p := w.platform("main")
	w.Expect(p.Status.ReadyProducts).To(Equal("1/1"))
	w.Expect(p.Status.Products).To(Equal([]v1alpha1.ProductStatus{{
		Name: "vault", Ready: true, Replicas: 1, URL: "http://main-vault." + w.namespace + ".svc:8080", Version: "dev",
	}}))
	w.Expect(p.Finalizers).To(ContainElement(common.Finalizer))

	// What the service is told is what there is.
	c := w.told()
	schema := tenantName(w.namespace, "main", "vault")
	w.Expect(c.Product + " " + c.Platform + " " + c.Namespace).To(Equal("vault main " + w.namespace))
	w.Expect(c.Database.Schema).To(Equal(schema))
	w.Expect(c.Database.Binding).To(HaveKeyWithValue("username", schema))
	w.Expect(c.Database.Binding).To(HaveKeyWithValue("password", w.logins.postgres.Password(schema)))
	w.Expect(c.Identity.Binding).To(HaveKeyWithValue("password", w.logins.postgres.Password(tenantName(w.namespace, "main", "identity"))))
	w.Expect(c.Auth.Issuer).To(Equal("itechsmart"))
	w.Expect(c.Auth.Keys).To(HaveLen(1))
	w.Expect(c.Auth.Administrator.Email).To(Equal(string(w.data("main-administrator")["username"])))
	w.Expect(c.Auth.Administrator.Password).To(Equal(string(w.data("main-administrator")["password"])))
	w.Expect(c.Vault.Passphrase).To(Equal(string(w.data("main-vault-unseal")["passphrase"])))
	w.Expect(c.Vault.Passphrase).To(HaveLen(32))
	w.Expect(c.RateLimit).To(Equal(config.RateLimit{RequestsPerMinute: 100, FailOpen: true}))
	w.Expect(c.Audit.SpillBytes).To(Equal(int64(64 << 20)))

	// The service gets no credentials but its own.
	all, err := json.Marshal(c)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(string(all)).NotTo(ContainSubstring("canary"))

	// The service's own reader takes it.
	dir := t.TempDir()
	w.Expect(writeFile(dir, w.data(w.deployment().Spec.Template.Spec.Volumes[0].Secret.SecretName))).To(Succeed())
	loaded, err := config.Load(dir)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(loaded.Database).To(Equal(c.Database))
}

func TestProductSaysWhatItLacks(t *testing.T) {
	w := serviceWorld(t)
	w.create(binding("cache", map[string]string{"host": "cache", "port": "6379"}))
	p := vaultPlatform()
	p.Spec.Backends = v1alpha1.Backends{Redis: externalAt("cache")}
	w.create(p)
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(condition.Message).To(ContainSubstring("vault: spec.products.vault: Vault needs PostgreSQL; add spec.backends.postgresql"))
	w.Expect(w.get("main-vault", &appsv1.Deployment{})).NotTo(Succeed())

	// A database that does not answer is awaited before anything is made in it.
	w.logins.fail("postgresql", backend.ErrUnavailable)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.PostgreSQL = externalAt("database") })
	condition = w.ready("main", metav1.ConditionFalse, common.ReasonBackendUnavailable)
	w.Expect(condition.Message).To(ContainSubstring("vault: spec.products.vault: PostgreSQL is awaited"))
	w.Expect(w.logins.postgres.Calls("EnsureTenant")).To(BeZero())
	w.logins.fail("postgresql", nil)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.told().Redis).To(HaveKeyWithValue("host", "cache"))
}

func TestProductWaitsForEveryReplica(t *testing.T) {
	w := newWorld(t)
	w.create(postgresSecret())
	p := vaultPlatform()
	p.Spec.Products.Vault.Replicas = 3
	w.create(p)
	d := w.deployment()
	set := func(status appsv1.DeploymentStatus) {
		w.Eventually(func() error {
			d := w.deployment()
			status.ObservedGeneration = d.Generation
			d.Status = status
			return w.client.Status().Update(ctx, d)
		}).Should(Succeed())
	}
	set(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 2, AvailableReplicas: 2})
	// Before that, its own objects may still be on their way through the cache.
	w.Eventually(func() string { return w.ready("main", metav1.ConditionFalse, common.ReasonProgressing).Message }).Should(Equal("vault: the rollout goes on"))
	w.Eventually(func() int32 { return w.platform("main").Status.Product("vault").Replicas }).Should(Equal(int32(2)))
	set(appsv1.DeploymentStatus{Replicas: 4, UpdatedReplicas: 3, ReadyReplicas: 4, AvailableReplicas: 4})
	w.ready("main", metav1.ConditionFalse, common.ReasonProgressing)
	set(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3})
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	// An edit that concerns the service rolls it out, one that does not leaves it alone.
	first := d.Spec.Template.Annotations[annotationChecksum]
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.RateLimit.Burst = 7 })
	w.ready("main", metav1.ConditionFalse, common.ReasonProgressing)
	second := w.deployment()
	w.Expect(second.Spec.Template.Annotations[annotationChecksum]).NotTo(Equal(first))
	w.Expect(w.told().RateLimit.Burst).To(Equal(7))
	w.Expect(w.get("main-vault-config-"+first, &corev1.Secret{})).To(Succeed(), "a Pod that still runs may restart")
	set(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3})
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.gone("main-vault-config-"+first, &corev1.Secret{})
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.deployment().Generation).To(Equal(second.Generation))
}

func TestProductSecretsSurvive(t *testing.T) {
	w := serviceWorld(t)
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	kept := []string{"main-vault-database", "main-identity-database", "main-signing-keys", "main-administrator", "main-vault-unseal"}
	before := map[string]map[string][]byte{}
	for _, name := range kept {
		before[name] = w.data(name)
	}
	// A Secret that is deleted by hand comes back with what the service still knows.
	for _, name := range []string{"main-vault-unseal", "main-administrator"} {
		w.Expect(w.client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}})).To(Succeed())
		w.Eventually(func() (map[string][]byte, error) {
			var s corev1.Secret
			err := w.get(name, &s)
			return s.Data, err
		}).Should(Equal(before[name]))
	}
	// With Retain, a later Platform of that name finds keys, roles and schemas again.
	p := w.platform("main")
	w.Expect(w.client.Delete(ctx, p)).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
	w.gone("main-vault", &appsv1.Deployment{})
	w.collect(p)
	w.Expect(w.logins.postgres.Calls("DropSchema")).To(BeZero())
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	for _, name := range kept {
		w.Expect(w.data(name)).To(Equal(before[name]), name)
	}
	// It owns them as the first one did: with Delete they go.
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
	_, err := w.logins.postgres.Tenant(ctx, tenantName(w.namespace, "main", "vault"))
	w.Expect(err).To(MatchError(backend.ErrNotFound))
	_, err = w.logins.postgres.Tenant(ctx, tenantName(w.namespace, "main", "identity"))
	w.Expect(err).To(MatchError(backend.ErrNotFound))
}

// collect is the garbage collector, which the test server lacks.
func (w *world) collect(owner client.Object) {
	w.t.Helper()
	for _, list := range apply.Lists() {
		w.Expect(w.client.List(ctx, list, client.InNamespace(w.namespace))).To(Succeed())
		w.Expect(meta.EachListItem(list, func(item runtime.Object) error {
			if obj := item.(client.Object); metav1.IsControlledBy(obj, owner) {
				return client.IgnoreNotFound(w.client.Delete(ctx, obj))
			}
			return nil
		})).To(Succeed())
	}
}

func TestLostPassphraseIsNotReplaced(t *testing.T) {
	w := serviceWorld(t)
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Vault = nil })
	w.gone("main-vault", &appsv1.Deployment{})
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	lost := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-vault-unseal", Namespace: w.namespace}}
	w.Expect(w.client.Delete(ctx, lost)).To(Succeed())
	ctrltest.Unseen(t, w.cache, lost)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Vault = &v1alpha1.VaultProduct{} })
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(condition.Message).To(ContainSubstring("restore it from a copy"))
	w.Expect(w.get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())
}

func TestForeignTenantIsNotTaken(t *testing.T) {
	w := serviceWorld(t)
	schema := tenantName(w.namespace, "main", "vault")
	w.Expect(w.logins.postgres.EnsureTenant(ctx, postgres.Tenant{Name: schema, Mark: "another cluster's"}, "theirs", "")).To(Succeed())
	w.create(vaultPlatform())
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonNotOwned)
	w.Expect(condition.Message).To(ContainSubstring(schema))
	w.Expect(w.logins.postgres.Password(schema)).To(Equal("theirs"))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
	_, err := w.logins.postgres.Tenant(ctx, schema)
	w.Expect(err).NotTo(HaveOccurred(), "what another made is not dropped")
}

func TestProductWithoutRights(t *testing.T) {
	w := serviceWorld(t)
	w.logins.postgres.Fail("EnsureTenant", backend.ErrAuth)
	w.create(vaultPlatform())
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonAccessDenied)
	w.Expect(condition.Message).To(ContainSubstring("needs CREATEROLE"))
	w.logins.postgres.Fail("EnsureTenant", nil)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
}

func TestVaultUnsealChoices(t *testing.T) {
	w := serviceWorld(t)
	p := vaultPlatform()
	p.Spec.Products.Vault.Unseal = &v1alpha1.VaultUnseal{SecretRef: &v1alpha1.SecretKeyReference{Name: "mine", Key: "passphrase"}}
	w.create(p)
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(condition.Message).To(ContainSubstring("spec.products.vault.unseal.secretRef"))
	w.create(binding("mine", map[string]string{"passphrase": "short"}))
	w.Expect(w.ready("main", metav1.ConditionFalse, common.ReasonInvalidSpec).Message).To(ContainSubstring("fewer than 16 bytes"))
	secret := &corev1.Secret{}
	w.Expect(w.get("mine", secret)).To(Succeed())
	secret.Data["passphrase"] = []byte("correct horse battery staple\n")
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.told().Vault).To(Equal(&config.Vault{MaxFileBytes: 64 << 20, Passphrase: "correct horse battery staple"}))
	w.Expect(w.get("main-vault-unseal", &corev1.Secret{})).NotTo(Succeed())

	keyed := vaultPlatform()
	keyed.Name = "keyed"
	keyed.Spec.Products.Vault.Unseal = &v1alpha1.VaultUnseal{PKCS11: &v1alpha1.VaultPKCS11{
		Module: "/usr/lib/hsm.so", TokenLabel: "vault", KeyLabel: "unseal", PINSecretRef: v1alpha1.PINReference{Name: "hsm"},
	}}
	w.create(keyed)
	condition = w.ready("keyed", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(condition.Message).To(ContainSubstring("spec.products.vault.unseal.pkcs11.pinSecretRef"))
	w.create(binding("hsm", map[string]string{"pin": "1843\n"}))
	w.ready("keyed", metav1.ConditionTrue, common.ReasonSucceeded)
	var withKey appsv1.Deployment
	w.Expect(w.get("keyed-vault", &withKey)).To(Succeed())
	toldKey, err := w.configOf(&withKey)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(toldKey.Vault).To(Equal(&config.Vault{MaxFileBytes: 64 << 20, PKCS11: &config.PKCS11{
		Module: "/usr/lib/hsm.so", TokenLabel: "vault", KeyLabel: "unseal", PIN: "1843",
	}}))
	w.Expect(w.get("keyed-vault-unseal", &corev1.Secret{})).NotTo(Succeed())

	shares := vaultPlatform()
	shares.Name = "shared"
	shares.Spec.Products.Vault.Unseal = &v1alpha1.VaultUnseal{Shamir: &v1alpha1.VaultShamir{Shares: 5, Threshold: 3}}
	w.create(shares)
	w.ready("shared", metav1.ConditionTrue, common.ReasonSucceeded)
	var d appsv1.Deployment
	w.Expect(w.get("shared-vault", &d)).To(Succeed())
	c, err := w.configOf(&d)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(c.Vault).To(Equal(&config.Vault{MaxFileBytes: 64 << 20, Shares: 5, Threshold: 3}))
}

func TestClientsAndServiceAccounts(t *testing.T) {
	w := serviceWorld(t)
	hash := "$2y$12$" + strings.Repeat("a", 53)
	w.create(binding("web", map[string]string{"secret-hash": "plain text"}))
	p := vaultPlatform()
	p.Spec.Auth.Clients = []v1alpha1.OAuthClient{
		{ID: "cli", RedirectURIs: []string{"http://127.0.0.1/callback"}}, {ID: "web", SecretRef: &v1alpha1.SecretHashReference{Name: "web"}},
	}
	p.Spec.Auth.ServiceAccounts = []v1alpha1.ServiceAccountRole{{Namespace: "ci", Name: "*", Role: "editor"}}
	w.create(p)
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(condition.Message).To(ContainSubstring("spec.auth.clients[web].secretRef"))
	w.Expect(condition.Message).NotTo(ContainSubstring("plain text"))
	secret := &corev1.Secret{}
	w.Expect(w.get("web", secret)).To(Succeed())
	secret.Data["secret-hash"] = []byte(hash)
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	auth := w.told().Auth
	w.Expect(auth.Clients).To(Equal([]config.Client{{ID: "cli", RedirectURIs: []string{"http://127.0.0.1/callback"}}, {ID: "web", SecretHash: hash}}))
	w.Expect(auth.ServiceAccounts).To(Equal([]config.ServiceAccount{
		{Name: "itechsmart-system/itechsmart", Role: "admin"}, {Name: "ci/*", Role: "editor"},
	}))
}

func writeFile(dir string, data map[string][]byte) error {
	return os.WriteFile(filepath.Join(dir, config.FileName), data[config.FileName], 0o600)
}
