// SPDX-License-Identifier: Apache-2.0

package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// triggers report states set by the test.
type triggers struct {
	mu      sync.Mutex
	message string
	next    time.Time
}

func (s *triggers) State(string, string) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.message == "", s.message
}

func (s *triggers) Schedule(string, string) (next, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next, time.Time{}
}

// bench is a Writer whose requests to the API server are counted.
type bench struct {
	*enginetest.Harness
	triggers *triggers
	writes   atomic.Int64
	options  Options
}

type counting struct {
	http.RoundTripper
	writes *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		c.writes.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{Harness: enginetest.New(t), triggers: &triggers{next: time.Now().Add(time.Hour)}}
	counted := rest.CopyConfig(b.Kubernetes)
	counted.Wrap(func(rt http.RoundTripper) http.RoundTripper { return counting{rt, &b.writes} })
	resources, err := kinds.Open(t.Context(), kinds.Options{
		Config: counted, Scheme: b.Client.Scheme(), Namespace: b.Namespace, Kinds: []client.Object{&workflowv1.Workflow{}, &workflowv1.WorkflowRun{}}, Log: b.Log,
	})
	b.G.Expect(err).NotTo(HaveOccurred())
	go func() { _ = resources.Run(t.Context()) }()
	b.G.Expect(resources.WaitSynced(t.Context())).To(Succeed())
	b.options = Options{
		Resources: resources, Catalog: b.Catalog, Triggers: b.triggers, Launcher: b.Launcher, Engine: b.Engine, URL: "http://main-workflow.shop:8080", Log: b.Log,
	}
	return b
}

func (b *bench) workflow(name string) func() workflowv1.WorkflowStatus {
	return func() workflowv1.WorkflowStatus {
		w := &workflowv1.Workflow{}
		b.G.Expect(b.Client.Get(b.T.Context(), client.ObjectKey{Namespace: b.Namespace, Name: name}, w)).To(Succeed())
		return w.Status
	}
}

func (b *bench) run(name string) func() workflowv1.WorkflowRunStatus {
	return func() workflowv1.WorkflowRunStatus {
		r := &workflowv1.WorkflowRun{}
		b.G.Expect(b.Client.Get(b.T.Context(), client.ObjectKey{Namespace: b.Namespace, Name: name}, r)).To(Succeed())
		return r.Status
	}
}

func (b *bench) create(name string, spec workflowv1.WorkflowRunSpec) *workflowv1.WorkflowRun {
	b.T.Helper()
	r := &workflowv1.WorkflowRun{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.Namespace}, Spec: spec}
	b.G.Expect(b.Client.Create(b.T.Context(), r)).To(Succeed())
	return r
}

func ref(name string) workflowv1.WorkflowReference { return workflowv1.WorkflowReference{Name: name} }

const orders = `{"inputs":[{"name":"n","type":"integer"}],"triggers":[{"name":"hand","type":"Manual"},
		{"name":"night","type":"Scheduled","scheduled":{"cron":"0 2 * * *"}},{"name":"hook","type":"Webhook","webhook":{"path":"shop/orders"}}],
	"steps":[{"name":"a","type":"transform","with":{"value":1}},{"name":"b","needs":["a"],"type":"wait","when":"inputs.n == 2","with":{"event":true}},
		{"name":"c","needs":["b"],"type":"script","when":"inputs.n == 3","with":{"source":"fail(\"no\")"}}]}`

