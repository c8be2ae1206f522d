// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// poke makes a pass happen, as a timer would later.
func (w *world) poke(s *vaultv1alpha1.Secret) {
	w.t.Helper()
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.ExpiryThreshold.Duration += time.Minute })
}

func TestRotation(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("rotating", func(s *vaultv1alpha1.Secret) {
		s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: 24 * time.Hour}, Jitter: "50%"}
	})
	w.ready(s)
	first := w.version(s, 1).Data["text"]
	status := w.get(s).Status
	wait := status.NextRotation.Sub(status.LastRotation.Time)
	w.Expect(wait).To(And(BeNumerically(">=", 12*time.Hour), BeNumerically("<=", 24*time.Hour)))
	w.Expect(w.condition(s, vaultv1alpha1.ConditionRotationDue, metav1.ConditionFalse, vaultv1alpha1.ReasonScheduled)).
		To(ContainSubstring(status.NextRotation.UTC().Format(time.RFC3339)))
	w.clock.Add(wait + time.Second)
	w.poke(s)
	w.Expect(w.version(s, 2).Data["text"]).NotTo(Equal(first))
	w.Eventually(func() bool { return w.get(s).Status.NextRotation.After(w.clock.Now()) }, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
	w.poke(s)
	w.ready(s)
	w.Expect(w.get(s).Status.Versions).To(Equal(int64(2)))

	// A rotation that cannot be made is told, and made later.
	w.vault.Fail("Apply", fmt.Errorf("down: %w", backend.ErrUnavailable))
	w.clock.Add(25 * time.Hour)
	w.poke(s)
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonBackendUnavailable)
	w.condition(s, vaultv1alpha1.ConditionRotationDue, metav1.ConditionTrue, vaultv1alpha1.ReasonOverdue)
	w.vault.Fail("Apply", nil)
	w.version(s, 3)
	w.condition(s, vaultv1alpha1.ConditionRotationDue, metav1.ConditionFalse, vaultv1alpha1.ReasonScheduled)
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Rotation = nil })
	w.Eventually(func() *metav1.Time { return w.get(s).Status.NextRotation }, ctrltest.Timeout, ctrltest.Interval).Should(BeNil())
}

// TestRotationTimer: a rotation that is due is made without an event.
func TestRotationTimer(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("timed", func(s *vaultv1alpha1.Secret) {
		s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: time.Minute}, Jitter: "0%"}
	})
	w.ready(s)
	w.clock.Add(57 * time.Second) // the next pass is a timer's, in some seconds
	w.poke(s)
	w.ready(s)
	w.version(s, 2)
}

func TestScheduleIsStableAndSpread(t *testing.T) {
	g := NewWithT(t)
	last := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	next := func(uid string, jitter string) time.Duration {
		s := generated("n", "s")
		s.UID = types.UID(uid)
		s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: 1000 * time.Hour}, Jitter: jitter}
		s.Status.LastRotation = &last
		p := &pass{c: &Controller{Now: time.Now}, secret: s}
		p.schedule()
		return s.Status.NextRotation.Sub(last.Time)
	}
	g.Expect(next("a", "0%")).To(Equal(1000 * time.Hour))
	seen := map[time.Duration]bool{}
	for i := range 100 {
		wait := next(strconv.Itoa(i), "10%")
		g.Expect(wait).To(Equal(next(strconv.Itoa(i), "10%")))
		g.Expect(wait).To(And(BeNumerically(">", 900*time.Hour-time.Second), BeNumerically("<=", 1000*time.Hour)))
		seen[wait] = true
	}
	g.Expect(len(seen)).To(BeNumerically(">", 80))
}

