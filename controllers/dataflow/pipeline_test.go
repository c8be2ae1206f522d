// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const hour = time.Hour

func TestPipelineBecomesReady(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("flights")
	w.ready(p)

	topic, err := w.kafka.Topic(w.ctx, "flights")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(topic.Partitions).To(Equal(int32(3)))
	table, err := w.clickhouse.Table(w.ctx, "default", "flights")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(table.Columns).To(HaveLen(1))

	got := w.get(p)
	w.Expect(got.Status.Phase).To(Equal(dataflowv1alpha1.PhaseRunning))
	w.Expect(got.Status.ActiveGeneration).To(Equal(got.Generation))
	w.Expect(got.Status.Selector).To(ContainSubstring("app.kubernetes.io/instance=flights"))
	w.Expect(got.Status.ExternalObjects).To(ConsistOf(
		common.ExternalObject{Kind: "Table", Name: "default.flights", Owned: true}, common.ExternalObject{Kind: "Topic", Name: "flights", Owned: true}))
	w.Expect(got.Finalizers).To(ContainElement(common.Finalizer))

	var secret corev1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: configName(p, got.Status.ConfigHash)}, &secret)).To(Succeed())
	var cfg config.Pipeline
	w.Expect(json.Unmarshal(secret.Data[config.FileName], &cfg)).To(Succeed())
	w.Expect(cfg.Connections[cfg.Sources[0].Connection]).To(HaveKeyWithValue("password", "canary-secret"))
	data, err := json.Marshal(got)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(string(data)).NotTo(ContainSubstring("canary-secret"))
}

func TestSteadyStateWritesAndReadsNothing(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("steady")
	w.ready(p)
	w.stop()

	// A fresh manager looks at all again: it must find nothing to do.
	fresh := restart(w)
	var marker dataflowv1alpha1.Pipeline
	marker.Namespace, marker.Name = w.namespace, "marker"
	marker.Spec = *newPipeline(w.namespace, "marker").Spec.DeepCopy()
	w.Expect(w.client.Create(w.ctx, &marker)).To(Succeed())
	w.settle(&marker, nil)
	w.condition(&marker, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
	for _, write := range fresh.Writes() {
		w.Expect(write).To(ContainSubstring("marker"), "a steady state must cost no write")
	}
	for _, read := range fresh.Reads() {
		w.Expect(read).NotTo(ContainSubstring("/steady"), "a steady state must cost no live read")
	}
}

func TestDriftIsReverted(t *testing.T) {
	w := newWorld(t, time.Second)
	w.platform("main")
	p := w.pipeline("drift")
	w.ready(p)

	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: workerName(p), Namespace: w.namespace}}
	w.Expect(w.client.Delete(w.ctx, service)).To(Succeed())
	w.Eventually(func() error { return w.client.Get(w.ctx, client.ObjectKeyFromObject(service), &corev1.Service{}) }, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())

	d := w.deployment(p)
	base := d.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "somebody:else"
	w.Expect(w.client.Patch(w.ctx, d, client.MergeFrom(base))).To(Succeed())
	w.Eventually(func() string { return w.deployment(p).Spec.Template.Spec.Containers[0].Image }, ctrltest.Timeout, ctrltest.Interval).Should(Equal(images().Of(workerProgram)))
	w.ready(p)

	w.Expect(w.kafka.DeleteTopic(w.ctx, "drift")).To(Succeed())
	w.Eventually(func() error { _, err := w.kafka.Topic(w.ctx, "drift"); return err }, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	w.Expect(w.clickhouse.DropTable(w.ctx, "default", "drift")).To(Succeed())
	w.Eventually(func() error { _, err := w.clickhouse.Table(w.ctx, "default", "drift"); return err }, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
}

func TestEditRollsOutAndEvolves(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("edit")
	w.ready(p)
	before := w.get(p).Status.ConfigHash

	w.edit(p, func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].Config = raw(`{"topic":"edit","partitions":6}`)
		p.Spec.Sinks[0].Config = raw(`{"table":"edit","create":true,"columns":[{"name":"id","type":"Int64"},{"name":"name","type":"String"}],"orderBy":["id"]}`)
	})
	w.settle(p, func(d *appsv1.Deployment) bool { return d.Annotations[annotationConfigHash] != before })
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)

	topic, err := w.kafka.Topic(w.ctx, "edit")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(topic.Partitions).To(Equal(int32(6)))
	table, err := w.clickhouse.Table(w.ctx, "default", "edit")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(table.Columns).To(HaveLen(2))
	w.Eventually(func() bool {
		err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: configName(p, before)}, &corev1.Secret{})
		return apierrors.IsNotFound(err)
	}, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue(), "the old configuration is removed after the roll-out")
}

