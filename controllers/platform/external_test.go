// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
)

func TestExternalBecomesReady(t *testing.T) {
	w := newWorld(t)
	w.create(binding("elsewhere", map[string]string{"type": "redis", "host": "cache.example.com", "port": "6380", "password": "pw/1\n"}))
	w.create(newPlatform(v1alpha1.Backends{Redis: externalAt("elsewhere")}))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	p := w.platform("main")
	w.Expect(p.Status.Ready).To(Equal("1/1"))
	w.Expect(p.Status.Backends).To(Equal([]v1alpha1.BackendStatus{{
		Name: "redis", Mode: "external", Ready: true, Endpoint: "cache.example.com:6380", Version: "1.2.3", BindingSecret: "main-redis-binding",
	}}))
	var secret corev1.Secret
	w.Expect(w.get("main-redis-binding", &secret)).To(Succeed())
	w.Expect(secret.Type).To(Equal(corev1.SecretType("servicebinding.io/redis")))
	got := backend.ParseBinding(secret.Data)
	w.Expect(got.Data()).To(Equal(map[string]string{
		"type": "redis", "provider": "external", "host": "cache.example.com", "port": "6380", "password": "pw/1", "uri": "redis://cache.example.com:6380/",
	}))
}

func TestExternalTellsWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		data       map[string]string
		reason     string
		want       string
	}{
		{"no Secret", "redis", nil, common.ReasonReferenceNotFound, "spec.backends.redis.external.secretRef: Secret %s/elsewhere does not exist"},
		{"no host", "redis", map[string]string{"port": "1"}, common.ReasonInvalidSpec, `it lacks key "host"`},
		{"no port", "redis", map[string]string{"host": "a"}, common.ReasonInvalidSpec, `it lacks key "port"`},
		{"port is no number", "redis", map[string]string{"host": "a", "port": "http"}, common.ReasonInvalidSpec, `key "port" must be a number`},
		{"host is a URL", "redis", map[string]string{"host": "redis://a", "port": "1"}, common.ReasonInvalidSpec, `key "host" must be a name`},
		{"another type", "redis", map[string]string{"type": "kafka", "host": "a", "port": "1"}, common.ReasonInvalidSpec, `key "type" is "kafka"; this backend needs "redis"`},
		{"no database", "postgresql", map[string]string{"host": "a", "port": "1", "username": "u", "password": "p"}, common.ReasonInvalidSpec, `it lacks key "database"`},
		{"bad brokers", "kafka", map[string]string{"bootstrap-servers": "a"}, common.ReasonInvalidSpec, `key "bootstrap-servers" must be a list of host:port`},
		{"bad authority", "redis", map[string]string{"host": "a", "port": "1", "tls": "true", "ca.crt": "x"}, common.ReasonInvalidSpec, `"ca.crt" holds no PEM certificate`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.data != nil {
				w.create(binding("elsewhere", c.data))
			}
			backends := v1alpha1.Backends{Redis: externalAt("elsewhere")}
			switch c.kind {
			case "postgresql":
				backends = v1alpha1.Backends{PostgreSQL: externalAt("elsewhere")}
			case "kafka":
				backends = v1alpha1.Backends{Kafka: externalAt("elsewhere")}
			}
			w.create(newPlatform(backends))
			condition := w.ready("main", metav1.ConditionFalse, c.reason)
			want := c.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, w.namespace)
			}
			w.Expect(condition.Message).To(ContainSubstring(want))
			w.Expect(meta.IsStatusConditionTrue(w.platform("main").Status.Conditions, common.ConditionStalled)).To(BeTrue())
			w.Expect(w.platform("main").Status.Backends[0].Message).To(ContainSubstring(want))
		})
	}
}

func TestExternalFollowsItsSecret(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{Kafka: externalAt("elsewhere")}))
	w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	secret := binding("elsewhere", map[string]string{"bootstrap-servers": "a:1,b:2", "username": "u", "password": "old", "sasl-mechanism": "PLAIN"})
	w.create(secret)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.logins.binding("kafka").Password).To(Equal("old"))
	w.Expect(w.platform("main").Status.Backends[0].Endpoint).To(Equal("a:1"))
	secret.StringData = map[string]string{"password": "new"}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.Eventually(func() string { return w.logins.binding("kafka").Password }).Should(Equal("new"))
	// Without its Secret the Platform is not Ready, and products keep what they have.
	w.Expect(w.client.Delete(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(w.get("main-kafka-binding", &corev1.Secret{})).To(Succeed())
}

func TestExternalInAnotherNamespaceNeedsAGrant(t *testing.T) {
	other := ctrltest.Namespace(t)
	w := newWorld(t, other)
	secret := binding("elsewhere", map[string]string{"host": "a", "port": "1"})
	secret.Namespace = other
	w.Expect(w.client.Create(ctx, secret)).To(Succeed())
	reference := externalAt("elsewhere")
	reference.External.SecretRef.Namespace = other
	w.create(newPlatform(v1alpha1.Backends{Redis: reference}))
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotGranted)
	w.Expect(condition.Message).To(ContainSubstring("spec.backends.redis.external.secretRef"))
	w.Expect(w.get("main-redis-binding", &corev1.Secret{})).NotTo(Succeed(), "a binding was copied without a grant")

	grant := &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Name: "platforms", Namespace: other}, Spec: gatewayv1beta1.ReferenceGrantSpec{
		From: []gatewayv1beta1.ReferenceGrantFrom{{Group: "platform.itechsmart.dev", Kind: "Platform", Namespace: gatewayv1beta1.Namespace(w.namespace)}},
		To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
	}}
	w.Expect(w.client.Create(ctx, grant)).To(Succeed())
	// Grants are looked for by a timer; a change of the Secret is quicker.
	secret.StringData = map[string]string{"port": "2"}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
}

func TestExternalOutsideOfTheWatchedNamespaces(t *testing.T) {
	other := ctrltest.Namespace(t)
	w := newWorld(t)
	grant := &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Name: "platforms", Namespace: other}, Spec: gatewayv1beta1.ReferenceGrantSpec{
		From: []gatewayv1beta1.ReferenceGrantFrom{{Group: "platform.itechsmart.dev", Kind: "Platform", Namespace: gatewayv1beta1.Namespace(w.namespace)}},
		To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
	}}
	w.Expect(w.client.Create(ctx, grant)).To(Succeed())
	reference := externalAt("elsewhere")
	reference.External.SecretRef.Namespace = other
	w.create(newPlatform(v1alpha1.Backends{Redis: reference}))
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotGranted)
	w.Expect(condition.Message).To(ContainSubstring("add it to the operator's --namespaces"))
}