func TestCertificateExpires(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	authority := w.secret("ca", func(s *vaultv1alpha1.Secret) {
		s.Spec.Type, s.Spec.Destination = vaultv1alpha1.TypeCertificate, nil
		s.Spec.Source = vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{CommonName: "Test CA", CA: true, TTL: metav1.Duration{Duration: 4800 * time.Hour}}}
	})
	s := w.secret("tls", func(s *vaultv1alpha1.Secret) {
		s.Spec.Type = vaultv1alpha1.TypeCertificate
		s.Spec.Source = vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{
			DNSNames: []string{"a.example.com"}, TTL: metav1.Duration{Duration: 240 * time.Hour}, CASecretRef: &vaultv1alpha1.SecretReference{Name: "ca"},
		}}
		s.Spec.ExpiryThreshold = metav1.Duration{Duration: 24 * time.Hour}
	})
	w.ready(authority)
	got := w.ready(s)
	core := w.version(s, 1)
	w.Expect(string(core.Type)).To(Equal("kubernetes.io/tls"))
	w.Expect(core.Data).To(And(HaveKey("tls.crt"), HaveKey("tls.key"), HaveKey("ca.crt")))
	w.condition(s, vaultv1alpha1.ConditionExpiring, metav1.ConditionFalse, vaultv1alpha1.ReasonValid)
	ctrltest.Seen(t, w.cache, got) // metrics tell what the cache has
	w.Expect(metric(t, "itechsmart_vault_secret_expiry_timestamp_seconds", w.namespace, "tls")).To(Equal(float64(got.Status.ExpiresAt.Unix())))
	w.clock.Add(220 * time.Hour)
	w.poke(s)
	w.condition(s, vaultv1alpha1.ConditionExpiring, metav1.ConditionTrue, vaultv1alpha1.ConditionExpiring)
	w.ready(s)
	w.clock.Add(30 * time.Hour)
	w.poke(s)
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonExpired)
	_, err := w.vault.Rotate(w.ctx, "tls")
	w.Expect(err).NotTo(HaveOccurred())
	w.announce("tls", 2)
	w.ready(s)
	w.condition(s, vaultv1alpha1.ConditionExpiring, metav1.ConditionFalse, vaultv1alpha1.ReasonValid)
}

// metric returns the value of a gauge.
func metric(t *testing.T, name, namespace, secret string) float64 {
	t.Helper()
	families, err := metrics.Registry.(prometheus.Gatherer).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if labels["namespace"] == namespace && labels["name"] == secret {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %s/%s", name, namespace, secret)
	return 0
}

func TestKeyStale(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("stale")
	w.ready(s)
	w.Expect(w.vault.RotateKey(w.ctx)).To(Succeed())
	w.poke(s)
	w.condition(s, vaultv1alpha1.ConditionKeyStale, metav1.ConditionTrue, vaultv1alpha1.ReasonRewrapPending)
	w.Expect(w.vault.Rewrap(w.ctx)).To(Succeed())
	w.poke(s)
	w.condition(s, vaultv1alpha1.ConditionKeyStale, metav1.ConditionFalse, vaultv1alpha1.ReasonCurrent)
	w.Expect(w.get(s).Status.Versions).To(Equal(int64(1)))
}

func TestConsumersAreRestartedOncePerVersion(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	d := w.deployment("app", "shared")
	other := w.deployment("other", "shared")
	w.deployment("stranger", "else")
	s := w.secret("shared", func(s *vaultv1alpha1.Secret) {
		s.Spec.RestartTargets = []vaultv1alpha1.WorkloadReference{{Kind: "Deployment", Name: "app"}, {Kind: "StatefulSet", Name: "missing"}}
	})
	w.ready(s)
	w.Eventually(func() []vaultv1alpha1.Consumer { return w.get(s).Status.Consumers }, ctrltest.Timeout, ctrltest.Interval).Should(Equal([]vaultv1alpha1.Consumer{
		{Kind: "Deployment", Name: "app", Via: viaEnvironment}, {Kind: "Deployment", Name: "other", Via: viaEnvironment},
	}))
	restarted := func(d *appsv1.Deployment) string {
		w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(d), d)).To(Succeed())
		return d.Spec.Template.Annotations[restartAnnotation(s)]
	}
	w.Expect(restarted(d)).To(BeEmpty(), "the first version restarts nothing")
	_, err := w.vault.Rotate(w.ctx, "shared")
	w.Expect(err).NotTo(HaveOccurred())
	w.announce("shared", 2)
	w.version(s, 2)
	w.Expect(restarted(d)).To(Equal("2"))
	w.Expect(restarted(other)).To(BeEmpty())
	w.Expect(d.Spec.Template.Spec.Containers).To(HaveLen(1), "only the annotation is applied")
	owners := map[string]bool{}
	for _, entry := range d.ManagedFields {
		owners[entry.Manager] = true
	}
	w.Expect(owners).To(HaveKey(fieldOwnerRestart + "shared"))
	generation := d.Generation

	w.poke(s)
	w.ready(s)
	w.quiet()
	w.Expect(restarted(d)).To(Equal("2"))
	w.Expect(d.Generation).To(Equal(generation), "once per version")

	// The version that Pods have is told when the rollout is over.
	w.Expect(w.get(s).Status.Consumers[0].Version).To(BeZero())
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	w.Expect(w.client.Status().Update(w.ctx, d)).To(Succeed())
	w.Eventually(func() int64 { return w.get(s).Status.Consumers[0].Version }, ctrltest.Timeout, ctrltest.Interval).Should(Equal(int64(2)))
	w.Expect(w.client.Delete(w.ctx, other)).To(Succeed())
	w.Eventually(func() int32 { return w.get(s).Status.ConsumerCount }, ctrltest.Timeout, ctrltest.Interval).Should(Equal(int32(1)))
}

