// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/internal/backend/s3"
	serviceconfig "github.com/itechsmart/operator/workloads/workflow/config"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

const worker = "workflow-worker"

// serviceCell returns a namespace with a Platform, and a manager of its Workflow service.
func serviceCell(t *testing.T) (*platformtest.World, *platformtest.Platform) {
	t.Helper()
	w := platformtest.NewWorld(t)
	p := platformtest.New(t, w.Client, w.Namespace, nil, platformv1alpha1.BackendPostgreSQL, platformv1alpha1.BackendRabbitMQ)
	w.Start(serviceType)
	return w, p
}

func specOf(o service.Object) *workflowv1alpha1.WorkflowServiceSpec {
	return &o.(*workflowv1alpha1.WorkflowService).Spec
}

func queueName(w *platformtest.World) string { return "workflow." + w.Namespace + ".main.tasks" }

// workerConfig returns the configuration of the live worker, by the reader that it uses.
func workerConfig(t *testing.T, w *platformtest.World) *config.Worker {
	t.Helper()
	dir := t.TempDir()
	w.Expect(os.WriteFile(filepath.Join(dir, config.FileName), w.File(worker, config.FileName), 0o600)).To(Succeed())
	cfg, unknown, err := config.Load(dir)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(unknown).To(BeEmpty())
	return cfg
}

func TestServiceAndWorkers(t *testing.T) {
	w, p := serviceCell(t)
	w.Serve()
	o := w.Service(serviceType, "mine", func(o service.Object) {
		specOf(o).Worker.Replicas, specOf(o).Worker.Slots, specOf(o).LogLevel = 2, 8, "debug"
	})
	w.Succeeds(o)
	cfg, worked := w.Config("workflow"), workerConfig(t, w)
	var settings serviceconfig.Settings
	w.Expect(json.Unmarshal(cfg.Settings, &settings)).To(Succeed())
	w.Expect(settings.MaxOutputBytes).To(Equal(256 << 10))
	w.Expect(cfg.Queue.Name).To(Equal(queueName(w)))
	w.Expect(cfg.Queue.Binding).To(HaveKeyWithValue("uri", "amqp://mq:secret-mq@mq.example.com:5672/tasks"))

	// The worker has the service's schema, and connections of its own.
	w.Expect(worked.Database.Schema).To(Equal(cfg.Database.Schema))
	w.Expect(worked.Database.Binding).To(Equal(cfg.Database.Binding))
	w.Expect(worked.Database.MaxConnections).To(Equal(int32(25)))
	w.Expect(worked.Queue).To(Equal(cfg.Queue.Binding))
	w.Expect([]any{worked.QueueName, worked.Slots, worked.MaxOutputBytes, worked.LogLevel}).To(Equal([]any{queueName(w), 8, 256 << 10, "debug"}))
	w.Expect(worked.PrivateCIDRs).To(BeEmpty())
	w.Expect(w.RabbitMQ.Bound(queueName(w)+".dead", queueName(w)+".dead", queueName(w))).To(BeTrue())

	// Prune leaves what the Workflow controller writes.
	labels := map[string]string{apply.LabelManagedBy: apply.ManagedBy, common.LabelPlatform: "main", common.LabelComponent: "workflow"}
	bindings := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-workflow-bindings", Labels: labels}}
	bindings.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(o, workflowv1alpha1.GroupVersion.WithKind("WorkflowService"))}
	w.Create(bindings)
	w.Edit(o, func() { specOf(o).Worker.Replicas = 1 })
	w.Succeeds(o)
	w.Expect(*w.Deployment(worker).Spec.Replicas).To(Equal(int32(1)))
	w.Expect(w.Get(bindings.Name, bindings)).To(Succeed())

	// Above 8 MiB an output needs a bucket.
	w.Edit(o, func() { specOf(o).MaxOutputBytes = largestInDatabase + 1 })
	w.Says(o, common.ReasonInvalidSpec, "spec.maxOutputBytes: above 8388608 (8 MiB) outputs are kept in object storage; add spec.backends.objectStorage to Platform main")
	p.Add(platformv1alpha1.BackendObjectStorage, "")
	w.Succeeds(o)
	w.Expect(workerConfig(t, w).MaxOutputBytes).To(Equal(largestInDatabase + 1))
}

// TestServiceWaitsForItsWorkers: it is Ready when both are, and an edit that concerns the workers alone rolls them alone.
func TestServiceWaitsForItsWorkers(t *testing.T) {
	w, _ := serviceCell(t)
	o := w.Service(serviceType, "mine")
	w.Roll("workflow", 1, 1)
	w.Roll(worker, 0, 1)
	w.Says(o, common.ReasonProgressing, "the rollout of the workers goes on")
	w.Roll(worker, 1, 1)
	w.Succeeds(o)

	before := w.Deployment("workflow")
	first := w.Deployment(worker).Spec.Template.Spec.Volumes[0].Secret.SecretName
	w.Edit(o, func() { specOf(o).Worker.Slots = 7 })
	w.Ready(o, metav1.ConditionFalse, common.ReasonProgressing)
	w.Expect(w.Get(first, &corev1.Secret{})).To(Succeed(), "a Pod that still runs may restart")
	w.Roll(worker, 1, 1)
	w.Succeeds(o)
	w.Gone(first, &corev1.Secret{})
	w.Expect(w.Deployment("workflow").ResourceVersion).To(Equal(before.ResourceVersion))
}

