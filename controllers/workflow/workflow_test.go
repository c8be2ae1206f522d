// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

func TestWorkflowBecomesReady(t *testing.T) {
	w := newWorld(t)
	p := w.platform("main")
	w.secrets()
	of := w.workflow(hooked("orders", "shop/orders"))
	condition(w, of, workflowv1alpha1.ConditionAccepted, metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)).To(ContainSubstring("takes generation 1"))
	w.Expect(of.Status.Platform).To(Equal("main"))
	w.Eventually(func() string { return w.bindings("main")["orders"].Connections["bus"]["bootstrap-servers"] }).Should(Equal("kafka:9092"))
	bound := w.bindings("main")["orders"]
	w.Expect(bound.Connections["broker"]).To(And(HaveKeyWithValue("host", "mq"), HaveKeyWithValue("password", canary)))
	w.Expect(string(bound.HMAC["hook"])).To(Equal(canary + "-0123456789"))

	// A trigger that the service cannot run is reported; what the service wrote stays.
	w.Expect(w.tell(of, map[string]any{"servedGeneration": 1, "lastRun": map[string]any{"id": "x"}, "triggers": []any{
		map[string]any{"name": "hand", "ready": true}, map[string]any{"name": "hook", "ready": false, "message": "no key"},
	}})).To(Succeed())
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, workflowv1alpha1.ReasonTriggersNotReady)).
		To(Equal("spec.triggers[1]: trigger hook is not ready: no key"))
	w.serve(of)
	ready(w, of)
	w.Expect(of.Status.LastRun.ID + " " + of.Status.ReadyTriggers).To(Equal("x 2/2"))
	w.Expect(of.Status.Runs.Active).To(Equal(int64(3)))
	for _, entry := range of.ManagedFields {
		if entry.Manager != fieldManager && entry.Subresource == "status" {
			for _, field := range []string{"servedGeneration", "triggers", "runs", "lastRun", "readyTriggers"} {
				w.Expect(entry.FieldsV1.GetRawString()).NotTo(ContainSubstring(`"f:` + field + `"`))
			}
		}
	}

	// Ready follows the service, and a new generation.
	w.serviceReady(p, false)
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)).To(ContainSubstring("as the test says"))
	w.serviceReady(p, true)
	ready(w, of)
	edit(w, of, func(of *workflowv1alpha1.Workflow) { of.Spec.Suspend = true })
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Expect(w.tell(of, map[string]any{"servedGeneration": 2, "triggers": nil})).To(Succeed())
	ready(w, of) // no trigger starts anything: so it is specified
}

func TestSteadyStateCostsNothing(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	w.secrets()
	var all []*workflowv1alpha1.Workflow
	for i := range 5 {
		of := w.workflow(hooked(fmt.Sprintf("w%d", i), fmt.Sprintf("path/%d", i)))
		w.serve(of)
		all = append(all, of)
	}
	for _, of := range all {
		ready(w, of)
	}
	w.Eventually(func() int { return len(w.bindings("main")) }).Should(Equal(5))
	w.quiet()
	w.requests.Reset()
	for i := range 3 { // counters of the service concern nobody
		for _, of := range all {
			w.Expect(w.tell(of, map[string]any{"runs": map[string]any{"active": i + 10}})).To(Succeed())
			edit(w, of, func(of *workflowv1alpha1.Workflow) { of.Annotations = map[string]string{"touched": fmt.Sprint(i)} })
		}
	}
	w.Consistently(func() []string { return append(w.requests.Writes(), w.requests.Reads()...) }, time.Second).Should(BeEmpty())

	// A manager that starts again writes nothing either.
	w.stop()
	w.start()
	w.quiet()
	w.Expect(w.requests.Writes()).To(BeEmpty())
}

