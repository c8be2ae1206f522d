// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// backends that the services of all products need.
var backends = []string{platformv1alpha1.BackendPostgreSQL, platformv1alpha1.BackendRabbitMQ}

// kinds returns the services of all products.
func kinds() []*service.Type {
	var out []*service.Type
	for i := range Products {
		if Products[i].Service != nil {
			out = append(out, Products[i].Service)
		}
	}
	return out
}

// eachService runs a test for the service of every product.
func eachService(t *testing.T, test func(t *testing.T, kind *service.Type)) {
	t.Helper()
	for _, kind := range kinds() {
		t.Run(kind.Product, func(t *testing.T) { test(t, kind) })
	}
}

// newWorld returns a namespace with a Platform of external backends, and a manager of all services, whose Deployments run.
func newWorld(t *testing.T) (*platformtest.World, *platformtest.Platform) {
	t.Helper()
	w := platformtest.NewWorld(t)
	p := platformtest.New(t, w.Client, w.Namespace, nil, backends...)
	w.Serve()
	w.Start(kinds()...)
	return w, p
}

// managed makes the Platform's PostgreSQL one of the operator's own, whose connections it divides.
func managed(p *platformv1alpha1.Platform) {
	p.Spec.Backends.PostgreSQL = &platformv1alpha1.Backend{Managed: &platformv1alpha1.ManagedBackend{}}
}

// queueOf returns the product's queue of tasks.
func queueOf(w *platformtest.World, kind *service.Type) string {
	return kind.Product + "." + w.Namespace + "." + platformtest.Name + ".tasks"
}

func schemaOf(w *platformtest.World, kind *service.Type) string {
	return tenants.Name(w.Namespace, platformtest.Name, kind.Product)
}

func reviewerOf(w *platformtest.World, kind *service.Type) (*rbacv1.ClusterRoleBinding, error) {
	binding := &rbacv1.ClusterRoleBinding{}
	name := "itechsmart:" + w.Namespace + ":" + common.ServiceName(platformtest.Name, kind.Product) + ":token-reviewer"
	return binding, w.Client.Get(context.Background(), client.ObjectKey{Name: name}, binding)
}

func TestServiceBecomesReady(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		o := w.Service(kind, "mine")
		w.Succeeds(o)
		status := o.ServiceStatus()
		w.Expect(status.URL).To(Equal("http://main-" + kind.Product + "." + w.Namespace + ".svc:8080"))
		w.Expect([]any{status.Replicas, status.Version}).To(Equal([]any{int32(1), "1.2.3"}))
		w.Expect(status.Selector).To(ContainSubstring("app.kubernetes.io/name=" + kind.Product))
		w.Expect(o.GetFinalizers()).To(ContainElement(common.Finalizer))
		w.Expect(o.GetAnnotations()[external.AnnotationClaims]).To(ContainSubstring(schemaOf(w, kind)))

		// The configuration matches what exists.
		c, schema := w.Config(kind.Product), schemaOf(w, kind)
		w.Expect([]string{c.Product, c.Platform, c.Namespace, c.URL}).To(Equal([]string{kind.Product, "main", w.Namespace, status.URL}))
		w.Expect(c.Database.Schema).To(Equal(schema))
		w.Expect(c.Database.Binding).To(HaveKeyWithValue("username", schema))
		w.Expect(c.Database.Binding).To(HaveKeyWithValue("password", w.Postgres.Password(schema)))
		w.Expect(c.Identity.Binding).To(HaveKeyWithValue("password", platformtest.IdentityPassword))
		w.Expect(*c.Auth.Administrator).To(Equal(config.Administrator{Email: "admin@example.com", Password: "administrator-password"}))
		w.Expect(c.Auth.Keys).To(HaveLen(1))
		w.Expect(w.Deployment(kind.Product).Annotations).To(HaveKeyWithValue(service.AnnotationSigningKeys, c.Auth.Keys[0].ID))
		w.Expect(c.RateLimit).To(Equal(config.RateLimit{RequestsPerMinute: 100, FailOpen: true}))
		if _, err := w.RabbitMQ.Queue(t.Context(), queueOf(w, kind)); kind.Queue {
			w.Expect(err).NotTo(HaveOccurred())
			w.Expect(c.Queue.Name).To(Equal(queueOf(w, kind)))
		} else {
			w.Expect(err).To(MatchError(backend.ErrNotFound))
		}

		// The service's own reader takes it, and no component gets a credential that is not its own.
		dir := t.TempDir()
		w.Expect(os.WriteFile(filepath.Join(dir, config.FileName), w.File(kind.Product, config.FileName), 0o600)).To(Succeed())
		_, unknown, err := config.Load(dir)
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(unknown).To(BeEmpty())
		for _, component := range kind.Components() {
			for name := range w.Data(w.Deployment(component).Spec.Template.Spec.Volumes[0].Secret.SecretName) {
				w.Expect(string(w.File(component, name))).NotTo(ContainSubstring(platformtest.Canary))
			}
		}
		var binding rbacv1.RoleBinding
		w.Expect(w.Get("main-"+kind.Product, &binding)).To(Succeed())
		w.Expect(binding.RoleRef.Name).To(Equal("itechsmart-" + kind.Product + "-service"))
		reviewer, err := reviewerOf(w, kind)
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(reviewer.RoleRef.Name).To(Equal("itechsmart-token-reviewer"))
	})
}

