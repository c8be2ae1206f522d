// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// canary is in every value that the tests write: it must be seen nowhere but in destinations.
const canary = "canary-7f3a"

// world is one namespace with a Platform whose Vault is a fake, and a running controller.
type world struct {
	*WithT
	t         *testing.T
	ctx       context.Context
	client    client.Client
	namespace string
	vault     *vault.Fake
	clock     *ctrltest.Clock
	requests  *ctrltest.Requests
	cache     client.Reader // the manager's
	stop      func()
}

// newWorld starts a controller; the Platform is for the test to make.
func newWorld(t *testing.T) *world {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, ctx: t.Context(), client: c, namespace: ctrltest.Namespace(t), clock: &ctrltest.Clock{}}
	w.vault = vault.NewFake(w.namespace)
	w.vault.Now = w.clock.Now
	w.start()
	return w
}

// start runs a manager, whose requests are counted again.
func (w *world) start() {
	w.t.Helper()
	_, cfg := ctrltest.Env(w.t)
	counted, requests := ctrltest.Count(cfg)
	w.requests = requests
	w.stop = ctrltest.Start(w.t, counted, setup.Options{Namespaces: []string{w.namespace}}, func(d *setup.Deps) error {
		w.cache = d.Manager.GetCache()
		return w.setup(d)
	})
}

// setup adds the controllers on the fake Vault, and the index that the service's controller would add.
func (w *world) setup(d *setup.Deps) error {
	if err := service.Index(d.Manager.GetFieldIndexer(), serviceType); err != nil {
		return err
	}
	return SetupWith(d, func(string) (vault.Client, error) { return w.vault, nil }, w.clock.Now)
}

// announce does what the service does after a write by REST: it annotates the resource.
func (w *world) announce(name string, version int64) {
	w.t.Helper()
	w.touch(name, strconv.FormatInt(version, 10))
}

func (w *world) touch(name, value string) {
	w.t.Helper()
	s := &vaultv1alpha1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	patch := []byte(`{"metadata":{"annotations":{"` + vaultv1alpha1.AnnotationVersion + `":"` + value + `"}}}`)
	w.Expect(w.client.Patch(w.ctx, s, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
}

// platform makes a Platform with a Vault that is Ready.
func (w *world) platform(name string) *platformv1alpha1.Platform {
	w.t.Helper()
	external := &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: "elsewhere"}}}
	p := &platformv1alpha1.Platform{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec:       platformv1alpha1.PlatformSpec{Backends: platformv1alpha1.Backends{PostgreSQL: external}},
	}
	w.Expect(w.client.Create(w.ctx, p)).To(Succeed())
	s := vaultService(p)
	s.Spec.PlatformRef.Name = p.Name
	w.Expect(w.client.Create(w.ctx, s)).To(Succeed())
	w.vaultReady(p, true)
	return p
}

// vaultService returns the Vault of a Platform, by its name.
func vaultService(p *platformv1alpha1.Platform) *vaultv1alpha1.VaultService {
	return &vaultv1alpha1.VaultService{ObjectMeta: metav1.ObjectMeta{Name: p.Name + "-vault", Namespace: p.Namespace}}
}

// vaultReady does what the service's controller does, which does not run here.
func (w *world) vaultReady(p *platformv1alpha1.Platform, ready bool) {
	w.t.Helper()
	s := vaultService(p)
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), s)).To(Succeed())
	condition := metav1.Condition{Type: common.ConditionReady, Status: metav1.ConditionFalse, Reason: common.ReasonProgressing, Message: "as the test says"}
	if ready {
		condition.Status, condition.Reason = metav1.ConditionTrue, common.ReasonSucceeded
	}
	meta.SetStatusCondition(&s.Status.Conditions, condition)
	w.Expect(w.client.Status().Update(w.ctx, s)).To(Succeed())
	if w.cache != nil { // a manager runs: what is made next meets it
		ctrltest.Seen(w.t, w.cache, p)
		ctrltest.Seen(w.t, w.cache, s)
	}
}

