// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/internal/backend"
)

// install makes CRDs of the other operators' names that accept any content: their own cannot be had from a Go module.
// They stay until the test server stops.
func install(t *testing.T, kinds ...dynamic.Kind) {
	t.Helper()
	_, cfg := ctrltest.Env(t)
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, kind := range kinds {
		plural := strings.ToLower(kind.Kind) + "s"
		crds = append(crds, &apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: plural + "." + kind.Group},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: kind.Group, Scope: apiextensionsv1.NamespaceScoped,
				Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Kind: kind.Kind, ListKind: kind.Kind + "List", Singular: strings.ToLower(kind.Kind)},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
					Name: kind.Versions[0], Served: true, Storage: true,
					Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
					Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
						Type: "object", XPreserveUnknownFields: ptr.To(true),
					}},
				}},
			},
		})
	}
	if _, err := envtest.InstallCRDs(cfg, envtest.CRDInstallOptions{CRDs: crds}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) resource(group, version, kind, name string) *unstructured.Unstructured {
	w.t.Helper()
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
	w.Eventually(func() error { return w.get(name, obj) }).Should(Succeed())
	return obj
}

// report writes a status as the other operator does.
func (w *world) report(obj *unstructured.Unstructured, status map[string]any) {
	w.t.Helper()
	w.Eventually(func() error {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		obj.Object["status"] = status
		return w.client.Status().Update(ctx, obj)
	}).Should(Succeed())
}

func condition(kind, status, message string) map[string]any {
	return map[string]any{"type": kind, "status": status, "message": message}
}

func operatedBackend() *v1alpha1.Backend {
	return &v1alpha1.Backend{Operated: &v1alpha1.OperatedBackend{Replicas: 3}}
}

func TestOperatedNamesTheOperatorThatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{RabbitMQ: operatedBackend()}))
	missing := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(missing.Message).To(ContainSubstring("spec.backends.rabbitmq.operated: RabbitMQ Cluster Operator"))
	w.Expect(missing.Message).To(ContainSubstring("is not installed"))

	// Installed later: found without a restart. (A timer looks once a minute; an edit is quicker.)
	install(t, rabbitmqOperator.kinds...)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.RabbitMQ.Operated.Replicas = 1 })
	cluster := w.resource("rabbitmq.com", "v1beta1", "RabbitmqCluster", "main-rabbitmq")
	w.ready("main", metav1.ConditionFalse, common.ReasonProgressing)
	w.report(cluster, map[string]any{"conditions": []any{condition("AllReplicasReady", "False", "0/1 Pods ready")}})
	w.Eventually(func() string { return w.message("main") }).
		Should(Equal("RabbitmqCluster main-rabbitmq is not AllReplicasReady: 0/1 Pods ready"))
	w.create(binding("main-rabbitmq-default-user", map[string]string{
		"username": "u", "password": "p", "host": "main-rabbitmq." + w.namespace + ".svc", "port": "5672", "type": "rabbitmq", "provider": "rabbitmq",
	}))
	w.report(cluster, map[string]any{"conditions": []any{condition("AllReplicasReady", "True", "")}})
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	b := w.logins.binding("rabbitmq")
	w.Expect(b.Data()).To(Equal(map[string]string{
		"type": "rabbitmq", "provider": "operated", "host": "main-rabbitmq." + w.namespace + ".svc", "port": "5672", "username": "u", "password": "p",
		"uri": "amqp://u:p@main-rabbitmq." + w.namespace + ".svc:5672/",
	}))
	// Drift is reverted, by the watch that began after the manager did.
	w.Eventually(func() error {
		w.Expect(w.get("main-rabbitmq", cluster)).To(Succeed())
		w.Expect(unstructured.SetNestedField(cluster.Object, int64(7), "spec", "replicas")).To(Succeed())
		return w.client.Update(ctx, cluster)
	}).Should(Succeed())
	w.Eventually(func() int64 {
		_ = w.get("main-rabbitmq", cluster)
		replicas, _, _ := unstructured.NestedInt64(cluster.Object, "spec", "replicas")
		return replicas
	}).Should(Equal(int64(1)))
}

// message returns the message of a Platform's only backend, or "" before the first status.
func (w *world) message(platform string) string {
	rows := w.platform(platform).Status.Backends
	if len(rows) == 0 {
		return ""
	}
	return rows[0].Message
}