func TestDefinitionIsProven(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	for name, test := range map[string]struct {
		change func(*workflowv1alpha1.WorkflowSpec)
		reason string
		says   []string
	}{
		"cycle": {func(s *workflowv1alpha1.WorkflowSpec) {
			s.Steps[0].Needs = []string{"b"}
			s.Steps = append(s.Steps, workflowv1alpha1.Step{Name: "b", Type: "transform", Needs: []string{"a"}, With: raw(`{"value": 1}`)})
		}, common.ReasonInvalidSpec, []string{"spec.steps[0].needs"}},
		"types": {func(s *workflowv1alpha1.WorkflowSpec) {
			s.Steps[0].When = "1 + 1"
			s.Triggers = []workflowv1alpha1.Trigger{{Name: "t", Type: "Scheduled", Scheduled: &workflowv1alpha1.ScheduledTrigger{Cron: "61 * * * *"}}}
		}, common.ReasonInvalidSpec, []string{"spec.steps[0].when: want a bool", "spec.triggers[0].scheduled.cron"}},
		"notify": {func(s *workflowv1alpha1.WorkflowSpec) {
			s.OnFailure = []workflowv1alpha1.Step{{Name: "tell", Type: "notify", With: raw(`{"channel": "pager", "message": "x"}`)}}
		}, workflowv1alpha1.ReasonStepTypeUnavailable, []string{"spec.onFailure[0].type: notify needs Notify"}},
	} {
		of := w.workflow(least(name), func(of *workflowv1alpha1.Workflow) { test.change(&of.Spec) })
		for _, conditionType := range []string{common.ConditionReady, workflowv1alpha1.ConditionAccepted} {
			message := condition(w, of, conditionType, metav1.ConditionFalse, test.reason)
			for _, text := range test.says {
				w.Expect(message).To(ContainSubstring(text))
			}
		}
		w.Expect(meta.IsStatusConditionTrue(of.Status.Conditions, common.ConditionStalled)).To(BeTrue())
	}

	// A hundred wrong steps fit into a message of an event.
	of := w.workflow(least("many"), func(of *workflowv1alpha1.Workflow) {
		for i := range 60 {
			of.Spec.Steps = append(of.Spec.Steps, workflowv1alpha1.Step{Name: fmt.Sprintf("s%d", i), Type: "nothing-that-there-is"})
		}
	})
	message := condition(w, of, workflowv1alpha1.ConditionAccepted, metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(message).To(And(ContainSubstring("spec.steps[1].type: there is no step type"), ContainSubstring("more")))
	w.Expect(len(message)).To(BeNumerically("<=", 1024))
}

func TestPlatformIsFound(t *testing.T) {
	w := newWorld(t)
	of := w.workflow(least("lonely"))
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	p := w.platform("main")
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Expect(w.client.Delete(w.ctx, workflowService(p))).To(Succeed())
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).
		To(ContainSubstring("create a WorkflowService with spec.platformRef.name main"))
	edit(w, of, func(of *workflowv1alpha1.Workflow) { of.Spec.PlatformRef = &common.PlatformReference{Name: "other"} })
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).To(ContainSubstring("spec.platformRef"))
}

