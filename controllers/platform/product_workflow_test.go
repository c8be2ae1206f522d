// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/config"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

func rabbitSecret() *corev1.Secret {
	return binding("broker", map[string]string{
		"type": "rabbitmq", "host": "mq.example.com", "port": "5672", "username": "mq", "password": "secret-mq", "virtual-host": "tasks",
		"management-token": "canary-mq", "uri": "amqp://mq:secret-mq@mq.example.com:5672/tasks?token=canary-uri",
	})
}

func workflowPlatform() *v1alpha1.Platform {
	p := newPlatform(v1alpha1.Backends{PostgreSQL: externalAt("database"), RabbitMQ: externalAt("broker")})
	p.Spec.Products.Workflow = &v1alpha1.WorkflowProduct{}
	return p
}

func workflowWorld(t *testing.T) *world {
	t.Helper()
	w := serviceWorld(t)
	w.create(rabbitSecret())
	return w
}

// mounted is the file of the first volume of a Deployment.
func (w *world) mounted(deployment, file string) []byte {
	w.t.Helper()
	var d appsv1.Deployment
	w.Eventually(func() error { return w.get(deployment, &d) }).Should(Succeed())
	return w.data(d.Spec.Template.Spec.Volumes[0].Secret.SecretName)[file]
}

func TestWorkflowBecomesReady(t *testing.T) {
	w := workflowWorld(t)
	p := workflowPlatform()
	p.Spec.Products.Workflow.Worker = v1alpha1.WorkflowWorker{Replicas: 2, Slots: 8}
	p.Spec.Products.Workflow.LogLevel = "debug"
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	queue := "workflow." + w.namespace + ".main.tasks"

	var service config.Service
	w.Expect(json.Unmarshal(w.mounted("main-workflow", config.FileName), &service)).To(Succeed())
	w.Expect(service.Workflow.QueueName).To(Equal(queue))
	w.Expect(service.Workflow.Queue).To(And(HaveKeyWithValue("host", "mq.example.com"), HaveKeyWithValue("virtual-host", "tasks")))
	w.Expect(service.Workflow.MaxOutputBytes).To(Equal(262144))
	w.Expect(service.Workflow.URL).To(Equal("http://main-workflow." + w.namespace + ".svc:8080"))

	// The worker's own reader takes what it is told: the service's schema, and connections of its own.
	dir := t.TempDir()
	w.Expect(os.WriteFile(filepath.Join(dir, workerconfig.FileName), w.mounted("main-workflow-worker", workerconfig.FileName), 0o600)).To(Succeed())
	told, err := workerconfig.Load(dir)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(told.Database.Schema).To(Equal(service.Database.Schema))
	w.Expect(told.Database.Binding).To(Equal(service.Database.Binding))
	w.Expect(told.Database.MaxConnections).To(Equal(int32(25)))
	w.Expect(told.Queue).To(Equal(service.Workflow.Queue))
	w.Expect([]any{told.QueueName, told.Slots, told.MaxOutputBytes, told.LogLevel}).To(Equal([]any{queue, 8, 262144, "debug"}))
	w.Expect(told.PrivateCIDRs).To(BeEmpty())

	// Neither gets a credential that is not its own.
	all, err := json.Marshal([]any{service, told})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(string(all)).NotTo(ContainSubstring("canary"))
	w.Expect(told.Queue).To(HaveKeyWithValue("uri", "amqp://mq:secret-mq@mq.example.com:5672/tasks"))

	// The queue is there, claimed, and comes back when somebody deletes it.
	_, err = w.logins.rabbitmq.Queue(ctx, queue)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(w.logins.rabbitmq.Bound(queue+".dead", queue+".dead", queue)).To(BeTrue())
	w.Expect(w.platform("main").Annotations["itechsmart.dev/external-objects"]).To(ContainSubstring(queue))

	// Prune leaves what the Workflow controller writes.
	bindings := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-workflow-bindings", Labels: objectLabels("main", "workflow")}}
	bindings.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(w.platform("main"), v1alpha1.GroupVersion.WithKind("Platform"))}
	w.create(bindings)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Workflow.Worker.Replicas = 1 })
	w.Eventually(func() int32 {
		var d appsv1.Deployment
		w.Expect(w.get("main-workflow-worker", &d)).To(Succeed())
		return *d.Spec.Replicas
	}).Should(Equal(int32(1)))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.get("main-workflow-bindings", bindings)).To(Succeed())

	// All goes with the product.
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Workflow = nil })
	for _, name := range []string{"main-workflow", "main-workflow-worker"} {
		w.gone(name, &appsv1.Deployment{})
		w.gone(name, &corev1.ServiceAccount{})
	}
	w.gone("main-workflow-bindings", bindings)
	_, err = w.logins.rabbitmq.Queue(ctx, queue)
	w.Expect(err).NotTo(HaveOccurred(), "with Retain the queue stays")
}

