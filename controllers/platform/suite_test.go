// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// logins stands for the backends' own clients, which have a suite against real servers elsewhere.
type logins struct {
	mu     sync.Mutex
	errs   map[string]error
	calls  map[string]int
	seen   map[string]backend.Binding
	answer string
	// postgres is every PostgreSQL server.
	postgres *postgres.Fake
}

func newLogins() *logins {
	return &logins{errs: map[string]error{}, calls: map[string]int{}, seen: map[string]backend.Binding{}, answer: "1.2.3",
		postgres: postgres.NewFake()}
}

func (l *logins) probe(_ context.Context, kind string, b backend.Binding) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[kind]++
	l.seen[kind] = b
	return l.answer, l.errs[kind]
}

// databases opens the fake.
func (l *logins) databases(backend.Binding) (postgres.Tenants, error) { return l.postgres, nil }

func (l *logins) fail(kind string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs[kind] = err
}

func (l *logins) binding(kind string) backend.Binding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[kind]
}

func (l *logins) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := 0
	for _, n := range l.calls {
		sum += n
	}
	return sum
}

// world is one test's namespace with a manager in it.
type world struct {
	*WithT
	t         *testing.T
	client    client.Client
	namespace string
	logins    *logins
	cache     client.Reader // the manager's
	stop      func()
}

func newWorld(t *testing.T, more ...string) *world {
	t.Helper()
	_, cfg := ctrltest.Env(t)
	return newWorldWith(t, cfg, ctrltest.Namespace(t), more...)
}

func newWorldWith(t *testing.T, cfg *rest.Config, namespace string, more ...string) *world {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, client: c, namespace: namespace, logins: newLogins()}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	w.start(cfg, more...)
	return w
}

func (w *world) start(cfg *rest.Config, more ...string) {
	w.t.Helper()
	w.stop = ctrltest.Start(w.t, cfg, setup.Options{
		Namespaces: append([]string{w.namespace}, more...), ManagerNamespace: "itechsmart-system", DriftInterval: time.Hour,
	}, func(d *setup.Deps) error {
		w.cache = d.Manager.GetCache()
		return SetupWith(d, w.logins.probe, w.logins.databases)
	})
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	obj.SetNamespace(w.namespace)
	w.Expect(w.client.Create(context.Background(), obj)).To(Succeed())
}

func (w *world) get(name string, obj client.Object) error {
	return w.client.Get(context.Background(), client.ObjectKey{Namespace: w.namespace, Name: name}, obj)
}

func (w *world) platform(name string) *v1alpha1.Platform {
	w.t.Helper()
	p := &v1alpha1.Platform{}
	w.Expect(w.get(name, p)).To(Succeed())
	return p
}

// edit changes a Platform's specification, again where a status came between.
func (w *world) edit(name string, change func(*v1alpha1.Platform)) {
	w.t.Helper()
	w.Eventually(func() error {
		p := w.platform(name)
		change(p)
		return w.client.Update(context.Background(), p)
	}).Should(Succeed())
}

// ready waits until the Platform's Ready condition has the status and reason, and returns the condition.
func (w *world) ready(name string, status metav1.ConditionStatus, reason string) *metav1.Condition {
	w.t.Helper()
	var found *metav1.Condition
	w.Eventually(func(g Gomega) {
		p := &v1alpha1.Platform{}
		g.Expect(w.get(name, p)).To(Succeed())
		found = meta.FindStatusCondition(p.Status.Conditions, common.ConditionReady)
		g.Expect(found).NotTo(BeNil())
		g.Expect(p.Status.ObservedGeneration).To(Equal(p.Generation))
		g.Expect(found.Status).To(Equal(status), found.Message)
		g.Expect(found.Reason).To(Equal(reason), found.Message)
	}).Should(Succeed())
	return found
}

// run does to a StatefulSet what its controller and the kubelet would.
func (w *world) run(name string) {
	w.t.Helper()
	w.Eventually(func(g Gomega) {
		var set appsv1.StatefulSet
		g.Expect(w.get(name, &set)).To(Succeed())
		set.Status = running(&set)
		g.Expect(w.client.Status().Update(context.Background(), &set)).To(Succeed())
	}).Should(Succeed())
}