// TestConnectionsOfEveryKind: one that does not resolve is reported, and does not hold up the others.
func TestConnectionsOfEveryKind(t *testing.T) {
	elsewhere := ctrltest.Namespace(t)
	w := newWorld(t, elsewhere)
	w.platform("main")
	w.secrets()
	w.workflow(hooked("good", "good"))
	w.Eventually(func() int { return len(w.bindings("main")["good"].Connections) }).Should(Equal(2))
	of := w.workflow(hooked("trying", "trying"), func(of *workflowv1alpha1.Workflow) { of.Spec.Connections[1].Ref.Name = "later" })
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).To(ContainSubstring("spec.connections[1].ref: Secret"))
	later := w.secret("later", map[string]string{"type": "kafka"})
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)).To(ContainSubstring(`lacks key "bootstrap-servers"`))
	w.Expect(w.bindings("main")).NotTo(HaveKey("trying"))
	w.Expect(w.bindings("main")).To(HaveKey("good"))
	edit(w, later, func(s *corev1.Secret) { s.StringData = map[string]string{"bootstrap-servers": "b:1"} })
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Eventually(func() string { return w.bindings("main")["trying"].Connections["bus"]["bootstrap-servers"] }).Should(Equal("b:1"))

	// A rotation reaches the file.
	edit(w, later, func(s *corev1.Secret) { s.StringData = map[string]string{"password": canary + "-2"} })
	w.Eventually(func() string { return w.bindings("main")["trying"].Connections["bus"]["password"] }).Should(Equal(canary + "-2"))

	// Another namespace grants.
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "shared"}, StringData: map[string]string{"type": "kafka", "bootstrap-servers": "c:1"}}
	w.create(foreign)
	edit(w, of, func(of *workflowv1alpha1.Workflow) {
		of.Spec.Connections[1].Ref = common.ConnectionReference{Name: "shared", Namespace: elsewhere}
	})
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotGranted)
	w.Eventually(func() map[string]map[string]string { return w.bindings("main")["trying"].Connections }).Should(BeNil())
	w.create(&gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "grant"}, Spec: gatewayv1beta1.ReferenceGrantSpec{
		From: []gatewayv1beta1.ReferenceGrantFrom{{Group: "workflow.itechsmart.dev", Kind: "Workflow", Namespace: gatewayv1beta1.Namespace(w.namespace)}},
		To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
	}})
	edit(w, of, func(of *workflowv1alpha1.Workflow) { of.Spec.Suspend = true }) // grants are not watched: they are looked for once a minute
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Eventually(func() string { return w.bindings("main")["trying"].Connections["bus"]["bootstrap-servers"] }).Should(Equal("c:1"))

	// A vault Secret's destination.
	vault := &vaultv1alpha1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "broker"}, Spec: vaultv1alpha1.SecretSpec{
		Type: "Text", Source: vaultv1alpha1.Source{Generate: &vaultv1alpha1.Generate{}}, Destination: &vaultv1alpha1.Destination{},
	}}
	edit(w, of, func(of *workflowv1alpha1.Workflow) {
		of.Spec.Connections[1].Ref = common.ConnectionReference{Kind: common.ConnectionVaultSecret, Name: "broker"}
	})
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.create(vault)
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	w.destination(vault, map[string]string{"type": "kafka", "bootstrap-servers": "d:1"})
	w.Eventually(func() string { return w.bindings("main")["trying"].Connections["bus"]["bootstrap-servers"] }).Should(Equal("d:1"))

	// What is gone is gone from the file.
	w.Expect(w.client.Delete(w.ctx, of)).To(Succeed())
	w.Eventually(func() []string { return keys(w.bindings("main")) }).Should(Equal([]string{"good"}))
}

// destination makes what the vault Secret's controller would write.
func (w *world) destination(s *vaultv1alpha1.Secret, data map[string]string) *corev1.Secret {
	w.t.Helper()
	core := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:        s.DestinationName(),
			Labels:      map[string]string{apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: string(common.ConnectionVaultSecret)},
			Annotations: map[string]string{vaultv1alpha1.AnnotationSecret: s.Name},
		},
		StringData: data,
	}
	w.create(core)
	return core
}

func TestWebhookKeys(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	w.secret("kafka", map[string]string{"type": "kafka", "bootstrap-servers": "kafka:9092"})
	of := w.workflow(hooked("orders", "orders"))
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)).To(ContainSubstring("spec.triggers[1].webhook.auth.hmacSecretRef"))
	hook := w.secret("hook", map[string]string{"other": "x"})
	w.Expect(condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)).To(ContainSubstring(`lacks key "hmac"`))
	edit(w, hook, func(s *corev1.Secret) { s.StringData = map[string]string{"hmac": canary} })
	w.Eventually(func() string {
		return condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)
	}).
		Should(ContainSubstring("fewer than 16 bytes"))
	edit(w, hook, func(s *corev1.Secret) { s.StringData = map[string]string{"hmac": canary + "-0123456789"} })
	w.Eventually(func() string { return string(w.bindings("main")["orders"].HMAC["hook"]) }).Should(Equal(canary + "-0123456789"))
	edit(w, of, func(of *workflowv1alpha1.Workflow) {
		of.Spec.Triggers[1].Webhook.Auth.HMACSecretRef = workflowv1alpha1.HMACSecretReference{Kind: common.ConnectionVaultSecret, Name: "sign", Key: "text"}
	})
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	vault := &vaultv1alpha1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "sign"}, Spec: vaultv1alpha1.SecretSpec{
		Type: "Text", Source: vaultv1alpha1.Source{Generate: &vaultv1alpha1.Generate{}}, Destination: &vaultv1alpha1.Destination{},
	}}
	w.create(vault)
	w.destination(vault, map[string]string{"text": strings.Repeat("k", 16)})
	w.Eventually(func() string { return string(w.bindings("main")["orders"].HMAC["hook"]) }).Should(Equal(strings.Repeat("k", 16)))
}