func TestPauseAndScale(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("pause")
	w.ready(p)
	w.edit(p, func(p *dataflowv1alpha1.Pipeline) { p.Spec.Paused = true })
	w.settle(p, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 0 })
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, dataflowv1alpha1.ReasonPaused)
	w.Expect(w.get(p).Status.Phase).To(Equal(dataflowv1alpha1.PhasePaused))
	w.edit(p, func(p *dataflowv1alpha1.Pipeline) { p.Spec.Paused, p.Spec.Replicas = false, ptr.To[int32](3) })
	w.settle(p, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 3 })
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.get(p).Status.Replicas).To(Equal(int32(3)))
}

func TestFailingTestKeepsTheRunningGeneration(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("gated")
	w.ready(p)
	running := w.deployment(p).Spec.Template.Annotations[annotationConfigHash]

	w.edit(p, func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Batching.Count = 7
		p.Spec.Tests = []dataflowv1alpha1.Test{{Name: "same", Input: []apiJSON{*raw(`{"a":1}`)}, Expect: []apiJSON{*raw(`{"a":2}`)}}}
	})
	w.condition(p, dataflowv1alpha1.ConditionConfigValid, metav1.ConditionUnknown, dataflowv1alpha1.ReasonTestsRunning)
	job := w.onlyJob()
	w.failJob(job, `{"ok":false,"failures":[{"test":"same","message":"record 0: /a: want 2, got 1"}]}`)
	message := w.condition(p, dataflowv1alpha1.ConditionConfigValid, metav1.ConditionFalse, dataflowv1alpha1.ReasonTestFailed)
	w.Expect(message).To(ContainSubstring("spec.tests[same]: record 0: /a: want 2, got 1"))
	w.Expect(w.deployment(p).Spec.Template.Annotations[annotationConfigHash]).To(Equal(running))
	got := w.get(p)
	w.Expect(got.Status.ActiveGeneration).To(BeNumerically("<", got.Generation))

	w.edit(p, func(p *dataflowv1alpha1.Pipeline) { p.Spec.Tests[0].Expect[0] = *raw(`{"a":1}`) })
	w.Eventually(func(g Gomega) {
		var jobs batchv1.JobList
		g.Expect(w.client.List(w.ctx, &jobs, client.InNamespace(w.namespace))).To(Succeed())
		done := false
		for i := range jobs.Items {
			if jobs.Items[i].Name != job.Name {
				w.completeJob(&jobs.Items[i])
				done = true
			}
		}
		g.Expect(done).To(BeTrue())
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	w.settle(p, func(d *appsv1.Deployment) bool { return d.Spec.Template.Annotations[annotationConfigHash] != running })
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
}

func TestDeletion(t *testing.T) {
	for _, policy := range []common.DeletionPolicy{common.DeletionRetain, common.DeletionDelete} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t, hour)
			w.platform("main")
			w.Expect(w.clickhouse.EnsureDatabase(w.ctx, "default")).To(Succeed())
			w.Expect(w.clickhouse.CreateTable(w.ctx, clickhouse.Table{
				Database: "default", Name: "gone", Columns: []clickhouse.Column{{Name: "id", Type: "Int64"}}, Engine: "MergeTree", OrderBy: "id",
			})).To(Succeed())
			p := w.pipeline("gone", func(p *dataflowv1alpha1.Pipeline) { p.Spec.DeletionPolicy = policy })
			w.ready(p)
			w.Expect(w.client.Delete(w.ctx, p)).To(Succeed())
			w.Eventually(func() bool {
				return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), &dataflowv1alpha1.Pipeline{}))
			}, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
			_, err := w.kafka.Topic(w.ctx, "gone")
			w.Expect(errors.Is(err, backend.ErrNotFound)).To(Equal(policy == common.DeletionDelete))
			_, err = w.clickhouse.Table(w.ctx, "default", "gone")
			w.Expect(err).NotTo(HaveOccurred(), "a table that the Pipeline found is never dropped")
		})
	}
}