func TestOperatedPostgreSQL(t *testing.T) {
	install(t, cloudNativePG.kinds...)
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{PostgreSQL: operatedBackend()}))
	cluster := w.resource("postgresql.cnpg.io", "v1", "Cluster", "main-postgresql")
	w.Expect(cluster.GetOwnerReferences()).To(BeEmpty(), "with Retain, the garbage collector would take the data")
	w.report(cluster, map[string]any{"conditions": []any{condition("Ready", "True", "Cluster is Ready")}})
	w.Eventually(func() string { return w.message("main") }).Should(ContainSubstring("Secret main-postgresql-app is awaited"))
	w.create(binding("main-postgresql-app", map[string]string{
		"username": "itechsmart", "password": "p", "host": "main-postgresql-rw", "port": "5432", "dbname": "itechsmart", "uri": "postgresql://…",
	}))
	w.Eventually(func() string { return w.message("main") }).Should(ContainSubstring("Secret main-postgresql-ca is awaited"))
	w.create(binding("main-postgresql-ca", map[string]string{"ca.crt": "PEM", "ca.key": "not copied"}))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	host := "main-postgresql-rw." + w.namespace + ".svc"
	w.Expect(w.logins.binding("postgresql").Data()).To(Equal(map[string]string{
		"type": "postgresql", "provider": "operated", "host": host, "port": "5432", "username": "itechsmart", "password": "p", "database": "itechsmart",
		"tls": "true", "ca.crt": "PEM", "uri": "postgresql://itechsmart:p@" + host + ":5432/itechsmart",
	}))

	// With Delete it belongs to the Platform; and removing the backend removes it.
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.Eventually(func() int { _ = w.get("main-postgresql", cluster); return len(cluster.GetOwnerReferences()) }).Should(Equal(1))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends = v1alpha1.Backends{Redis: managedBackend()} })
	w.gone("main-postgresql", cluster)
	w.gone("main-postgresql-binding", &corev1.Secret{})
}

func TestOperatedIsRetained(t *testing.T) {
	install(t, cloudNativePG.kinds...)
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{PostgreSQL: operatedBackend(), Redis: managedBackend()}))
	cluster := w.resource("postgresql.cnpg.io", "v1", "Cluster", "main-postgresql")
	w.Eventually(func() int { return len(w.platform("main").Status.Backends) }).Should(Equal(2))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.PostgreSQL = nil })
	w.Eventually(func() int { return len(w.platform("main").Status.Backends) }).Should(Equal(1))
	w.Expect(w.get("main-postgresql", cluster)).To(Succeed())
	uid := cluster.GetUID()
	// Asked for again, it is found again.
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.PostgreSQL = operatedBackend() })
	w.Eventually(func() int { return len(w.platform("main").Status.Backends) }).Should(Equal(2))
	w.Expect(w.get("main-postgresql", cluster)).To(Succeed())
	w.Expect(cluster.GetUID()).To(Equal(uid))
	w.Expect(w.platform("main").Status.Backends[0].Message).NotTo(ContainSubstring("belongs to something else"))
}

func TestForeignOperatedResourceIsNotTaken(t *testing.T) {
	install(t, cloudNativePG.kinds...)
	w := newWorld(t)
	theirs := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"instances": int64(5)}}}
	theirs.SetGroupVersionKind(schema.GroupVersionKind{Group: "postgresql.cnpg.io", Version: "v1", Kind: "Cluster"})
	theirs.SetName("main-postgresql")
	w.create(theirs)
	w.create(newPlatform(v1alpha1.Backends{PostgreSQL: operatedBackend()}))
	w.ready("main", metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(w.get("main-postgresql", theirs)).To(Succeed())
	instances, _, _ := unstructured.NestedInt64(theirs.Object, "spec", "instances")
	w.Expect(instances).To(Equal(int64(5)))
}

func TestOperatedKafka(t *testing.T) {
	install(t, strimzi.kinds...)
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{Kafka: operatedBackend()}))
	cluster := w.resource("kafka.strimzi.io", "v1", "Kafka", "main-kafka")
	w.resource("kafka.strimzi.io", "v1", "KafkaNodePool", "main-kafka-nodes")
	user := w.resource("kafka.strimzi.io", "v1", "KafkaUser", "main-kafka-itechsmart")
	w.Expect(user.GetLabels()).To(HaveKeyWithValue("strimzi.io/cluster", "main-kafka"))
	address := fmt.Sprintf("main-kafka-kafka-bootstrap.%s.svc:9093", w.namespace)
	w.report(cluster, map[string]any{
		"conditions": []any{condition("Ready", "True", "")},
		"listeners":  []any{map[string]any{"name": "clients", "bootstrapServers": address, "certificates": []any{"PEM"}}},
	})
	w.Eventually(func() string { return w.message("main") }).Should(Equal("KafkaUser main-kafka-itechsmart has no condition Ready yet"))
	w.report(user, map[string]any{"conditions": []any{condition("Ready", "True", "")}})
	w.create(binding("main-kafka-itechsmart", map[string]string{"password": "p", "sasl.jaas.config": "not copied"}))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	host, port, _ := strings.Cut(address, ":")
	w.Expect(w.logins.binding("kafka")).To(Equal(backend.Binding{
		Type: "kafka", Provider: "operated", Host: host, Port: port, BootstrapServers: address, Username: "main-kafka-itechsmart", Password: "p",
		SASLMechanism: "SCRAM-SHA-512", TLS: "true", CA: "PEM",
	}))
	w.Expect(w.platform("main").Status.Backends[0].Endpoint).To(Equal(address))
}
