// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// canary is in every credential that the tests write: it must be seen nowhere but in the bindings.
const canary = "canary-9b1d"

// fieldManager is the field manager of the Workflow service.
const fieldManager = "workflow-service"

// world is one namespace with a running controller.
type world struct {
	*WithT
	t         *testing.T
	ctx       context.Context
	client    client.Client
	namespace string
	clock     *ctrltest.Clock
	requests  *ctrltest.Requests
	stop      func()
}

// newWorld starts a controller; the Platform is for the test to make.
func newWorld(t *testing.T, more ...string) *world {
	t.Helper()
	w := newCell(t)
	w.start(more...)
	return w
}

func newCell(t *testing.T) *world {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, ctx: context.Background(), client: c, namespace: ctrltest.Namespace(t), clock: &ctrltest.Clock{}}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	return w
}

// start runs a manager, whose requests are counted again.
func (w *world) start(more ...string) {
	w.t.Helper()
	_, cfg := ctrltest.Env(w.t)
	counted, requests := ctrltest.Count(cfg)
	w.requests = requests
	w.stop = ctrltest.Start(w.t, counted, setup.Options{Namespaces: append([]string{w.namespace}, more...)},
		w.setup)
}

// setup adds the controllers, and the index that the service's controller would add.
func (w *world) setup(d *setup.Deps) error {
	if err := service.Index(d.Manager.GetFieldIndexer(), serviceType); err != nil {
		return err
	}
	return SetupWith(d, w.clock.Now)
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	if obj.GetNamespace() == "" {
		obj.SetNamespace(w.namespace)
	}
	w.Expect(w.client.Create(w.ctx, obj)).To(Succeed())
}

func (w *world) secret(name string, data map[string]string) *corev1.Secret {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
	w.create(secret)
	return secret
}

// platform makes a Platform with a Workflow service that is Ready, and the binding of its RabbitMQ.
func (w *world) platform(name string) *platformv1alpha1.Platform {
	w.t.Helper()
	external := &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: "elsewhere"}}}
	p := &platformv1alpha1.Platform{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       platformv1alpha1.PlatformSpec{Backends: platformv1alpha1.Backends{PostgreSQL: external, RabbitMQ: external}},
	}
	w.create(p)
	binding := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.BindingSecretName("rabbitmq"), Labels: map[string]string{apply.LabelManagedBy: apply.ManagedBy},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, platformv1alpha1.GroupVersion.WithKind("Platform"))},
		},
		StringData: map[string]string{"type": "rabbitmq", "host": "mq", "port": "5672", "username": "u", "password": canary},
	}
	w.create(binding)
	p.Status.Backends = []platformv1alpha1.BackendStatus{{Name: "rabbitmq", Mode: "external", Ready: true, BindingSecret: p.BindingSecretName("rabbitmq")}}
	w.Expect(w.client.Status().Update(w.ctx, p)).To(Succeed())
	s := workflowService(p)
	s.Spec.PlatformRef.Name = p.Name
	w.create(s)
	w.serviceReady(p, true)
	return p
}

// workflowService returns the Workflow service of a Platform, by its name.
func workflowService(p *platformv1alpha1.Platform) *workflowv1alpha1.WorkflowService {
	return &workflowv1alpha1.WorkflowService{ObjectMeta: metav1.ObjectMeta{Name: p.Name + "-workflow", Namespace: p.Namespace}}
}

// serviceReady does what the service's controller does, which does not run here.
func (w *world) serviceReady(p *platformv1alpha1.Platform, ready bool) {
	w.t.Helper()
	s := get(w, workflowService(p))
	condition := metav1.Condition{Type: common.ConditionReady, Status: metav1.ConditionFalse, Reason: common.ReasonProgressing, Message: "as the test says"}
	if ready {
		condition.Status, condition.Reason = metav1.ConditionTrue, common.ReasonSucceeded
	}
	meta.SetStatusCondition(&s.Status.Conditions, condition)
	w.Expect(w.client.Status().Update(w.ctx, s)).To(Succeed())
}

func raw(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }

// least returns a Workflow of one step.
func least(name string) *workflowv1alpha1.Workflow {
	return &workflowv1alpha1.Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: workflowv1alpha1.WorkflowSpec{
			Steps: []workflowv1alpha1.Step{{Name: "a", Type: "transform", With: raw(`{"value": 1}`)}},
		},
	}
}