// keepRunning does that for every StatefulSet of the namespace, until the test ends.
func (w *world) keepRunning() {
	done := make(chan struct{})
	ended := make(chan struct{})
	w.t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(ctrltest.Interval):
			}
			var sets appsv1.StatefulSetList
			if w.client.List(context.Background(), &sets, client.InNamespace(w.namespace)) != nil {
				continue
			}
			for i := range sets.Items {
				if set := &sets.Items[i]; set.Status.ObservedGeneration != set.Generation {
					set.Status = running(set)
					_ = w.client.Status().Update(context.Background(), set) // the next round tries again
				}
			}
		}
	}()
}

func running(set *appsv1.StatefulSet) appsv1.StatefulSetStatus {
	return appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1, UpdatedReplicas: 1, CurrentReplicas: 1,
		CurrentRevision: "a", UpdateRevision: "a",
	}
}

// gone waits until an object does not exist.
func (w *world) gone(name string, obj client.Object) {
	w.t.Helper()
	w.Eventually(func() error { return client.IgnoreNotFound(w.get(name, obj)) }).Should(Succeed())
	w.Eventually(func() bool { return w.get(name, obj) != nil }).Should(BeTrue(), "%T %s still exists", obj, name)
}

func binding(name string, data map[string]string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
}

func newPlatform(backends v1alpha1.Backends) *v1alpha1.Platform {
	return &v1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: v1alpha1.PlatformSpec{Backends: backends}}
}

func externalAt(secret string) *v1alpha1.Backend {
	return &v1alpha1.Backend{External: &v1alpha1.ExternalBackend{SecretRef: v1alpha1.SecretReference{Name: secret}}}
}

func managedBackend() *v1alpha1.Backend {
	return &v1alpha1.Backend{Managed: &v1alpha1.ManagedBackend{}}
}

// managedTypes returns the backends that the operator can run itself.
func managedTypes() []*backendType {
	return slices.DeleteFunc(slices.Clone(backendTypes), func(kind *backendType) bool { return kind.server == nil })
}

func allManaged() v1alpha1.Backends {
	return v1alpha1.Backends{
		PostgreSQL: managedBackend(), Kafka: managedBackend(), ClickHouse: managedBackend(), Redis: managedBackend(), RabbitMQ: managedBackend(),
	}
}

// BenchmarkNoOpPass is a pass over a Platform of five managed backends that are as they should be.
func BenchmarkNoOpPass(b *testing.B) {
	c, cfg := ctrltest.Env(b)
	namespace := ctrltest.Namespace(b)
	g := NewWithT(b)
	var reconciler interface {
		Reconcile(context.Context, ctrl.Request) (ctrl.Result, error)
	}
	l := newLogins()
	ctrltest.Start(b, cfg, setup.Options{Namespaces: []string{namespace}, DriftInterval: time.Hour}, func(d *setup.Deps) error {
		p := newProber(l.probe, time.Hour)
		reconciler = newReconciler(d, p, nil, l.databases)
		return SetupWith(d, l.probe, l.databases)
	})
	platform := newPlatform(allManaged())
	platform.Namespace = namespace
	g.Expect(c.Create(context.Background(), platform)).To(Succeed())
	for _, kind := range managedTypes() {
		g.Eventually(func() error {
			var set appsv1.StatefulSet
			if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "main-" + kind.name}, &set); err != nil {
				return err
			}
			set.Status = running(&set)
			return c.Status().Update(context.Background(), &set)
		}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	}
	g.Eventually(func() string {
		_ = c.Get(context.Background(), client.ObjectKeyFromObject(platform), platform)
		return platform.Status.Ready
	}, ctrltest.Timeout, ctrltest.Interval).Should(Equal("5/5"))
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(platform)}
	for b.Loop() {
		if _, err := reconciler.Reconcile(context.Background(), request); err != nil {
			b.Fatal(err)
		}
	}
}