func TestWorkflowWaitsForItsWorkers(t *testing.T) {
	w := newWorld(t)
	w.create(postgresSecret())
	w.create(rabbitSecret())
	w.create(workflowPlatform())
	set := func(name string, available int32) {
		w.Eventually(func() error {
			var d appsv1.Deployment
			if err := w.get(name, &d); err != nil {
				return err
			}
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: available, AvailableReplicas: available}
			return w.client.Status().Update(ctx, &d)
		}).Should(Succeed())
	}
	set("main-workflow", 1)
	set("main-workflow-worker", 0)
	w.Eventually(func() string { return w.ready("main", metav1.ConditionFalse, common.ReasonProgressing).Message }).
		Should(Equal("workflow: the rollout of the workers goes on"))
	w.Expect(w.platform("main").Status.Product("workflow").Ready).To(BeFalse())
	set("main-workflow-worker", 1)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	// An edit that concerns the workers alone rolls them alone.
	var service, worker appsv1.Deployment
	w.Expect(w.get("main-workflow", &service)).To(Succeed())
	w.Expect(w.get("main-workflow-worker", &worker)).To(Succeed())
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Workflow.Worker.Slots = 7 })
	w.ready("main", metav1.ConditionFalse, common.ReasonProgressing)
	w.Expect(w.get("main-workflow-worker-config-"+worker.Spec.Template.Annotations[annotationChecksum], &corev1.Secret{})).To(Succeed(), "a Pod that still runs may restart")
	set("main-workflow-worker", 1)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.gone("main-workflow-worker-config-"+worker.Spec.Template.Annotations[annotationChecksum], &corev1.Secret{})
	generation := service.Generation
	w.Expect(w.get("main-workflow", &service)).To(Succeed())
	w.Expect(service.Generation).To(Equal(generation))
}

func TestWorkflowSaysWhatItLacks(t *testing.T) {
	w := workflowWorld(t)
	p := workflowPlatform()
	p.Spec.Backends.RabbitMQ = nil
	w.create(p)
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(condition.Message).To(ContainSubstring("spec.products.workflow: Workflow needs RabbitMQ; add spec.backends.rabbitmq"))
	w.logins.fail("rabbitmq", backend.ErrUnavailable)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.RabbitMQ = externalAt("broker") })
	condition = w.ready("main", metav1.ConditionFalse, common.ReasonBackendUnavailable)
	w.Expect(condition.Message).To(ContainSubstring("workflow: spec.products.workflow: RabbitMQ is awaited"))
	w.Expect(w.logins.rabbitmq.Calls("EnsureQueue")).To(BeZero())

	// A queue that is not as declared is told, and left as it is.
	queue := "workflow." + w.namespace + ".main.tasks"
	w.Expect(w.logins.rabbitmq.EnsureQueue(ctx, rabbitmq.Queue{Name: queue, Durable: true})).To(Succeed())
	w.logins.fail("rabbitmq", nil)
	condition = w.ready("main", metav1.ConditionFalse, common.ReasonNotOwned)
	w.Expect(condition.Message).To(And(ContainSubstring(queue), ContainSubstring("let the queue run empty and delete it")))
	w.Expect(w.logins.rabbitmq.Calls("DeleteQueue")).To(BeZero())
	w.Expect(w.logins.rabbitmq.DeleteQueue(ctx, queue)).To(Succeed())
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Workflow.MaxOutputBytes = 2048 })
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
}