func TestDeletionWithoutPlatformIsNotHeldUp(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("orphan", func(p *dataflowv1alpha1.Pipeline) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.ready(p)
	w.Expect(w.client.DeleteAllOf(w.ctx, platformObject(), client.InNamespace(w.namespace))).To(Succeed())
	w.Expect(w.client.Delete(w.ctx, p)).To(Succeed())
	w.Eventually(func() bool {
		return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), &dataflowv1alpha1.Pipeline{}))
	}, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
}

func TestOlderPipelineWins(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	first := w.pipeline("first")
	w.ready(first)
	ctrltest.Outlast(t, first)
	second := w.pipeline("second", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].Config = raw(`{"topic":"first","partitions":9}`)
	})
	message := w.condition(second, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(message).To(ContainSubstring("spec.sources[0].config"))
	w.Expect(message).To(ContainSubstring(w.namespace + "/first"))
	topic, err := w.kafka.Topic(w.ctx, "first")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(topic.Partitions).To(Equal(int32(3)))

	collides := w.pipeline("collides", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].Config = raw(`{"topic":"a.b","partitions":1}`)
	})
	w.ready(collides)
	ctrltest.Outlast(t, collides)
	late := w.pipeline("late", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].Config = raw(`{"topic":"a_b","partitions":1}`)
	})
	w.Expect(w.condition(late, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)).To(ContainSubstring("collides"))

	// When the older one goes, the younger takes over without being touched.
	w.Expect(w.client.Delete(w.ctx, collides)).To(Succeed())
	w.Expect(w.kafka.DeleteTopic(w.ctx, "a.b")).To(Succeed())
	w.ready(late)
}

func TestOlderTableWins(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	one := w.pipeline("one")
	w.ready(one)
	ctrltest.Outlast(t, one)
	two := w.pipeline("two", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sinks[0].Config = raw(`{"table":"one","create":true,"columns":[{"name":"id","type":"String"}],"orderBy":["id"]}`)
	})
	message := w.condition(two, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(message).To(ContainSubstring("spec.sinks[0].config"))
	w.Expect(message).To(ContainSubstring(w.namespace + "/one"))
	table, err := w.clickhouse.Table(w.ctx, "default", "one")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(table.Columns[0].Type).To(Equal("Int64"))
}

