// SPDX-License-Identifier: Apache-2.0

package platformtest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/config"
)

// World is a namespace with a manager that runs controllers of services.
type World struct {
	*gomega.WithT
	t *testing.T

	Client    client.Client
	Namespace string
	// Postgres is every PostgreSQL server, RabbitMQ every broker.
	Postgres *postgres.Fake
	RabbitMQ *rabbitmq.Fake
	// Requests are the manager's.
	Requests *ctrltest.Requests
	// Cache is the manager's.
	Cache client.Reader
	// Stop stops the manager.
	Stop func()
}

// NewWorld returns a namespace without a manager.
func NewWorld(t *testing.T) *World {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &World{
		WithT: gomega.NewWithT(t), t: t, Client: c, Namespace: ctrltest.Namespace(t), Postgres: postgres.NewFake(), RabbitMQ: rabbitmq.NewFake(),
	}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	return w
}

// Options returns the options of the manager.
func (w *World) Options() setup.Options {
	return setup.Options{
		Namespaces: []string{w.Namespace}, DriftInterval: time.Hour, Images: setup.Images{Registry: "example.com/itechsmart", Tag: "1.2.3"},
		ManagerNamespace: "itechsmart-system", ManagerServiceAccount: "itechsmart",
		TokenReviewerRole: "itechsmart-token-reviewer", ServiceRolePrefix: "itechsmart",
	}
}

// Setup adds the controllers of services, whose servers are the fakes.
func (w *World) Setup(d *setup.Deps, kinds ...*service.Type) error {
	for _, kind := range kinds {
		d.Services = append(d.Services, kind.Listed())
	}
	for _, kind := range kinds {
		err := service.SetupWith(d, kind,
			func(backend.Binding) (postgres.Tenants, error) { return w.Postgres, nil },
			func(backend.Binding) (rabbitmq.Admin, error) { return w.RabbitMQ, nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// Start runs a manager of service kinds, whose requests are counted again.
func (w *World) Start(kinds ...*service.Type) {
	w.t.Helper()
	w.StartWith(w.Options(), func(d *setup.Deps) error { return w.Setup(d, kinds...) })
}

// StartWith runs a manager.
func (w *World) StartWith(options setup.Options, sets ...func(*setup.Deps) error) {
	w.t.Helper()
	_, cfg := ctrltest.Env(w.t)
	counted, requests := ctrltest.Count(cfg)
	w.Requests = requests
	sets = append(sets, func(d *setup.Deps) error {
		w.Cache = d.Manager.GetCache()
		return nil
	})
	w.Stop = ctrltest.Start(w.t, counted, options, sets...)
}

// Serve does to every Deployment of the namespace what its controller and the kubelet would, until the test ends.
func (w *World) Serve() {
	w.t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	w.t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * ctrltest.Interval):
			}
			var list appsv1.DeploymentList
			if w.Client.List(context.Background(), &list, client.InNamespace(w.Namespace)) != nil {
				continue // the next round tries again
			}
			for i := range list.Items {
				if d := &list.Items[i]; d.Status.ObservedGeneration != d.Generation {
					n := ptr.Deref(d.Spec.Replicas, 1)
					d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
					_ = w.Client.Status().Update(context.Background(), d)
				}
			}
		}
	}()
}

// Roll writes the status of a Deployment of which so many of all replicas are available.
func (w *World) Roll(component string, available, all int32) {
	w.t.Helper()
	w.Eventually(func() error {
		var d appsv1.Deployment
		if err := w.Get(common.ServiceName(Name, component), &d); err != nil {
			return err
		}
		n := ptr.Deref(d.Spec.Replicas, 1)
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: all, UpdatedReplicas: n, ReadyReplicas: available, AvailableReplicas: available}
		return w.Client.Status().Update(context.Background(), &d)
	}).Should(gomega.Succeed())
}

// Create creates an object in the namespace.
func (w *World) Create(obj client.Object) {
	w.t.Helper()
	obj.SetNamespace(w.Namespace)
	w.Expect(w.Client.Create(context.Background(), obj)).To(gomega.Succeed())
}

// Service creates a service of a kind on the Platform; change may change it first.
func (w *World) Service(kind *service.Type, name string, change ...func(service.Object)) service.Object {
	w.t.Helper()
	o := kind.New()
	o.SetName(name)
	o.ServiceSpec().PlatformRef.Name = Name
	for _, f := range change {
		f(o)
	}
	w.Create(o)
	return o
}

// Secret creates a Secret that the operator knows nothing of.
func (w *World) Secret(name string, data map[string]string) {
	w.t.Helper()
	w.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data})
}

// Get reads an object of the namespace.
func (w *World) Get(name string, obj client.Object) error {
	return w.Client.Get(context.Background(), client.ObjectKey{Namespace: w.Namespace, Name: name}, obj)
}

