// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
)

func workflow(name, value string) *workflowv1.Workflow {
	with, _ := json.Marshal(map[string]string{"value": value})
	return &workflowv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: workflowv1.WorkflowSpec{
			Triggers: []workflowv1.Trigger{{Name: "hook", Type: workflowv1.TriggerWebhook, Webhook: &workflowv1.WebhookTrigger{Path: "orders"}}},
			Steps:    []workflowv1.Step{{Name: "a", Type: "transform", With: &apiextensionsv1.JSON{Raw: with}}},
		},
	}
}

// TestCatalog creates, changes and deletes Workflows, some of them invalid or of another Platform.
func TestCatalog(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(time.Minute)
	scheme := runtime.NewScheme()
	g.Expect(workflowv1.AddToScheme(scheme)).To(Succeed())
	g.Expect(corev1.AddToScheme(scheme)).To(Succeed())
	server, err := kube.Start(scheme)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(server.Stop()).To(Succeed()) })
	ctx, namespace := t.Context(), server.Namespace(t, "catalog")
	api := client.NewNamespacedClient(server.Client, namespace)
	old := workflow("old", "x")
	g.Expect(api.Create(ctx, old)).To(Succeed())
	g.Eventually(func() bool { return time.Since(old.CreationTimestamp.Time) > time.Second }).Should(BeTrue(), "ages are in seconds")
	g.Expect(api.Create(ctx, workflow("young", "x"))).To(Succeed())
	foreign := workflow("foreign", "x")
	foreign.Spec.PlatformRef = &common.PlatformReference{Name: "other"}
	g.Expect(api.Create(ctx, foreign)).To(Succeed())

	log := slog.New(slog.DiscardHandler)
	resources, err := kinds.Open(ctx, kinds.Options{Config: server.Config, Scheme: scheme, Namespace: namespace, Kinds: []client.Object{&workflowv1.Workflow{}}, Log: log})
	g.Expect(err).NotTo(HaveOccurred())
	go func() { _ = resources.Run(ctx) }()
	platforms := &neighbours{}
	c := catalog.New(catalog.Options{Resources: resources, Platform: "main", Bindings: platforms, Log: log})
	go func() { _ = c.Run(ctx) }()
	g.Expect(c.WaitSeen(ctx)).To(BeTrue())
	changes := make(chan string, 100)
	c.Subscribe(func(name string) { changes <- name })
	g.Expect([]string{<-changes, <-changes}).To(Equal([]string{"old", "young"}))

	e, trigger, ok := c.ByWebhook("orders")
	g.Expect(ok).To(BeTrue())
	g.Expect([]string{e.Workflow.Name, trigger}).To(Equal([]string{"old", "hook"}), "the older of two Workflows gets the path")
	_, ok = c.Get("foreign")
	g.Expect(ok).To(BeFalse())

	program := e.Program
	old.Status.ServedGeneration = 1
	g.Expect(api.Status().Update(ctx, old)).To(Succeed())
	g.Eventually(func() int64 { e, _ := c.Get("old"); return e.Workflow.Status.ServedGeneration }).Should(Equal(int64(1)))
	e, _ = c.Get("old")
	g.Expect(e.Program).To(BeIdenticalTo(program), "a status change does not recompile")

	old.Spec.Steps[0].With.Raw = []byte(`{"value": "${{ nothing }}"}`)
	g.Expect(api.Update(ctx, old)).To(Succeed())
	g.Eventually(changes).Should(Receive(Equal("old")))
	e, _ = c.Get("old")
	g.Expect(e.Program).To(BeNil())
	g.Expect(e.Problems).To(MatchError(ContainSubstring("spec.steps[0].with.value")))
	e, _, _ = c.ByWebhook("orders")
	g.Expect(e.Workflow.Name).To(Equal("young"), "an invalid Workflow has no path")

	g.Expect(api.Delete(ctx, old)).To(Succeed())
	g.Eventually(changes).Should(Receive(Equal("old")))
	g.Expect(c.All()).To(HaveLen(1))
	g.Expect(changes).To(BeEmpty(), "a status change is not reported")

	// With a second Platform in the namespace, a Workflow without a reference belongs to neither.
	named := workflow("named", "x")
	named.Spec.PlatformRef = &common.PlatformReference{Name: "main"}
	g.Expect(api.Create(ctx, named)).To(Succeed())
	g.Eventually(changes).Should(Receive(Equal("named")))
	platforms.set(true)
	g.Eventually(changes).Should(Receive(Equal("young")))
	_, ok = c.Get("young")
	g.Expect(ok).To(BeFalse())
	_, ok = c.Get("named")
	g.Expect(ok).To(BeTrue())
	platforms.set(false)
	g.Eventually(changes).Should(Receive(Equal("young")))
	_, ok = c.Get("young")
	g.Expect(ok).To(BeTrue())
}

// neighbours are bindings that a test modifies.
type neighbours struct {
	shared atomic.Bool
	do     func()
}

func (n *neighbours) Shared() bool { return n.shared.Load() }

func (n *neighbours) Subscribe(do func()) { n.do = do }

func (n *neighbours) set(shared bool) {
	n.shared.Store(shared)
	n.do()
}
