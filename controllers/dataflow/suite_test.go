// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// world is one namespace with a Platform, fake backends, simulated workers and a running controller.
type world struct {
	*WithT
	t          *testing.T
	ctx        context.Context
	client     client.Client
	namespace  string
	kafka      *kafka.Fake
	clickhouse *clickhouse.Fake
	postgres   *postgres.Fake
	requests   *ctrltest.Requests
	stop       func()

	mu      sync.Mutex
	workers *config.Status // what every worker answers; nil: none answers
}

// newWorld starts a controller that compares external objects every drift, and watches the namespaces of also too.
func newWorld(t *testing.T, drift time.Duration, also ...string) *world {
	t.Helper()
	c, cfg := ctrltest.Env(t)
	counted, requests := ctrltest.Count(cfg)
	w := &world{
		WithT: NewWithT(t), t: t, ctx: t.Context(), client: c, namespace: ctrltest.Namespace(t),
		kafka: kafka.NewFake(), clickhouse: clickhouse.NewFake(), postgres: postgres.NewFake(), requests: requests,
	}
	backends := Backends{
		Kafka:      func(backend.Binding) (kafka.Admin, error) { return w.kafka, nil },
		ClickHouse: func(backend.Binding) (clickhouse.Admin, error) { return w.clickhouse, nil },
		Postgres:   func(backend.Binding) (postgres.Admin, error) { return w.postgres, nil },
	}
	w.stop = ctrltest.Start(t, counted, setup.Options{Namespaces: append(also, w.namespace), Images: images(), DriftInterval: drift},
		func(d *setup.Deps) error { return SetupWith(d, backends, w.ask) })
	return w
}

func (w *world) ask(context.Context, string) (*config.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.workers == nil {
		return nil, errors.New("no answer")
	}
	status := *w.workers
	return &status, nil
}

// platform makes a Platform whose backends are Ready, as its controller would.
func (w *world) platform(name string) {
	w.t.Helper()
	external := &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: "elsewhere"}}}
	platform := &platformv1alpha1.Platform{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec:       platformv1alpha1.PlatformSpec{Backends: platformv1alpha1.Backends{Kafka: external, ClickHouse: external}},
	}
	w.Expect(w.client.Create(w.ctx, platform)).To(Succeed())
	for _, b := range []string{platformv1alpha1.BackendKafka, platformv1alpha1.BackendClickHouse} {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: platform.BindingSecretName(b), Namespace: w.namespace, Labels: map[string]string{apply.LabelManagedBy: apply.ManagedBy}},
			StringData: map[string]string{"type": b, "host": b, "port": "1", "username": "u", "password": "canary-secret"},
		}
		w.Expect(controllerutil.SetControllerReference(platform, secret, w.client.Scheme())).To(Succeed())
		w.Expect(w.client.Create(w.ctx, secret)).To(Succeed())
		platform.Status.Backends = append(platform.Status.Backends, platformv1alpha1.BackendStatus{Name: b, Ready: true, BindingSecret: secret.Name})
	}
	w.Expect(w.client.Status().Update(w.ctx, platform)).To(Succeed())
}

// pipeline is Kafka to ClickHouse; change may alter it before it is created.
func (w *world) pipeline(name string, change ...func(*dataflowv1alpha1.Pipeline)) *dataflowv1alpha1.Pipeline {
	w.t.Helper()
	p := newPipeline(w.namespace, name)
	for _, f := range change {
		f(p)
	}
	w.Expect(w.client.Create(w.ctx, p)).To(Succeed())
	return p
}

func newPipeline(namespace, name string) *dataflowv1alpha1.Pipeline {
	return &dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: dataflowv1alpha1.PipelineSpec{
			Sources: []dataflowv1alpha1.Source{{Name: "in", Type: "kafka", Config: raw(`{"topic":"` + name + `","partitions":3}`)}},
			Sinks: []dataflowv1alpha1.Sink{{Name: "out", Type: "clickhouse", Config: raw(`{"table":"` + tableName(name) +
				`","create":true,"columns":[{"name":"id","type":"Int64"}],"orderBy":["id"]}`)}},
		},
	}
}

func tableName(name string) string { return strings.ReplaceAll(name, "-", "_") }

func raw(text string) *apiextensionsv1.JSON {
	if !json.Valid([]byte(text)) {
		panic("test gives invalid JSON: " + text)
	}
	return &apiextensionsv1.JSON{Raw: []byte(text)}
}

func (w *world) get(p *dataflowv1alpha1.Pipeline) *dataflowv1alpha1.Pipeline {
	w.t.Helper()
	var fresh dataflowv1alpha1.Pipeline
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), &fresh)).To(Succeed())
	return &fresh
}

func (w *world) edit(p *dataflowv1alpha1.Pipeline, change func(*dataflowv1alpha1.Pipeline)) {
	w.t.Helper()
	fresh := w.get(p)
	base := fresh.DeepCopy()
	change(fresh)
	w.Expect(w.client.Patch(w.ctx, fresh, client.MergeFrom(base))).To(Succeed())
}

// condition waits until a condition of the current generation has the wanted status and reason, and gives its message.
func (w *world) condition(p *dataflowv1alpha1.Pipeline, conditionType string, status metav1.ConditionStatus, reason string) string {
	w.t.Helper()
	var found *metav1.Condition
	w.Eventually(func(g Gomega) {
		var fresh dataflowv1alpha1.Pipeline
		g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), &fresh)).To(Succeed())
		found = meta.FindStatusCondition(fresh.Status.Conditions, conditionType)
		g.Expect(found).NotTo(BeNil(), "no condition %s", conditionType)
		g.Expect(found.ObservedGeneration).To(Equal(fresh.Generation))
		g.Expect(string(found.Status)+" "+found.Reason).To(Equal(string(status)+" "+reason), found.Message)
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	return found.Message
}

func (w *world) deployment(p *dataflowv1alpha1.Pipeline) *appsv1.Deployment {
	w.t.Helper()
	var d appsv1.Deployment
	w.Eventually(func() error {
		return w.client.Get(w.ctx, client.ObjectKey{Namespace: p.Namespace, Name: workerName(p)}, &d)
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	return &d
}

// settle plays the Deployment controller: all replicas are up. ok says whether the Deployment is as the caller wants it.
func (w *world) settle(p *dataflowv1alpha1.Pipeline, ok func(*appsv1.Deployment) bool) {
	w.t.Helper()
	w.Eventually(func(g Gomega) {
		var d appsv1.Deployment
		g.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: p.Namespace, Name: workerName(p)}, &d)).To(Succeed())
		g.Expect(ok == nil || ok(&d)).To(BeTrue(), "the Deployment is not as wanted yet")
		n := *d.Spec.Replicas
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		g.Expect(w.client.Status().Update(w.ctx, &d)).To(Succeed())
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
}

func (w *world) ready(p *dataflowv1alpha1.Pipeline) {
	w.t.Helper()
	w.settle(p, nil)
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
}