func TestAccessExpression(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	rule := func(when string) vaultv1alpha1.AccessRule {
		return vaultv1alpha1.AccessRule{Subject: vaultv1alpha1.Subject{Kind: "User", Name: "a@example.com"}, Verbs: []vaultv1alpha1.Verb{"read"}, When: when}
	}
	s := w.secret("guarded", func(s *vaultv1alpha1.Secret) {
		s.Spec.Access = []vaultv1alpha1.AccessRule{rule("request.time.getHours() < nonsense")}
	})
	w.Expect(w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)).To(ContainSubstring("spec.access[0].when"))
	w.edit(s, func(s *vaultv1alpha1.Secret) {
		s.Spec.Access[0].When = "request.time.getHours() < 18 && principal.kind == 'User'"
	})
	w.ready(s)
}

func TestAccessPolicy(t *testing.T) {
	w := newWorld(t)
	policy := &vaultv1alpha1.AccessPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "team"},
		Spec: vaultv1alpha1.AccessPolicySpec{
			Subjects: []vaultv1alpha1.Subject{{Kind: "ServiceAccount", Name: "apps/*"}},
			Rules:    []vaultv1alpha1.PolicyRule{{Paths: []string{"team/**"}, Verbs: []vaultv1alpha1.Verb{"read"}, When: "request.ip =="}},
		},
	}
	w.Expect(w.client.Create(w.ctx, policy)).To(Succeed())
	says := func(status metav1.ConditionStatus, reason string) {
		t.Helper()
		w.Eventually(func(g Gomega) {
			g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(policy), policy)).To(Succeed())
			g.Expect(policy.Status.Conditions).To(ContainElement(And(HaveField("Type", "Ready"), HaveField("Status", status), HaveField("Reason", reason),
				HaveField("ObservedGeneration", policy.Generation))))
		}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
	}
	says(metav1.ConditionFalse, common.ReasonInvalidSpec)
	policy.Spec.Rules[0].When = "request.ip == '10.0.0.1'"
	w.Expect(w.client.Update(w.ctx, policy)).To(Succeed())
	says(metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.platform("main")
	says(metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(policy.Status.Platform).To(Equal("main"))
	policy.Spec.Rules[0].Paths = []string{strings.Repeat("a*", 20)}
	w.Expect(w.client.Update(w.ctx, policy)).To(Succeed())
	says(metav1.ConditionFalse, common.ReasonInvalidSpec)
}

func TestErrorsOfTheVault(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	for reason, err := range map[string]error{
		common.ReasonAccessDenied: backend.ErrAuth, common.ReasonBackendUnavailable: backend.ErrUnavailable, common.ReasonInvalidSpec: backend.ErrInvalid,
		vaultv1alpha1.ReasonSealed: vault.ErrSealed,
	} {
		w.vault.Fail("Apply", fmt.Errorf("as the test says: %w", err))
		s := w.secret("fails-" + strings.ToLower(reason))
		w.condition(s, common.ConditionReady, metav1.ConditionFalse, reason)
		w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionFalse, reason)
	}
}