// generated returns a Secret with a random text and a destination.
func generated(namespace, name string) *vaultv1alpha1.Secret {
	return &vaultv1alpha1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: vaultv1alpha1.SecretSpec{
			Type: vaultv1alpha1.TypeText, Source: vaultv1alpha1.Source{Generate: &vaultv1alpha1.Generate{}},
			Destination: &vaultv1alpha1.Destination{},
		},
	}
}

// secret makes a generated one, which change may make another.
func (w *world) secret(name string, change ...func(*vaultv1alpha1.Secret)) *vaultv1alpha1.Secret {
	w.t.Helper()
	s := generated(w.namespace, name)
	for _, f := range change {
		f(s)
	}
	w.Expect(w.client.Create(w.ctx, s)).To(Succeed())
	return s
}

func (w *world) get(s *vaultv1alpha1.Secret) *vaultv1alpha1.Secret {
	w.t.Helper()
	var fresh vaultv1alpha1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), &fresh)).To(Succeed())
	return &fresh
}

func (w *world) edit(s *vaultv1alpha1.Secret, change func(*vaultv1alpha1.Secret)) {
	w.t.Helper()
	fresh := w.get(s)
	base := fresh.DeepCopy()
	change(fresh)
	w.Expect(w.client.Patch(w.ctx, fresh, client.MergeFrom(base))).To(Succeed())
}

// condition waits until a condition of the current generation has the wanted status and reason, and gives its message.
func (w *world) condition(s *vaultv1alpha1.Secret, conditionType string, status metav1.ConditionStatus, reason string) string {
	w.t.Helper()
	var found *metav1.Condition
	w.Eventually(func(g Gomega) {
		fresh := &vaultv1alpha1.Secret{}
		g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), fresh)).To(Succeed())
		found = meta.FindStatusCondition(fresh.Status.Conditions, conditionType)
		g.Expect(found).NotTo(BeNil(), "no condition %s", conditionType)
		g.Expect(found.ObservedGeneration).To(Equal(fresh.Generation))
		g.Expect(string(found.Status)+" "+found.Reason).To(Equal(string(status)+" "+reason), found.Message)
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	w.Expect(found.Message).NotTo(ContainSubstring(canary))
	return found.Message
}

func (w *world) ready(s *vaultv1alpha1.Secret) *vaultv1alpha1.Secret {
	w.t.Helper()
	w.condition(s, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
	fresh := w.get(s)
	data, err := json.Marshal(fresh)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(string(data)).NotTo(ContainSubstring(canary))
	return fresh
}

// version waits until the destination holds a version.
func (w *world) version(s *vaultv1alpha1.Secret, version int64) *corev1.Secret {
	w.t.Helper()
	var found corev1.Secret
	w.Eventually(func(g Gomega) {
		g.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.DestinationName()}, &found)).To(Succeed())
		g.Expect(found.Annotations).To(HaveKeyWithValue(vaultv1alpha1.AnnotationVersion, strconv.FormatInt(version, 10)))
		fresh := &vaultv1alpha1.Secret{}
		g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), fresh)).To(Succeed())
		g.Expect(fresh.Status.CurrentVersion).To(Equal(version))
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	return &found
}

// stored returns the value of a version, 0 for the newest.
func (w *world) stored(path string, version int64) vault.Value {
	w.t.Helper()
	read, err := w.vault.Read(w.ctx, path, version)
	w.Expect(err).NotTo(HaveOccurred())
	return read.Value
}

// core makes a core Secret that the operator knows nothing of.
func (w *world) core(name string, data map[string]string) *corev1.Secret {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, StringData: data}
	w.Expect(w.client.Create(w.ctx, secret)).To(Succeed())
	return secret
}

// deployment makes a workload that reads a core Secret from its environment.
func (w *world) deployment(name, secret string) *appsv1.Deployment {
	w.t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "app", Image: "app", EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}},
			}}}},
		},
	}
	w.Expect(w.client.Create(w.ctx, d)).To(Succeed())
	return d
}

// quiet waits until the manager asks and writes nothing any more.
func (w *world) quiet() {
	w.t.Helper()
	w.Eventually(w.requests.Quiet, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
