// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/admission"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
)

// asked is a world whose API server asks its managers.
type asked struct {
	*world
	name string
}

func newAsked(t *testing.T) *asked {
	t.Helper()
	w := newCell(t)
	a := &asked{world: w, name: w.namespace}
	a.secret(a.name, nil)
	return a
}

// serve starts a manager that answers, at a port of its own.
func (a *asked) serve() (port int, stop func()) {
	a.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	a.Expect(err).NotTo(HaveOccurred())
	port = listener.Addr().(*net.TCPAddr).Port
	a.Expect(listener.Close()).To(Succeed())
	hooks := admission.New(admission.Options{Name: a.name, Namespace: a.namespace, Hosts: []string{"127.0.0.1"}, Port: port, Now: a.clock.Now})
	_, cfg := ctrltest.Env(a.t)
	stop = ctrltest.Start(a.t, cfg, setup.Options{Namespaces: []string{a.namespace}, Webhooks: hooks},
		a.setup)
	return port, stop
}

// ask makes the API server ask at a port.
func (a *asked) ask(port int) *admissionv1.ValidatingWebhookConfiguration {
	a.t.Helper()
	configuration := &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "workflows.workflow.itechsmart.dev", AdmissionReviewVersions: []string{"v1"}, TimeoutSeconds: ptr.To[int32](5),
			SideEffects: ptr.To(admissionv1.SideEffectClassNone), FailurePolicy: ptr.To(admissionv1.Fail),
			ClientConfig:      admissionv1.WebhookClientConfig{URL: ptr.To(fmt.Sprintf("https://127.0.0.1:%d/validate-workflow-itechsmart-dev-v1alpha1-workflow", port))},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: a.namespace}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"workflow.itechsmart.dev"}, APIVersions: []string{"v1alpha1"}, Resources: []string{"workflows"}},
			}},
		}},
	}
	a.Expect(a.client.Create(a.ctx, configuration)).To(Succeed())
	a.t.Cleanup(func() { a.Expect(a.client.Delete(a.ctx, configuration)).To(Succeed()) })
	return configuration
}

func flow(name string, steps ...workflowv1alpha1.Step) *workflowv1alpha1.Workflow {
	return &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: workflowv1alpha1.WorkflowSpec{Steps: steps}}
}

func transform(name string, needs ...string) workflowv1alpha1.Step {
	return workflowv1alpha1.Step{Name: name, Type: "transform", Needs: needs, With: &apiextensionsv1.JSON{Raw: []byte(`{"value": 1}`)}}
}

// TestAdmission: what could never run is not taken, and the refusal names the field.
func TestAdmission(t *testing.T) {
	a := newAsked(t)
	port, stop := a.serve()
	a.ask(port)
	good := flow("good", transform("a"), transform("b", "a"))
	a.Eventually(func() error {
		good.Namespace = a.namespace
		return a.client.Create(a.ctx, good)
	}).Should(Succeed(), "until the API server knows whom to trust")

	wrong := transform("a")
	wrong.With = &apiextensionsv1.JSON{Raw: []byte(`{"value": "${{ steps.later.output }}"}`)}
	for name, refused := range map[string]struct {
		flow *workflowv1alpha1.Workflow
		says string
	}{
		"a cycle":         {flow("bad", transform("a", "b"), transform("b", "a")), "needs"},
		"no such step":    {flow("bad", transform("a", "nobody")), "spec.steps[0].needs[0]"},
		"no such output":  {flow("bad", wrong), "spec.steps[0].with.value"},
		"itself":          {flow("bad", workflowv1alpha1.Step{Name: "again", Type: "workflow", With: &apiextensionsv1.JSON{Raw: []byte(`{"workflow": "bad"}`)}}), "spec.steps[0].with"},
		"an unknown type": {flow("bad", workflowv1alpha1.Step{Name: "a", Type: "magic"}), "spec.steps[0].type"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			refused.flow.Namespace = a.namespace
			err := a.client.Create(a.ctx, refused.flow)
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(refused.says))
		})
	}
	g := NewWithT(t)
	found := get(a.world, good)
	found.Spec.Steps[1].Needs = []string{"nobody"}
	g.Expect(apierrors.IsInvalid(a.client.Update(a.ctx, found))).To(BeTrue(), "an edit is asked about, too")
	g.Expect(get(a.world, good).Spec.Steps[1].Needs).To(Equal([]string{"a"}))
	a.workflow(flow("waits", workflowv1alpha1.Step{Name: "tell", Type: "notify", With: &apiextensionsv1.JSON{Raw: []byte(`{"channel": "ops"}`)}}))
	// One that came before is labeled and deleted all the same.
	stop()
	a.Expect(a.client.Delete(a.ctx, good)).To(Succeed())
}