// hooked returns one with a webhook whose key is in the Secret "hook", and a connection in the Secret "kafka".
func hooked(name, path string) *workflowv1alpha1.Workflow {
	w := least(name)
	w.Spec.Triggers = []workflowv1alpha1.Trigger{
		{Name: "hand", Type: workflowv1alpha1.TriggerManual},
		{Name: "hook", Type: workflowv1alpha1.TriggerWebhook, Webhook: &workflowv1alpha1.WebhookTrigger{
			Path: path, Auth: &workflowv1alpha1.WebhookAuth{HMACSecretRef: workflowv1alpha1.HMACSecretReference{Name: "hook"}},
		}},
	}
	w.Spec.Connections = []workflowv1alpha1.Connection{
		{Name: "broker", Backend: "rabbitmq", Ref: common.ConnectionReference{Kind: common.ConnectionPlatform, Name: "main"}},
		{Name: "bus", Ref: common.ConnectionReference{Name: "kafka"}},
	}
	return w
}

func (w *world) secrets() {
	w.t.Helper()
	w.secret("hook", map[string]string{"hmac": canary + "-0123456789"})
	w.secret("kafka", map[string]string{"type": "kafka", "bootstrap-servers": "kafka:9092", "password": canary})
}

func (w *world) workflow(of *workflowv1alpha1.Workflow, change ...func(*workflowv1alpha1.Workflow)) *workflowv1alpha1.Workflow {
	w.t.Helper()
	for _, f := range change {
		f(of)
	}
	w.create(of)
	return of
}

// get reads an object again.
func get[T client.Object](w *world, obj T) T {
	w.t.Helper()
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
	return obj
}

func edit[T client.Object](w *world, obj T, change func(T)) {
	w.t.Helper()
	w.Eventually(func() error {
		fresh := get(w, obj)
		base := fresh.DeepCopyObject().(client.Object)
		change(fresh)
		return w.client.Patch(w.ctx, fresh, client.MergeFrom(base))
	}).Should(Succeed())
}

// serve does what the service does: it takes the current generation, with all of its triggers.
func (w *world) serve(of *workflowv1alpha1.Workflow) {
	w.t.Helper()
	w.Eventually(func() error { return w.tryServe(of) }).Should(Succeed())
}

func (w *world) tryServe(of *workflowv1alpha1.Workflow) error {
	live := &workflowv1alpha1.Workflow{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: of.Name}, live); err != nil {
		return err
	}
	status := map[string]any{"servedGeneration": live.Generation, "readyTriggers": fmt.Sprintf("%d/%d", len(live.Spec.Triggers), len(live.Spec.Triggers)), "runs": map[string]any{"active": 3}}
	var triggers []any
	for i := range live.Spec.Triggers {
		triggers = append(triggers, map[string]any{"name": live.Spec.Triggers[i].Name, "ready": true})
	}
	status["triggers"] = triggers
	return w.tell(live, status)
}

// tell patches a status as the service's field manager.
func (w *world) tell(obj client.Object, status map[string]any) error {
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	return w.client.Status().Patch(w.ctx, obj, client.RawPatch("application/merge-patch+json", data), client.FieldOwner(fieldManager))
}

// condition waits until a condition of the current generation has the wanted status and reason, and gives its message.
func condition[T reconcile.Object](w *world, obj T, conditionType string, status metav1.ConditionStatus, reason string) string {
	w.t.Helper()
	var found *metav1.Condition
	w.Eventually(func(g Gomega) {
		g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		found = meta.FindStatusCondition(*obj.GetConditions(), conditionType)
		g.Expect(found).NotTo(BeNil(), "no condition %s", conditionType)
		g.Expect(found.ObservedGeneration).To(Equal(obj.GetGeneration()))
		g.Expect(string(found.Status)+" "+found.Reason).To(Equal(string(status)+" "+reason), found.Message)
	}).Should(Succeed())
	data, err := json.Marshal(obj)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(string(data)).NotTo(ContainSubstring(canary))
	return found.Message
}

func ready[T reconcile.Object](w *world, obj T) T {
	w.t.Helper()
	condition(w, obj, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
	return obj
}

// bindings returns what service and workers read, by the reader that they use.
func (w *world) bindings(platform string) map[string]config.WorkflowBindings {
	return w.bindingsFile(platform).Workflows
}

func (w *world) bindingsFile(platform string) (b config.Bindings) {
	var secret corev1.Secret
	if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: platform + "-workflow-bindings"}, &secret); err != nil {
		return b
	}
	if json.Unmarshal(secret.Data[config.BindingsName], &b) != nil {
		return config.Bindings{}
	}
	return b
}

// quiet waits until the manager asks and writes nothing any more.
func (w *world) quiet() {
	w.t.Helper()
	w.Eventually(w.requests.Quiet).Should(BeTrue())
}