func TestBadInputIsNamed(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	w.Expect(w.kafka.CreateTopic(w.ctx, kafka.Topic{Name: "theirs", Partitions: 8})).To(Succeed())
	w.Expect(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "half", Namespace: w.namespace}, StringData: map[string]string{"type": "kafka", "username": "u"},
	})).To(Succeed())
	for name, test := range map[string]struct {
		change func(*dataflowv1alpha1.PipelineSpec)
		reason string
		says   string
	}{
		"unknown-connector": {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Type = "kafak" }, common.ReasonInvalidSpec, "spec.sources[0].type"},
		"unknown-key":       {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Config = raw(`{"topic":"x","topik":1}`) }, common.ReasonInvalidSpec, "topik"},
		"dotdot":            {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Config = raw(`{"topic":".."}`) }, common.ReasonInvalidSpec, "spec.sources[0].config.topic"},
		"slash":             {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Config = raw(`{"topic":"a/b"}`) }, common.ReasonInvalidSpec, "spec.sources[0].config.topic"},
		"injection": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Sinks[0].Config = raw(`{"table":"x; DROP DATABASE default"}`)
		}, common.ReasonInvalidSpec, "spec.sinks[0].config.table"},
		"cel-syntax": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Transforms = []dataflowv1alpha1.Transform{{Name: "f", Type: "filter", When: "this.a >"}}
		}, common.ReasonInvalidSpec, "spec.transforms[0].when"},
		"cel-type": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Transforms = []dataflowv1alpha1.Transform{{Name: "f", Type: "filter", When: "'text'"}}
		}, common.ReasonInvalidSpec, "spec.transforms[0].when"},
		"no-topic":  {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Config = raw(`{"topic":"absent"}`) }, common.ReasonReferenceNotFound, `topic "absent" does not exist`},
		"not-owned": {func(s *dataflowv1alpha1.PipelineSpec) { s.Sources[0].Config = raw(`{"topic":"theirs","partitions":2}`) }, common.ReasonNotOwned, "spec.sources[0].config.partitions"},
		"no-secret": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Sources[0].ConnectionRef = &common.ConnectionReference{Name: "absent"}
		}, common.ReasonReferenceNotFound, "spec.sources[0].connectionRef"},
		"secret-lacks-key": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Sources[0].ConnectionRef = &common.ConnectionReference{Name: "half"}
		}, common.ReasonInvalidSpec, `lacks key "bootstrap-servers"`},
		"no-backend": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Sinks[0] = dataflowv1alpha1.Sink{Name: "out", Type: "postgres", Config: raw(`{"table":"t"}`)}
		}, common.ReasonReferenceNotFound, "spec.backends.postgresql"},
		"elsewhere": {func(s *dataflowv1alpha1.PipelineSpec) {
			s.Sources[0].ConnectionRef = &common.ConnectionReference{Name: "x", Namespace: "default"}
		}, common.ReasonReferenceNotGranted, "ReferenceGrant"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{WithT: NewWithT(t), t: t, ctx: t.Context(), client: w.client, namespace: w.namespace}
			p := w.pipeline(name, func(p *dataflowv1alpha1.Pipeline) { test.change(&p.Spec) })
			message := w.condition(p, common.ConditionReady, metav1.ConditionFalse, test.reason)
			w.Expect(message).To(ContainSubstring(test.says))
			var deployments appsv1.DeploymentList
			w.Expect(w.client.List(w.ctx, &deployments, client.InNamespace(w.namespace), client.MatchingLabels(workerLabels(p)))).To(Succeed())
			w.Expect(deployments.Items).To(BeEmpty(), "nothing runs")
		})
	}
}

func TestPostgresTableIsMadeAndEvolves(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	w.Expect(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "pg", Namespace: w.namespace},
		StringData: map[string]string{"type": "postgresql", "host": "pg", "port": "5432", "username": "u", "password": "canary-secret"},
	})).To(Succeed())
	table := func(columns string) *apiJSON {
		return raw(`{"table":"people","create":true,"columns":[` + columns + `],"primaryKey":["id"],"conflictKeys":["id"]}`)
	}
	const id, name = `{"name":"id","type":"bigint","notNull":true}`, `{"name":"name","type":"text"}`
	p := w.pipeline("people", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sinks[0] = dataflowv1alpha1.Sink{Name: "out", Type: "postgres", ConnectionRef: &common.ConnectionReference{Name: "pg"}, Config: table(id)}
	})
	w.ready(p)
	made, err := w.postgres.Table(w.ctx, "public", "people")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(made.Columns).To(HaveLen(1))

	before := w.get(p).Status.ConfigHash
	w.edit(p, func(p *dataflowv1alpha1.Pipeline) { p.Spec.Sinks[0].Config = table(id + "," + name) })
	w.settle(p, func(d *appsv1.Deployment) bool { return d.Annotations[annotationConfigHash] != before })
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
	made, err = w.postgres.Table(w.ctx, "public", "people")
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(made.Columns).To(HaveLen(2))

	w.edit(p, func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sinks[0].Config = table(`{"name":"id","type":"text","notNull":true},` + name)
	})
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, dataflowv1alpha1.ReasonIncompatibleTable)
}

func TestBlockedPipelineSaysSo(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("blocked")
	w.ready(p)
	w.mu.Lock()
	w.workers = &config.Status{Ready: true, Lag: -1, LastError: "transform cast: field id: not a number"}
	w.mu.Unlock()
	w.runningPod(p)
	message := w.condition(p, common.ConditionReady, metav1.ConditionFalse, dataflowv1alpha1.ReasonBlocked)
	w.Expect(message).To(ContainSubstring("transform cast: field id: not a number"))
}