// TestAdmissionOfTheWrong: what was there before the API server asked can be labeled and deleted.
func TestAdmissionOfTheWrong(t *testing.T) {
	a := newAsked(t)
	bad := a.workflow(flow("bad", transform("a", "nobody")))
	port, _ := a.serve()
	a.ask(port)
	a.Eventually(func() error {
		return a.client.Create(a.ctx, &workflowv1alpha1.Workflow{
			ObjectMeta: metav1.ObjectMeta{Name: "good", Namespace: a.namespace}, Spec: flow("good", transform("a")).Spec,
		})
	}).Should(Succeed())
	edit(a.world, bad, func(w *workflowv1alpha1.Workflow) { w.Labels = map[string]string{"kept": "yes"} })
	a.Expect(get(a.world, bad).Labels).To(HaveKey("kept"))
	a.Expect(a.client.Delete(a.ctx, bad)).To(Succeed())
	a.Eventually(func() bool {
		return apierrors.IsNotFound(a.client.Get(a.ctx, client.ObjectKeyFromObject(bad), &workflowv1alpha1.Workflow{}))
	}).Should(BeTrue())
}

// TestAdmissionRenews: two managers serve with one certificate; it is made anew in time, and what somebody does to Secret or
// configuration is put right.
func TestAdmissionRenews(t *testing.T) {
	a := newAsked(t)
	a.clock.Add(-61 * 24 * time.Hour) // the API server has the true time
	port, _ := a.serve()
	a.serve()
	configuration := a.ask(port)
	n := 0
	try := func() error {
		n++
		w := flow(fmt.Sprintf("flow-%d", n), transform("a"))
		w.Namespace = a.namespace
		return a.client.Create(a.ctx, w)
	}
	a.Eventually(try).Should(Succeed())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: a.name, Namespace: a.namespace}}
	first := get(a.world, secret).Data
	a.Expect(get(a.world, configuration).Webhooks[0].ClientConfig.CABundle).To(Equal(first["ca.crt"]))

	// Somebody takes the authority away: an event.
	edit(a.world, configuration, func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].ClientConfig.CABundle = nil })
	a.Eventually(func() []byte { return get(a.world, configuration).Webhooks[0].ClientConfig.CABundle }).Should(Equal(first["ca.crt"]))

	// The time comes; the event stands for the timer, which no test waits for.
	a.clock.Add(61 * 24 * time.Hour)
	edit(a.world, configuration, func(c *admissionv1.ValidatingWebhookConfiguration) { c.Labels = map[string]string{"look": "again"} })
	a.Eventually(func() bool { return bytes.Equal(get(a.world, secret).Data["tls.crt"], first["tls.crt"]) }).Should(BeFalse())
	second := get(a.world, secret).Data
	a.Expect(second["ca.crt"]).To(HaveSuffix(string(first["ca.crt"])), "the authority before goes on to be trusted")
	a.Eventually(func() []byte { return get(a.world, configuration).Webhooks[0].ClientConfig.CABundle }).Should(Equal(second["ca.crt"]))
	a.Eventually(try).Should(Succeed())
}