// Refresh reads an object again.
func (w *World) Refresh(obj client.Object) {
	w.t.Helper()
	w.Expect(w.Client.Get(context.Background(), client.ObjectKeyFromObject(obj), obj)).To(gomega.Succeed())
}

// Edit changes an object, again where another write came between.
func (w *World) Edit(obj client.Object, change func()) {
	w.t.Helper()
	w.Eventually(func() error {
		w.Refresh(obj)
		change()
		return w.Client.Update(context.Background(), obj)
	}).Should(gomega.Succeed())
}

// Ready waits until a service's Ready condition of the current generation has the status and reason, and returns its message.
func (w *World) Ready(o service.Object, status metav1.ConditionStatus, reason string) string {
	w.t.Helper()
	var found *metav1.Condition
	w.Eventually(func(g gomega.Gomega) {
		g.Expect(w.Client.Get(context.Background(), client.ObjectKeyFromObject(o), o)).To(gomega.Succeed())
		found = meta.FindStatusCondition(*o.GetConditions(), common.ConditionReady)
		g.Expect(found).NotTo(gomega.BeNil())
		g.Expect(o.ServiceStatus().ObservedGeneration).To(gomega.Equal(o.GetGeneration()))
		g.Expect(string(found.Status)+" "+found.Reason).To(gomega.Equal(string(status)+" "+reason), found.Message)
	}).Should(gomega.Succeed())
	w.Expect(found.Message).NotTo(gomega.ContainSubstring(Canary))
	return found.Message
}

// Succeeds waits until a service is Ready.
func (w *World) Succeeds(o service.Object) {
	w.t.Helper()
	w.Ready(o, metav1.ConditionTrue, common.ReasonSucceeded)
}

// Says waits until a service is not Ready for a reason, in words with that part.
func (w *World) Says(o service.Object, reason, part string) {
	w.t.Helper()
	w.Eventually(func() string { return w.Ready(o, metav1.ConditionFalse, reason) }).Should(gomega.ContainSubstring(part))
}

// Delete deletes an object.
func (w *World) Delete(obj client.Object) {
	w.t.Helper()
	w.Expect(w.Client.Delete(context.Background(), obj)).To(gomega.Succeed())
}

// Gone waits until an object does not exist.
func (w *World) Gone(name string, obj client.Object) {
	w.t.Helper()
	w.Eventually(func() bool { return apierrors.IsNotFound(w.Get(name, obj)) }).Should(gomega.BeTrue(), "%T %s still exists", obj, name)
}

// Children returns the objects that an owner controls, by kind and name.
func (w *World) Children(owner client.Object) map[string]client.Object {
	w.t.Helper()
	out := map[string]client.Object{}
	kinds := apply.Kinds()
	for i, list := range apply.Lists() {
		w.Expect(w.Client.List(context.Background(), list, client.InNamespace(w.Namespace))).To(gomega.Succeed())
		gvks, _, err := w.Client.Scheme().ObjectKinds(kinds[i])
		w.Expect(err).NotTo(gomega.HaveOccurred())
		w.Expect(meta.EachListItem(list, func(item runtime.Object) error {
			if obj := item.(client.Object); metav1.IsControlledBy(obj, owner) {
				out[gvks[0].Kind+"/"+obj.GetName()] = obj
			}
			return nil
		})).To(gomega.Succeed())
	}
	return out
}

// Collect is the garbage collector, which the test server lacks: it deletes what a deleted owner controls.
func (w *World) Collect(owner client.Object) {
	w.t.Helper()
	for _, child := range w.Children(owner) {
		w.Expect(client.IgnoreNotFound(w.Client.Delete(context.Background(), child))).To(gomega.Succeed())
	}
}

// Deployment waits for a component's Deployment.
func (w *World) Deployment(component string) *appsv1.Deployment {
	w.t.Helper()
	d := &appsv1.Deployment{}
	w.Eventually(func() error { return w.Get(common.ServiceName(Name, component), d) }).Should(gomega.Succeed())
	return d
}

// Data waits for a Secret, and returns its content.
func (w *World) Data(secret string) map[string][]byte {
	w.t.Helper()
	var s corev1.Secret
	w.Eventually(func() error { return w.Get(secret, &s) }).Should(gomega.Succeed())
	return s.Data
}

// File returns the file of a component that its live Deployment mounts.
func (w *World) File(component, name string) []byte {
	w.t.Helper()
	return w.Data(w.Deployment(component).Spec.Template.Spec.Volumes[0].Secret.SecretName)[name]
}

// Config returns the configuration of a service that its live Deployment mounts.
func (w *World) Config(product string) *config.Service {
	w.t.Helper()
	var c config.Service
	w.Expect(json.Unmarshal(w.File(product, config.FileName), &c)).To(gomega.Succeed())
	return &c
}

// Quiet waits until the manager asks and writes nothing any more.
func (w *World) Quiet() {
	w.t.Helper()
	w.Eventually(w.Requests.Quiet).Should(gomega.BeTrue())
}
