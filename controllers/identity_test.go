// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/signingkeys"
	"github.com/itechsmart/operator/controllers/platform"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/config"
)

// setupPlatform adds the controller of Platforms, whose logins succeed and whose PostgreSQL is the world's.
func setupPlatform(w *platformtest.World) func(*setup.Deps) error {
	return func(d *setup.Deps) error {
		login := func(context.Context, string, backend.Binding) (string, error) { return "1", nil }
		return platform.SetupWith(d, login, func(backend.Binding) (postgres.Tenants, error) { return w.Postgres, nil })
	}
}

// newPlatform creates a Platform of external backends, for its own controller.
func newPlatform(w *platformtest.World) *platformv1alpha1.Platform {
	p := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: platformtest.Name}}
	p.Spec.DeletionPolicy = common.DeletionDelete
	for name, b := range map[string]**platformv1alpha1.Backend{"postgresql": &p.Spec.Backends.PostgreSQL, "rabbitmq": &p.Spec.Backends.RabbitMQ} {
		w.Secret(name, map[string]string{"type": name, "host": name + ".example.com", "port": "5432", "username": "u", "password": "p", "database": "app"})
		*b = &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: name}}}
	}
	w.Create(p)
	return p
}

// identityWorld runs only the controller of Platforms: services exist, and are not reconciled.
func identityWorld(t *testing.T) (*platformtest.World, *platformv1alpha1.Platform) {
	t.Helper()
	w := platformtest.NewWorld(t)
	options := w.Options()
	w.StartWith(options, func(d *setup.Deps) error {
		for _, kind := range kinds() {
			d.Services = append(d.Services, kind.Listed())
			if err := service.Index(d.Manager.GetFieldIndexer(), kind); err != nil {
				return err
			}
		}
		return nil
	}, setupPlatform(w))
	return w, newPlatform(w)
}

// deployment returns one that a service's controller would have made, whose Pods verify keys; keys nil: a worker's.
func deployment(w *platformtest.World, name string, keys []string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		apply.LabelManagedBy: apply.ManagedBy, common.LabelPlatform: platformtest.Name,
	}}}
	if keys != nil {
		d.Annotations = map[string]string{service.AnnotationSigningKeys: strings.Join(keys, ",")}
	}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "server", Image: "x"}}
	w.Create(d)
	return d
}

// rollOut writes the status of a Deployment whose one Pod has what the Deployment has now.
func rollOut(w *platformtest.World, d *appsv1.Deployment) {
	w.Eventually(func() error {
		w.Refresh(d)
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
		return w.Client.Status().Update(context.Background(), d)
	}).Should(Succeed())
}

func keysOf(w *platformtest.World) []signingkeys.Key {
	keys, err := signingkeys.Decode(&corev1.Secret{Data: w.Data("main-signing-keys")})
	w.Expect(err).NotTo(HaveOccurred())
	return keys
}

// TestIdentityComesWithTheFirstService: until then a Platform has none.
func TestIdentityComesWithTheFirstService(t *testing.T) {
	w, p := identityWorld(t)
	w.Eventually(func() bool {
		w.Refresh(p)
		return meta.IsStatusConditionTrue(p.Status.Conditions, common.ConditionReady)
	}).Should(BeTrue())
	for _, name := range []string{p.SigningKeysName(), p.AdministratorName(), "main-identity-database"} {
		w.Expect(w.Get(name, &corev1.Secret{})).NotTo(Succeed())
	}
	w.Service(kinds()[0], "mine")
	w.Expect(keysOf(w)).To(HaveLen(1))
	w.Expect(string(w.Data(p.AdministratorName())["username"])).To(Equal("admin@main." + w.Namespace + ".svc"))
	w.Expect(w.Data("main-identity-database")).To(HaveKey("mark"))
}

// TestNextKeySignsWhenEveryServiceHasIt: with the algorithm, as with age, a new key is verified everywhere before it signs.
func TestNextKeySignsWhenEveryServiceHasIt(t *testing.T) {
	w, p := identityWorld(t)
	w.Service(kinds()[0], "mine")
	first := keysOf(w)[0].ID
	one, other := deployment(w, "one", []string{first}), deployment(w, "other", []string{first})
	deployment(w, "worker", nil) // verifies no token, and is not rolled out
	rollOut(w, one)
	rollOut(w, other)
	w.Edit(p, func() { p.Spec.Auth.Algorithm = platformv1alpha1.RS256 })
	w.Eventually(func() int { return len(keysOf(w)) }).Should(Equal(2))
	next := keysOf(w)[1]
	w.Expect(next.Algorithm).To(Equal("RS256"))
	w.Expect(next.Since).To(BeNil())
	both := first + "," + next.ID

	// waits lets the controller see a Deployment, and do nothing.
	waits := func(d *appsv1.Deployment, why string) {
		ctrltest.Seen(t, w.Cache, d)
		w.Quiet()
		w.Expect(keysOf(w)[0].ID).To(Equal(first), why)
	}
	waits(other, "no service has the next key")
	w.Edit(one, func() { one.Annotations[service.AnnotationSigningKeys] = both; one.Spec.Template.Labels["v"] = "2" })
	rollOut(w, one)
	waits(one, "one service lacks the next key")
	w.Edit(other, func() { other.Annotations[service.AnnotationSigningKeys] = both; other.Spec.Template.Labels["v"] = "2" })
	waits(other, "its Pods do not have the next key yet")
	rollOut(w, other)
	w.Eventually(func() string { return keysOf(w)[0].ID }).Should(Equal(next.ID))
	keys := keysOf(w)
	w.Expect(keys).To(HaveLen(2))
	w.Expect(keys[1].ID).To(Equal(first))
	w.Expect(keys[0].Since).NotTo(BeNil())
	w.Expect(keys[1].Until.Sub(*keys[0].Since)).To(BeNumerically(">=", p.Spec.Auth.AccessTokenTTL.Duration), "tokens that the former key signed stay valid")
}

// TestAdministratorComesBack: when the Secret is deleted, a service's configuration still has the password.
func TestAdministratorComesBack(t *testing.T) {
	w, p := identityWorld(t)
	w.Service(kinds()[0], "mine")
	before := w.Data(p.AdministratorName())
	data, err := json.Marshal(config.Service{Auth: config.Auth{Administrator: &config.Administrator{
		Email: string(before["username"]), Password: string(before["password"]),
	}}})
	w.Expect(err).NotTo(HaveOccurred())
	file := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-x-config-1", Labels: map[string]string{
		apply.LabelManagedBy: apply.ManagedBy, common.LabelPlatform: platformtest.Name,
	}}, Data: map[string][]byte{config.FileName: data}}
	w.Create(file)
	ctrltest.Seen(t, w.Cache, file)
	lost := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: p.AdministratorName()}}
	w.Refresh(lost)
	uid := lost.UID
	w.Delete(lost)
	w.Eventually(func(g Gomega) {
		again := &corev1.Secret{}
		g.Expect(w.Get(p.AdministratorName(), again)).To(Succeed())
		g.Expect(again.UID).NotTo(Equal(uid))
		g.Expect(again.Data).To(Equal(before))
	}).Should(Succeed())
}