func TestWorkflows(t *testing.T) {
	b := newBench(t)
	stop := b.Go(New(b.options).Run)
	w := b.Put("orders", orders)
	b.G.Eventually(func() int64 { return b.workflow("orders")().ServedGeneration }, "3s", 10*time.Millisecond).Should(Equal(w.Generation), "at once")
	status := b.workflow("orders")()
	b.G.Expect(status.ReadyTriggers).To(Equal("3/3"))
	b.G.Expect(status.Next.Time).To(BeTemporally("==", b.triggers.next.Truncate(time.Second)))
	b.G.Expect(status.Triggers[2].URL).To(Equal("http://main-workflow.shop:8080/api/v1/webhooks/shop/orders"))
	b.G.Expect(status.Conditions).To(BeEmpty())

	b.triggers.mu.Lock()
	b.triggers.message = "it is broken"
	b.triggers.mu.Unlock()
	b.G.Eventually(func() string { return b.workflow("orders")().ReadyTriggers }, enginetest.Long).Should(Equal("0/3"))
	b.G.Expect(b.workflow("orders")().Triggers[0].Message).To(Equal("it is broken"))
	b.triggers.mu.Lock()
	b.triggers.message = ""
	b.triggers.mu.Unlock()
	b.G.Eventually(func() string { return b.workflow("orders")().ReadyTriggers }, enginetest.Long).Should(Equal("3/3"))

	id := b.Start("orders", map[string]any{"n": 2})
	b.Wait(id, store.Waiting)
	b.Wait(b.Start("orders", map[string]any{"n": 3}), store.Failed)
	last := b.Start("orders", map[string]any{"n": 1})
	b.Wait(last, store.Succeeded)
	b.Launcher.Reject("orders", "hook")
	b.G.Eventually(func() workflowv1.RunCounts { return b.workflow("orders")().Runs }, enginetest.Long).Should(Equal(workflowv1.RunCounts{Active: 1, Succeeded: 1, Failed: 1}))
	b.G.Eventually(func() int64 { return b.workflow("orders")().Triggers[2].Rejected }, enginetest.Long).Should(BeEquivalentTo(1))
	b.G.Eventually(func() string { return b.workflow("orders")().LastRun.ID }, enginetest.Long).Should(Equal(last))
	b.G.Expect(b.workflow("orders")().LastRun.Phase).To(Equal(workflowv1.RunSucceeded))

	// An unchanged status is not written, also not by a new leader.
	before := b.writes.Load()
	stop()
	reported := b.workflow("orders")()
	taken := New(b.options)
	b.Go(taken.Run)
	b.triggers.mu.Lock()
	b.triggers.message, b.triggers.next = "it is starting", time.Time{}
	b.triggers.mu.Unlock()
	// A Writer that reports an edit has handled everything before it: edits are the clock of this test.
	for i := range 3 {
		w := b.Put(fmt.Sprint("other-", i), orders)
		b.G.Eventually(func() int64 { return b.workflow(w.Name)().ServedGeneration }, enginetest.Long).Should(Equal(w.Generation))
	}
	b.G.Expect(b.writes.Load() - before).To(BeNumerically("<=", 3))
	b.G.Expect(b.workflow("orders")()).To(Equal(reported), "also while triggers are starting")

	// An invalid definition is not served: servedGeneration stays at the previous one.
	wrong := b.Put("orders", strings.Replace(orders, "inputs.n == 2", "inputs.nobody == 2", 1))
	other := b.Put("other-0", strings.Replace(orders, "inputs.n == 2", "inputs.n == 4", 1))
	b.G.Eventually(func() int64 { return b.workflow("other-0")().ServedGeneration }, enginetest.Long).Should(Equal(other.Generation))
	b.G.Expect(b.workflow("orders")().ServedGeneration).To(Equal(wrong.Generation - 1))
}