func TestOlderWorkflowHasThePath(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	w.secrets()
	first := w.workflow(hooked("first", "same/path"))
	w.serve(first)
	ready(w, first)
	ctrltest.Outlast(t, first)
	second := w.workflow(hooked("second", "same/path"))
	for _, of := range []*workflowv1alpha1.Workflow{first, second} {
		w.serve(of)
	}
	winner, loser := first, second
	w.Expect(condition(w, loser, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)).
		To(Equal("spec.triggers[1].webhook.path: same/path is that of the older Workflow " + winner.Name + "; choose another path"))
	ready(w, winner)
	edit(w, winner, func(of *workflowv1alpha1.Workflow) { of.Spec.Triggers[1].Webhook.Path = "other/path" })
	ready(w, loser)
	edit(w, winner, func(of *workflowv1alpha1.Workflow) { of.Spec.Triggers[1].Webhook.Path = "same/path" })
	condition(w, loser, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(w.client.Delete(w.ctx, winner)).To(Succeed())
	ready(w, loser)
}

// TestBindingsAreKeptAsRendered: drift is reverted, and the Secret goes with the Platform.
func TestBindingsAreKeptAsRendered(t *testing.T) {
	w := newWorld(t)
	p := w.platform("main")
	w.secrets()
	of := w.workflow(hooked("orders", "orders"))
	condition(w, of, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing)
	w.Eventually(func() int { return len(w.bindings("main")) }).Should(Equal(1))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "main-workflow-bindings"}}
	get(w, secret)
	w.Expect(metav1.IsControlledBy(secret, get(w, workflowService(p)))).To(BeTrue())
	w.Expect(secret.Labels).To(HaveKeyWithValue(apply.LabelManagedBy, apply.ManagedBy))
	edit(w, secret, func(s *corev1.Secret) { s.Data = map[string][]byte{"bindings.json": []byte("{}")} })
	w.Eventually(func() int { return len(w.bindings("main")) }).Should(Equal(1))
	w.Expect(w.client.Delete(w.ctx, secret)).To(Succeed())
	w.Eventually(func() int { return len(w.bindings("main")) }).Should(Equal(1))

	// The Pods that mount it are woken for each version, others and those that go are not.
	pod := w.pod("worker", "main-workflow-bindings")
	other := w.pod("other", "main-workflow-config")
	edit(w, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "kafka"}}, func(s *corev1.Secret) {
		s.StringData = map[string]string{"password": canary + "-3"}
	})
	w.Eventually(func() string { return w.bindings("main")["orders"].Connections["bus"]["password"] }).Should(Equal(canary + "-3"))
	w.Eventually(func() bool { return get(w, pod).Annotations[annotationBindings] == get(w, secret).ResourceVersion }).Should(BeTrue())
	w.quiet()
	w.requests.Reset()
	w.Consistently(w.requests.Writes, time.Second).Should(BeEmpty())
	w.Expect(get(w, other).Annotations).NotTo(HaveKey(annotationBindings))

	// Of two Platforms each has its own, and a Workflow that names none has none, in the bindings of both.
	w.Expect(w.bindingsFile("main").Shared).To(BeFalse())
	w.platform("other")
	w.Eventually(func() error {
		return w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "other-workflow-bindings"}, &corev1.Secret{})
	}).Should(Succeed())
	w.Eventually(func() int { return len(w.bindings("main")) }).Should(BeZero())
	for _, name := range []string{"main", "other"} {
		w.Eventually(func() bool { return w.bindingsFile(name).Shared }).Should(BeTrue(), name)
	}
	edit(w, of, func(of *workflowv1alpha1.Workflow) {
		of.Spec.PlatformRef = &common.PlatformReference{Name: "other"}
	})
	w.Eventually(func() []string { return keys(w.bindings("other")) }).Should(Equal([]string{"orders"}))
	w.Expect(w.bindings("main")).To(BeEmpty())
}

// pod returns one of the Platform main that mounts a Secret.
func (w *world) pod(name, secret string) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			apply.LabelManagedBy: apply.ManagedBy, common.LabelPlatform: "main",
		}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "a", Image: "a"}},
			Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}},
		},
	}
	w.create(pod)
	return pod
}

func keys[V any](of map[string]V) []string {
	var out []string
	for key := range of {
		out = append(out, key)
	}
	return out
}