// TestMoreWorkersRestartNothing: they share the connections of a managed server again.
func TestMoreWorkersRestartNothing(t *testing.T) {
	w := platformtest.NewWorld(t)
	platformtest.New(t, w.Client, w.Namespace, func(p *platformv1alpha1.Platform) {
		p.Spec.Backends.PostgreSQL = &platformv1alpha1.Backend{Managed: &platformv1alpha1.ManagedBackend{}}
	}, platformv1alpha1.BackendPostgreSQL, platformv1alpha1.BackendRabbitMQ)
	w.Serve()
	w.Start(serviceType)
	o := w.Service(serviceType, "mine")
	w.Succeeds(o)
	before, service, pool := w.Deployment(worker), w.Deployment("workflow"), workerConfig(t, w).Database.MaxConnections
	w.Edit(o, func() { specOf(o).Worker.Replicas = 3 })
	w.Succeeds(o)
	w.Expect(*w.Deployment(worker).Spec.Replicas).To(Equal(int32(3)))
	w.Expect(w.Deployment(worker).Spec.Template).To(Equal(before.Spec.Template))
	w.Expect(w.Deployment("workflow").ResourceVersion).To(Equal(service.ResourceVersion))
	w.Expect(workerConfig(t, w).Database.MaxConnections).To(BeNumerically("<", pool))
	w.Edit(o, func() { specOf(o).Worker.Replicas = 40 })
	w.Says(o, common.ReasonInvalidSpec, "spec.worker.replicas: 40 replicas need ")
}

// TestTheQueueIsAnothers: a queue that differs is reported, and not changed.
func TestTheQueueIsAnothers(t *testing.T) {
	w, p := serviceCell(t)
	w.Serve()
	p.Backend(platformv1alpha1.BackendRabbitMQ, "it is away")
	o := w.Service(serviceType, "mine")
	w.Says(o, common.ReasonReferenceNotReady, "RabbitMQ of Platform main is not Ready: it is away")
	w.Expect(w.RabbitMQ.Calls("EnsureQueue")).To(BeZero())

	queue := queueName(w)
	w.Expect(w.RabbitMQ.EnsureQueue(t.Context(), rabbitmq.Queue{Name: queue, Durable: true})).To(Succeed())
	p.Backend(platformv1alpha1.BackendRabbitMQ, "")
	w.Says(o, common.ReasonNotOwned, "let the queue run empty and delete it")
	w.Says(o, common.ReasonNotOwned, queue)
	w.Expect(w.RabbitMQ.Calls("DeleteQueue")).To(BeZero())
	w.Expect(w.RabbitMQ.DeleteQueue(t.Context(), queue)).To(Succeed())
	w.Edit(o, func() { specOf(o).MaxOutputBytes = 2048 })
	w.Succeeds(o)
}

// TestTheBucketIsUsed: service and workers get what they reach it with; another key is another rollout, and without the bucket
// they do without.
func TestTheBucketIsUsed(t *testing.T) {
	w, p := serviceCell(t)
	w.Serve()
	o := w.Service(serviceType, "mine")
	w.Succeeds(o)
	w.Expect(w.Config("workflow").Objects).To(BeNil())
	p.Add(platformv1alpha1.BackendObjectStorage, "it is away")
	w.Says(o, common.ReasonReferenceNotReady, "Object storage of Platform main is not Ready: it is away")
	w.Expect(w.Config("workflow").Objects).To(BeNil(), "nothing is written to where it cannot be read")
	p.Backend(platformv1alpha1.BackendObjectStorage, "")
	w.Succeeds(o)
	w.Expect(w.Config("workflow").Objects).To(And(HaveKeyWithValue("secret-key", "secret-s3"), Not(HaveKey("administrator-token"))))
	w.Expect(workerConfig(t, w).Objects).To(Equal(w.Config("workflow").Objects))
	_, err := s3.Open(backend.ParseBinding(workerConfig(t, w).Objects))
	w.Expect(err).NotTo(HaveOccurred())

	before := w.Deployment(worker)
	p.Bind(platformv1alpha1.BackendObjectStorage, map[string]string{"secret-key": "secret-s4"})
	w.Eventually(func() []string {
		return []string{w.Config("workflow").Objects["secret-key"], workerConfig(t, w).Objects["secret-key"]}
	}).Should(Equal([]string{"secret-s4", "secret-s4"}))
	w.Expect(w.Deployment(worker).Spec.Template.Annotations).NotTo(Equal(before.Spec.Template.Annotations))
	p.Edit(func(live *platformv1alpha1.Platform) { live.Spec.Backends.ObjectStorage = nil })
	w.Eventually(func() map[string]string { return w.Config("workflow").Objects }).Should(BeNil())
	w.Eventually(func() map[string]string { return workerConfig(t, w).Objects }).Should(BeNil())
	w.Succeeds(o)
}

// TestAllGoesWithTheService: service and workers stop before anything else, and what the Workflow controller wrote is owned.
func TestAllGoesWithTheService(t *testing.T) {
	w, _ := serviceCell(t)
	w.Serve()
	o := w.Service(serviceType, "mine")
	w.Succeeds(o)
	w.Delete(o)
	w.Gone("mine", o)
	w.Collect(o)
	for _, name := range []string{"main-workflow", "main-workflow-worker"} {
		w.Gone(name, &appsv1.Deployment{})
		w.Gone(name, &corev1.ServiceAccount{})
	}
	_, err := w.RabbitMQ.Queue(t.Context(), queueName(w))
	w.Expect(err).NotTo(HaveOccurred(), "with Retain the queue stays")
}