func TestClientsAndServiceAccounts(t *testing.T) {
	w, p := newWorld(t)
	hash := "$2y$12$" + strings.Repeat("a", 53)
	w.Secret("web", map[string]string{"secret-hash": "plain text"})
	p.Edit(func(live *platformv1alpha1.Platform) {
		live.Spec.Auth.Clients = []platformv1alpha1.OAuthClient{
			{ID: "cli", RedirectURIs: []string{"http://127.0.0.1/callback"}}, {ID: "web", SecretRef: &platformv1alpha1.SecretHashReference{Name: "web"}},
		}
		live.Spec.Auth.ServiceAccounts = []platformv1alpha1.ServiceAccountRole{{Namespace: "ci", Name: "*", Role: "editor"}}
	})
	kind := kinds()[0]
	o := w.Service(kind, "mine")
	w.Says(o, common.ReasonInvalidSpec, "Platform main: spec.auth.clients[web].secretRef")
	w.Expect(w.Ready(o, metav1.ConditionFalse, common.ReasonInvalidSpec)).NotTo(ContainSubstring("plain text"))
	var secret corev1.Secret
	w.Expect(w.Get("web", &secret)).To(Succeed())
	w.Edit(&secret, func() { secret.Data["secret-hash"] = []byte(hash) })
	w.Succeeds(o)
	auth := w.Config(kind.Product).Auth
	w.Expect(auth.Clients).To(Equal([]config.Client{{ID: "cli", RedirectURIs: []string{"http://127.0.0.1/callback"}}, {ID: "web", SecretHash: hash}}))
	w.Expect(auth.ServiceAccounts).To(Equal([]config.ServiceAccount{{Name: "itechsmart-system/itechsmart", Role: "admin"}, {Name: "ci/*", Role: "editor"}}))
}

// TestServiceSaysWhatItWaitsFor: from nothing to a service that runs, the message names what is missing.
func TestServiceSaysWhatItWaitsFor(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w := platformtest.NewWorld(t)
		w.Serve()
		w.Start(kinds()...)
		o := w.Service(kind, "mine")
		w.Says(o, common.ReasonReferenceNotFound, "spec.platformRef: Platform "+w.Namespace+"/main does not exist")
		p := platformtest.New(t, w.Client, w.Namespace, nil, platformv1alpha1.BackendRedis)
		w.Says(o, common.ReasonInvalidSpec, kind.Title+" needs PostgreSQL; add spec.backends.postgresql to Platform main")
		p.Add(platformv1alpha1.BackendPostgreSQL, "it is away")
		w.Says(o, common.ReasonReferenceNotReady, "PostgreSQL of Platform main is not Ready: it is away")
		p.Backend(platformv1alpha1.BackendPostgreSQL, "")
		if kind.Queue {
			w.Says(o, common.ReasonInvalidSpec, kind.Title+" needs RabbitMQ; add spec.backends.rabbitmq to Platform main")
			p.Add(platformv1alpha1.BackendRabbitMQ, "it is away, too")
			w.Says(o, common.ReasonReferenceNotReady, "RabbitMQ of Platform main is not Ready: it is away, too")
			w.Expect(w.Postgres.Calls("EnsureTenant")).To(BeZero(), "nothing is made before all is there")
			p.Backend(platformv1alpha1.BackendRabbitMQ, "")
		}
		w.Succeeds(o)
		w.Expect(w.Config(kind.Product).Redis).To(HaveKeyWithValue("host", "cache.example.com"))
	})
}