func TestPartitionsDecreased(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("shrink")
	w.ready(p)
	w.edit(p, func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].Config = raw(`{"topic":"shrink","partitions":1}`)
	})
	w.Expect(w.condition(p, common.ConditionReady, metav1.ConditionFalse, dataflowv1alpha1.ReasonPartitionsDecreased)).To(ContainSubstring("spec.sources[0].config.partitions"))
	w.condition(p, dataflowv1alpha1.ConditionExternalObjectsReady, metav1.ConditionFalse, dataflowv1alpha1.ReasonPartitionsDecreased)
}

func TestSecretArrivesAndGrantOpens(t *testing.T) {
	other := ctrltest.Namespace(t)
	w := newWorld(t, hour, other)
	w.platform("main")
	p := w.pipeline("waits", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].ConnectionRef = &common.ConnectionReference{Name: "creds"}
	})
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "creds", Namespace: w.namespace},
		StringData: map[string]string{"type": "kafka", "host": "kafka", "port": "9092"},
	})).To(Succeed())
	w.ready(p)

	w.Expect(w.client.Create(w.ctx, &gatewayv1beta1.ReferenceGrant{
		ObjectMeta: metav1.ObjectMeta{Name: "dataflow", Namespace: other},
		Spec: gatewayv1beta1.ReferenceGrantSpec{
			From: []gatewayv1beta1.ReferenceGrantFrom{{Group: gatewayv1.Group(dataflowv1alpha1.GroupVersion.Group), Kind: "Pipeline", Namespace: gatewayv1.Namespace(w.namespace)}},
			To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
		},
	})).To(Succeed())
	q := w.pipeline("granted", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].ConnectionRef = &common.ConnectionReference{Name: "creds", Namespace: other}
	})
	// With the grant, the Secret itself is missing.
	w.Expect(w.condition(q, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).To(ContainSubstring(other + "/creds"))
}

func TestWorkersAreReported(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("reported")
	w.ready(p)
	w.mu.Lock()
	w.workers = &config.Status{
		Ready: true, InPerSecond: 99.6, OutPerSecond: 50, Lag: 100000, Records: config.Records{In: 10, Out: 8, DeadLettered: 2},
		Sources: []config.Component{{Name: "in", Type: "kafka", State: config.StateConnected}},
		Sinks:   []config.Component{{Name: "out", Type: "clickhouse", State: config.StateRetrying, LastError: "connection refused"}},
	}
	w.mu.Unlock()
	w.runningPod(p)
	message := w.condition(p, common.ConditionReady, metav1.ConditionFalse, dataflowv1alpha1.ReasonRetrying)
	w.Expect(message).To(Equal("out (clickhouse): connection refused"))
	w.condition(p, dataflowv1alpha1.ConditionSinksConnected, metav1.ConditionFalse, dataflowv1alpha1.ReasonRetrying)
	w.condition(p, dataflowv1alpha1.ConditionSourcesConnected, metav1.ConditionTrue, dataflowv1alpha1.ReasonConnected)
	w.condition(p, dataflowv1alpha1.ConditionDeadLettering, metav1.ConditionTrue, dataflowv1alpha1.ConditionDeadLettering)
	w.condition(p, dataflowv1alpha1.ConditionLagging, metav1.ConditionTrue, dataflowv1alpha1.ConditionLagging)
	got := w.get(p)
	w.Expect(got.Status.Throughput).To(Equal(dataflowv1alpha1.Throughput{In: 100, Out: 50}))
	w.Expect(*got.Status.Lag).To(Equal(int64(100000)))
	w.Expect(got.Status.Phase).To(Equal(dataflowv1alpha1.PhaseDegraded))
}

func TestUnreadableClaimsAreKept(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("tampered", func(p *dataflowv1alpha1.Pipeline) {
		p.Annotations = map[string]string{external.AnnotationClaims: "{"}
	})
	message := w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(strings.Contains(message, external.AnnotationClaims)).To(BeTrue(), message)
}
