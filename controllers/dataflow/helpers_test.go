// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"testing"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

type apiJSON = apiextensionsv1.JSON

func platformObject() client.Object { return &platformv1alpha1.Platform{} }

// images of the tests' workers.
func images() setup.Images {
	return setup.Images{Overrides: map[string]string{workerProgram: "worker:test"}}
}

// restart starts a second manager over the same world, with a count of its own.
func restart(w *world) *ctrltest.Requests {
	w.t.Helper()
	_, cfg := ctrltest.Env(w.t)
	counted, requests := ctrltest.Count(cfg)
	backends := Backends{
		Kafka:      func(backend.Binding) (kafka.Admin, error) { return w.kafka, nil },
		ClickHouse: func(backend.Binding) (clickhouse.Admin, error) { return w.clickhouse, nil },
		Postgres:   func(backend.Binding) (postgres.Admin, error) { return w.postgres, nil },
	}
	ctrltest.Start(w.t, counted, setup.Options{Namespaces: []string{w.namespace}, Images: images(), DriftInterval: hour},
		func(d *setup.Deps) error { return SetupWith(d, backends, w.ask) })
	return requests
}

func (w *world) onlyJob() *batchv1.Job {
	w.t.Helper()
	var jobs batchv1.JobList
	w.Eventually(func(g Gomega) {
		g.Expect(w.client.List(w.ctx, &jobs, client.InNamespace(w.namespace))).To(Succeed())
		g.Expect(jobs.Items).To(HaveLen(1))
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	return &jobs.Items[0]
}

// failJob plays the Job controller and a worker that wrote a termination message.
func (w *world) failJob(job *batchv1.Job, message string) {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: job.Name + "-0", Namespace: job.Namespace, Labels: map[string]string{"batch.kubernetes.io/job-name": job.Name}},
		Spec:       job.Spec.Template.Spec,
	}
	for key, value := range job.Spec.Template.Labels {
		pod.Labels[key] = value
	}
	w.Expect(w.client.Create(w.ctx, pod)).To(Succeed())
	pod.Status.Phase = corev1.PodFailed
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: containerName, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: message}},
	}}
	w.Expect(w.client.Status().Update(w.ctx, pod)).To(Succeed())
	w.finishJob(job, batchv1.JobFailureTarget, batchv1.JobFailed)
}

func (w *world) completeJob(job *batchv1.Job) {
	w.t.Helper()
	w.finishJob(job, batchv1.JobSuccessCriteriaMet, batchv1.JobComplete)
}

func (w *world) finishJob(job *batchv1.Job, types ...batchv1.JobConditionType) {
	w.t.Helper()
	now := metav1.Now()
	job.Status.StartTime = &now
	for _, conditionType := range types {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: conditionType, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	if types[len(types)-1] == batchv1.JobComplete {
		job.Status.CompletionTime, job.Status.Succeeded = &now, 1
	} else {
		job.Status.Failed = 1
	}
	w.Expect(w.client.Status().Update(w.ctx, job)).To(Succeed())
}

// runningPod plays the kubelet: a worker runs and has an address.
func (w *world) runningPod(p *dataflowv1alpha1.Pipeline) {
	w.t.Helper()
	template := w.deployment(p).Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name + "-worker", Namespace: p.Namespace, Labels: template.Labels}, Spec: template.Spec}
	w.Expect(w.client.Create(w.ctx, pod)).To(Succeed())
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}}
	w.Expect(w.client.Status().Update(w.ctx, pod)).To(Succeed())
}

// TestAPI has an accept and a reject case for each rule of the Pipeline's schema.
func TestAPI(t *testing.T) {
	w := &world{WithT: NewWithT(t), t: t, ctx: t.Context(), namespace: ctrltest.Namespace(t)}
	w.client, _ = ctrltest.Env(t)
	for name, test := range map[string]struct {
		change func(*dataflowv1alpha1.Pipeline)
		says   string // "" means accepted
	}{
		"plain":             {func(*dataflowv1alpha1.Pipeline) {}, ""},
		"replicas negative": {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Replicas = ptr.To[int32](-1) }, "spec.replicas"},
		"replicas huge":     {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Replicas = ptr.To[int32](1_000_000) }, "spec.replicas"},
		"replicas zero":     {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Replicas = ptr.To[int32](0) }, ""},
		"no sources":        {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Sources = nil }, "spec.sources"},
		"no sinks":          {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Sinks = nil }, "spec.sinks"},
		"same name twice":   {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Sinks = append(p.Spec.Sinks, p.Spec.Sinks[0]) }, "spec.sinks[1]"},
		"delivery":          {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Delivery = "ExactlyOnce" }, "spec.delivery"},
		"group":             {func(p *dataflowv1alpha1.Pipeline) { p.Spec.ConsumerGroup = "a/b" }, "spec.consumerGroup"},
		"group good":        {func(p *dataflowv1alpha1.Pipeline) { p.Spec.ConsumerGroup = "a-b" }, ""},
		"dead letter":       {func(p *dataflowv1alpha1.Pipeline) { p.Spec.DeadLetter = &dataflowv1alpha1.DeadLetter{Topic: ".."} }, "spec.deadLetter.topic"},
		"dead letter good": {func(p *dataflowv1alpha1.Pipeline) {
			p.Spec.DeadLetter, p.Spec.Sinks[0].OnError = &dataflowv1alpha1.DeadLetter{Topic: "dead"}, "DeadLetter"
		}, ""},
		"sink without dead letter": {func(p *dataflowv1alpha1.Pipeline) { p.Spec.Sinks[0].OnError = "DeadLetter" }, "spec.deadLetter"},
		"transform without dead letter": {func(p *dataflowv1alpha1.Pipeline) {
			p.Spec.Transforms = []dataflowv1alpha1.Transform{{Name: "f", Type: "filter", When: "true", OnError: "DeadLetter"}}
		}, "spec.deadLetter"},
		"long name": {func(p *dataflowv1alpha1.Pipeline) { p.Name = "a123456789012345678901234567890123456789012345678901234" }, "at most 52"},
		"deletion":  {func(p *dataflowv1alpha1.Pipeline) { p.Spec.DeletionPolicy = "Maybe" }, "spec.deletionPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			p := newPipeline(w.namespace, "api")
			p.GenerateName, p.Name = "api-", ""
			test.change(p)
			err := w.client.Create(w.ctx, p)
			if test.says == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(test.says)))
		})
	}
	t.Run("immutable", func(t *testing.T) {
		g := NewWithT(t)
		p := newPipeline(w.namespace, "immutable")
		g.Expect(w.client.Create(w.ctx, p)).To(Succeed())
		p.Spec.ConsumerGroup = "another"
		g.Expect(w.client.Update(w.ctx, p)).To(MatchError(ContainSubstring("spec.consumerGroup")))
		p.Spec.ConsumerGroup, p.Spec.Paused = "", true
		g.Expect(w.client.Update(w.ctx, p)).To(Succeed())
	})
}