func TestServiceWaitsForEveryReplica(t *testing.T) {
	w := platformtest.NewWorld(t)
	platformtest.New(t, w.Client, w.Namespace, nil, backends...)
	w.Start(kinds()...)
	kind := kinds()[slices.IndexFunc(kinds(), func(k *service.Type) bool { return k.Worker == nil })]
	o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().Replicas = 3 })
	w.Roll(kind.Product, 2, 3)
	w.Says(o, common.ReasonProgressing, "the rollout goes on")
	w.Eventually(func() int32 { w.Refresh(o); return o.ServiceStatus().Replicas }).Should(Equal(int32(2)))
	w.Roll(kind.Product, 4, 4)
	w.Ready(o, metav1.ConditionFalse, common.ReasonProgressing)
	w.Roll(kind.Product, 3, 3)
	w.Succeeds(o)

	// An edit that concerns the service rolls it out; what its Pods had stays until they have gone.
	first := w.Deployment(kind.Product).Spec.Template.Spec.Volumes[0].Secret.SecretName
	w.Edit(o, func() { o.ServiceSpec().LogLevel = "debug" })
	w.Ready(o, metav1.ConditionFalse, common.ReasonProgressing)
	second := w.Deployment(kind.Product)
	w.Expect(second.Spec.Template.Spec.Volumes[0].Secret.SecretName).NotTo(Equal(first))
	w.Expect(w.Get(first, &corev1.Secret{})).To(Succeed(), "a Pod that still runs may restart")
	w.Roll(kind.Product, 3, 3)
	w.Succeeds(o)
	w.Gone(first, &corev1.Secret{})

	// One that does not concern it leaves it alone.
	w.Edit(o, func() { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
	w.Succeeds(o)
	w.Expect(w.Deployment(kind.Product).Generation).To(Equal(second.Generation))
}

// TestSteadyStateCostsNothing: passes over a service that is as it should be write nothing, and ask neither the API server nor
// a database.
func TestSteadyStateCostsNothing(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		w.Succeeds(w.Service(kind, "mine"))
		w.Quiet()
		calls := w.Postgres.Total() + w.RabbitMQ.Total()
		w.Requests.Reset()
		for i := range 5 {
			var child corev1.Service
			w.Expect(w.Get("main-"+kind.Product, &child)).To(Succeed())
			child.Annotations["touched"] = strings.Repeat("x", i+1)
			w.Expect(w.Client.Update(t.Context(), &child)).To(Succeed())
			ctrltest.Seen(t, w.Cache, &child)
		}
		w.Consistently(func() []string { return append(w.Requests.Writes(), w.Requests.Reads()...) }, time.Second).Should(BeEmpty())
		w.Expect(w.Postgres.Total() + w.RabbitMQ.Total()).To(Equal(calls))
	})
}

// TestDriftIsReverted: a child that is deleted or changed is restored.
func TestDriftIsReverted(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		o := w.Service(kind, "mine", func(o service.Object) {
			o.ServiceSpec().Autoscaling = &common.Autoscaling{MaxReplicas: 4}
			o.ServiceSpec().Ingress = &common.ServiceIngress{Host: "x.example.com"}
		})
		w.Succeeds(o)
		before := w.Children(o)
		w.Expect(len(before)).To(BeNumerically(">=", 9))
		for name, child := range before {
			w.Delete(child)
			w.Eventually(func(g Gomega) {
				again := child.DeepCopyObject().(client.Object)
				g.Expect(w.Get(child.GetName(), again)).To(Succeed())
				g.Expect(again.GetUID()).NotTo(Equal(child.GetUID()))
			}).Should(Succeed(), name)
		}
		reviewer, err := reviewerOf(w, kind)
		w.Expect(err).NotTo(HaveOccurred())
		w.Edit(reviewer, func() { reviewer.Subjects = nil })
		w.Eventually(func() int { w.Refresh(reviewer); return len(reviewer.Subjects) }).Should(Equal(1))

		d := w.Deployment(kind.Product)
		image := d.Spec.Template.Spec.Containers[0].Image
		w.Edit(d, func() { d.Spec.Template.Spec.Containers[0].Image = "example.com/another:1" })
		w.Eventually(func() string { w.Refresh(d); return d.Spec.Template.Spec.Containers[0].Image }).Should(Equal(image))

		file := &corev1.Secret{}
		w.Expect(w.Get(d.Spec.Template.Spec.Volumes[0].Secret.SecretName, file)).To(Succeed())
		want := file.Data[config.FileName]
		w.Edit(file, func() { file.Data[config.FileName] = []byte("changed by hand") })
		w.Eventually(func() string { w.Refresh(file); return string(file.Data[config.FileName]) }).Should(Equal(string(want)))

		// The autoscaler sets the replicas, and the controller does not revert them.
		w.Edit(d, func() { *d.Spec.Replicas = 3 })
		w.Eventually(func() int32 { w.Refresh(o); return o.ServiceStatus().Replicas }).Should(Equal(int32(3)))
		w.Refresh(d)
		w.Expect(*d.Spec.Replicas).To(Equal(int32(3)))

		// What is no longer asked for goes.
		w.Edit(o, func() { o.ServiceSpec().Autoscaling, o.ServiceSpec().Ingress = nil, nil })
		w.Succeeds(o)
		w.Expect(w.Children(o)).To(HaveLen(len(before) - 2))
	})
}

// TestKeysReachTheService: keys that the Platform publishes are in the configuration, and the Deployment says which.
func TestKeysReachTheService(t *testing.T) {
	w, p := newWorld(t)
	kind := kinds()[0]
	o := w.Service(kind, "mine")
	w.Succeeds(o)
	first := w.Deployment(kind.Product)
	keys := newKeys(t, 2)
	p.SigningKeys(keys...)
	w.Eventually(func() string { return w.Deployment(kind.Product).Annotations[service.AnnotationSigningKeys] }).Should(Equal(keys[0].ID + "," + keys[1].ID))
	w.Succeeds(o)
	var second appsv1.Deployment
	w.Expect(w.Get(first.Name, &second)).To(Succeed())
	w.Expect(second.Spec.Template.Annotations).NotTo(Equal(first.Spec.Template.Annotations), "the Pods have not been replaced")
	cfg := w.Config(kind.Product).Auth.Keys
	w.Expect([]string{cfg[0].ID, cfg[1].ID}).To(Equal([]string{keys[0].ID, keys[1].ID}))
}