func TestWorkflowRuns(t *testing.T) {
	b := newBench(t)
	b.Go(New(b.options).Run)
	w := b.Put("orders", orders)
	b.Put("robots", `{"triggers":[{"name":"rest","type":"API"}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`)
	inputs := func(n int) *apiextensionsv1.JSON {
		return &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, `{"n":%d}`, n)}
	}
	phase := func(name string) func() workflowv1.RunPhase {
		return func() workflowv1.RunPhase { return b.run(name)().Phase }
	}
	message := func(name string) func() string { return func() string { return b.run(name)().Message } }

	b.create("good", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(1)})
	b.G.Eventually(phase("good"), enginetest.Long).Should(Equal(workflowv1.RunSucceeded))
	good := b.run("good")()
	kept, err := b.Store().Get(t.Context(), good.Run)
	b.G.Expect(err).NotTo(HaveOccurred())
	b.G.Expect(kept.Inputs).To(MatchJSON(`{"n":1}`))
	b.G.Expect(good.WorkflowGeneration).To(Equal(w.Generation))
	b.G.Expect(good.StartedAt).NotTo(BeNil())
	b.G.Expect(good.FinishedAt).NotTo(BeNil())
	b.G.Expect(good.Duration).To(Equal(kept.Finished.Sub(*kept.Started).Round(time.Millisecond).String()))

	b.create("bad", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(3)})
	b.G.Eventually(phase("bad"), enginetest.Long).Should(Equal(workflowv1.RunFailed))
	b.G.Expect(b.run("bad")().Step).To(Equal("c"))
	b.G.Expect(b.run("bad")().Message).To(ContainSubstring("c"))

	b.create("again", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Rerun: &workflowv1.Rerun{Run: good.Run, FromStep: "b"}})
	b.G.Eventually(phase("again"), enginetest.Long).Should(Equal(workflowv1.RunSucceeded))
	again, err := b.Store().Get(t.Context(), b.run("again")().Run)
	b.G.Expect(err).NotTo(HaveOccurred())
	b.G.Expect(again.RerunOf + " " + again.RerunFrom).To(Equal(good.Run + " b"))

	waiting := b.create("waiting", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(2)})
	b.G.Eventually(phase("waiting"), enginetest.Long).Should(Equal(workflowv1.RunWaiting))
	b.G.Expect(b.run("waiting")().Step).To(Equal("b"))
	b.G.Expect(b.Client.Patch(t.Context(), waiting, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"cancel":true}}`)))).To(Succeed())
	b.G.Eventually(phase("waiting"), enginetest.Long).Should(Equal(workflowv1.RunCancelled))
	b.G.Expect(b.run("waiting")().Message).To(ContainSubstring("spec.cancel of WorkflowRun waiting is set"))

	for name, x := range map[string]struct {
		spec  workflowv1.WorkflowRunSpec
		phase workflowv1.RunPhase
		says  string
	}{
		"nobody":    {workflowv1.WorkflowRunSpec{WorkflowRef: ref("nobody")}, "", "there is no Workflow nobody"},
		"robot":     {workflowv1.WorkflowRunSpec{WorkflowRef: ref("robots")}, "", "no trigger of type Manual"},
		"input":     {workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: &apiextensionsv1.JSON{Raw: json.RawMessage(`{"n":"x"}`)}}, workflowv1.RunFailed, "inputs.n: want"},
		"rerun":     {workflowv1.WorkflowRunSpec{WorkflowRef: ref("robots"), Rerun: &workflowv1.Rerun{Run: good.Run, FromStep: "a"}}, workflowv1.RunFailed, "spec.rerun.run: workflow robots: run not found"},
		"step":      {workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Rerun: &workflowv1.Rerun{Run: good.Run, FromStep: "z"}}, workflowv1.RunFailed, `has no step "z"`},
		"cancelled": {workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(1), Cancel: true}, workflowv1.RunCancelled, "before the run started"},
	} {
		b.create(name, x.spec)
		b.G.Eventually(message(name), enginetest.Long).Should(ContainSubstring(x.says), name)
		b.G.Expect(b.run(name)().Phase).To(Equal(x.phase), name)
	}
	// A missing Workflow may be created later.
	b.Put("nobody", orders)
	b.G.Eventually(phase("nobody"), enginetest.Long).Should(Equal(workflowv1.RunSucceeded))
	b.G.Expect(b.run("nobody")().Message).To(BeEmpty())

	// The service ignores Workflows of other Platforms.
	foreign := &workflowv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: "foreign", Namespace: b.Namespace}}
	b.G.Expect(json.Unmarshal([]byte(orders), &foreign.Spec)).To(Succeed())
	foreign.Spec.PlatformRef = &common.PlatformReference{Name: "another"}
	b.G.Expect(b.Client.Create(t.Context(), foreign)).To(Succeed())
	b.G.Eventually(func() (bool, error) {
		_, found, err := kinds.Get[*workflowv1.Workflow](t.Context(), b.options.Resources, "foreign")
		return found, err
	}, enginetest.Long).Should(BeTrue())
	b.create("foreign", workflowv1.WorkflowRunSpec{WorkflowRef: ref("foreign")})
	b.create("last", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(1)})
	b.G.Eventually(phase("last"), enginetest.Long).Should(Equal(workflowv1.RunSucceeded))
	b.G.Expect(b.run("foreign")()).To(Equal(workflowv1.WorkflowRunStatus{ObservedGeneration: -1}), "only the API server's default")

	// Pruning the history does not change the status.
	_, err = b.Pool.Exec(t.Context(), `DELETE FROM runs`)
	b.G.Expect(err).NotTo(HaveOccurred())
	b.create("after", workflowv1.WorkflowRunSpec{WorkflowRef: ref("orders"), Inputs: inputs(1)})
	b.G.Eventually(phase("after"), enginetest.Long).Should(Equal(workflowv1.RunSucceeded))
	b.G.Expect(b.run("good")()).To(Equal(good))
	b.G.Expect(b.Runs("orders")).To(HaveLen(1))
}