func TestWorkflowChildren(t *testing.T) {
	in := testInput(&v1alpha1.ProductSpec{Replicas: 1, ServiceMonitor: &v1alpha1.ProductServiceMonitor{Interval: metav1.Duration{Duration: time.Minute}}})
	in.kind, in.image = workflowProduct, "example.com/workflow:1.2.3"
	in.configName = "main-workflow-config-0123456789abcdef"
	in.rabbitmq = backend.Binding{Type: "rabbitmq", Provider: v1alpha1.ModeManaged, Host: "main-rabbitmq", Port: "5672"}
	s := renderService(in)
	work := renderWorker(workerInput{
		platform: in.platform, kind: workflowProduct, product: in.spec, spec: workerSpec{replicas: 2}, image: "example.com/workflow-worker:1.2.3",
		configName: "main-workflow-worker-config-0123456789abcdef", configHash: "0123456789abcdef", config: []byte("{}"),
	})
	ctrltest.Golden(t, "product-worker", append(append(s.objects(), work.objects()...), s.monitor, work.monitor)...)
}

// TestQueueOnRabbitMQ runs with a real broker, from the Platform to the end: drift is reverted, and Delete takes all along.
func TestQueueOnRabbitMQ(t *testing.T) {
	broker := servers.StartRabbitMQ(t)
	c, cfg := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, client: c, namespace: ctrltest.Namespace(t), logins: newLogins()}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	stores := w.logins.stores()
	stores.brokers = rabbitmq.New
	w.stop = ctrltest.Start(t, cfg, setup.Options{Namespaces: []string{w.namespace}, DriftInterval: time.Second},
		func(d *setup.Deps) error { return setupWith(d, w.logins.probe, stores) })
	w.keepServing()
	w.create(postgresSecret())
	w.create(binding("broker", broker.Binding.Data()))
	p := workflowPlatform()
	p.Spec.DeletionPolicy = common.DeletionDelete
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	admin, err := rabbitmq.New(broker.Binding)
	w.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // the test is over
	queue := rabbitmq.WorkQueue{Name: "workflow." + w.namespace + ".main.tasks"}
	w.Expect(queue.Ensure(ctx, admin)).To(Succeed(), "another declaration of the same finds it alike")

	w.Expect(admin.DeleteQueue(ctx, queue.Name)).To(Succeed())
	w.Expect(admin.DeleteExchange(ctx, queue.Dead())).To(Succeed())
	w.Eventually(func() error { _, err := admin.Queue(ctx, queue.Name); return err }).Should(Succeed())
	w.Eventually(func() error { return admin.Exchange(ctx, queue.Dead()) }).Should(Succeed())

	// What cannot be changed is told in the product's row, and nothing is deleted.
	w.Eventually(func() error { // until this is faster than the controller
		_ = admin.DeleteQueue(ctx, queue.Name)
		return admin.EnsureQueue(ctx, rabbitmq.Queue{Name: queue.Name, Durable: true, Type: "quorum"})
	}).Should(Succeed())
	w.Expect(w.ready("main", metav1.ConditionFalse, common.ReasonNotOwned).Message).To(ContainSubstring(queue.Name))
	w.Expect(w.platform("main").Status.Product("workflow").Message).To(ContainSubstring("RabbitMQ cannot change that"))
	_, err = admin.Queue(ctx, queue.Name)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
	for _, name := range []string{queue.Name, queue.Dead()} {
		_, err = admin.Queue(ctx, name)
		w.Expect(err).To(MatchError(backend.ErrNotFound))
	}
	w.Expect(admin.Exchange(ctx, queue.Dead())).To(MatchError(backend.ErrNotFound))
}
