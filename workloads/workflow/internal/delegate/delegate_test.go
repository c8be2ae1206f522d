// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// begin runs two Delegates, like two replicas.
func begin(t *testing.T) *enginetest.Harness {
	t.Helper()
	r := enginetest.New(t)
	for range 2 {
		d, err := New(Options{Engine: r.Engine, Launcher: r.Launcher, Kubernetes: r.Kubernetes, Namespace: r.Namespace, Log: r.Log})
		if err != nil {
			t.Fatal(err)
		}
		d.handlers["job"].(*jobs).logs = func(context.Context, string) (io.ReadCloser, error) { // there is no kubelet
			return io.NopCloser(strings.NewReader("it is done\x00\n")), nil
		}
		r.Go(d.Run)
	}
	return r
}

func TestWorkflow(t *testing.T) {
	r := begin(t)
	r.Put("child", `{"inputs":[{"name":"n","type":"integer"}],"steps":[{"name":"a","type":"transform","with":{"value":"${{ inputs.n * 2 }}"}}],"outputs":{"twice":"${{ steps.a.output }}"}}`)
	parent := func(child string) string {
		return `{"steps":[{"name":"call","type":"workflow","with":{"name":"` + child + `","inputs":{"n":21},"wait":true}}],"outputs":{"got":"${{ steps.call.output.outputs.twice }}"}}`
	}
	r.Put("parent", parent("child"))
	id := r.Start("parent", nil)
	r.Wait(id, store.Succeeded)
	outputs, err := r.Outputs(t.Context(), id)
	r.G.Expect(err).NotTo(HaveOccurred())
	r.G.Expect(outputs).To(Equal(map[string]any{"got": int64(42)}))
	r.G.Expect(r.Runs("child")).To(HaveLen(1), "two replicas start it once")

	// A step with a NUL in its value waits.
	r.Put("zero", `{"inputs":[{"name":"text"}],"steps":[{"name":"ask","type":"approval","with":{"approvers":["ann"],"message":"${{ inputs.text }}"}}]}`)
	r.Wait(r.Start("zero", map[string]any{"text": "\x00"}), store.Waiting)

	r.Put("async", `{"steps":[{"name":"call","type":"workflow","with":{"name":"child","inputs":{"n":1}}}]}`)
	id = r.Start("async", nil)
	r.Wait(id, store.Succeeded)
	r.G.Expect(r.Runs("child")).To(HaveLen(2))
	var output map[string]string
	r.G.Expect(json.Unmarshal(r.Output(id, "call"), &output)).To(Succeed())
	r.G.Expect(output["run"]).To(Equal(r.Runs("child")[0].ID))

	for name, want := range map[string]string{"nobody": "workflow nobody: workflow not found", "child2": "inputs.n", "bad": "ended as Failed"} {
		child := map[string]string{"nobody": "nobody", "child2": "strict", "bad": "plain"}[name]
		if child == "strict" {
			r.Put("strict", `{"inputs":[{"name":"n","type":"string"}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`)
		}
		if child == "plain" {
			r.Put("plain", `{"inputs":[{"name":"n","type":"integer"}],"steps":[{"name":"a","type":"script","with":{"source":"fail(\"no\")"}}]}`)
		}
		r.Put("p-"+name, parent(child))
		run := r.Wait(r.Start("p-"+name, nil), store.Failed)
		r.G.Expect(run.Error).To(ContainSubstring(want), name)
	}
}

// TestSelfCall: indirect recursion ends at the limit of depth.
func TestSelfCall(t *testing.T) {
	r := begin(t)
	r.Put("ping", `{"steps":[{"name":"call","type":"workflow","with":{"name":"pong","wait":true}}]}`)
	r.Put("pong", `{"steps":[{"name":"call","type":"workflow","with":{"name":"ping","wait":true}}]}`)
	run := r.Wait(r.Start("ping", nil), store.Failed)
	r.G.Expect(run.Error).To(ContainSubstring("workflows call each other more than 10 levels deep"))
	r.G.Expect(len(r.Runs("ping")) + len(r.Runs("pong"))).To(Equal(11))
}

// TestAbandoned: canceling a run cancels the run and deletes the Job that it waits for.
func TestAbandoned(t *testing.T) {
	r := begin(t)
	r.Put("slow", `{"steps":[{"name":"a","type":"wait","with":{"event":true}}]}`)
	r.Put("parent", `{"steps":[{"name":"call","type":"workflow","with":{"name":"slow","wait":true}},{"name":"pod","type":"job","with":{"image":"example/x:1"}}]}`)
	id := r.Start("parent", nil)
	r.G.Eventually(func() int { return len(r.Runs("slow")) }, enginetest.Long).Should(Equal(1))
	child := r.Runs("slow")[0].ID
	r.Wait(child, store.Waiting)
	job := theJob(r, id)
	r.G.Expect(r.Cancel(t.Context(), id, "enough")).To(Succeed())
	r.Wait(child, store.Cancelled)
	r.G.Eventually(func() bool {
		return apierrors.IsNotFound(r.Client.Get(t.Context(), client.ObjectKeyFromObject(job), job)) || job.DeletionTimestamp != nil
	}, enginetest.Long).Should(BeTrue())
	r.G.Eventually(func() ([]store.Delegation, error) { return r.Store().Abandoned(t.Context(), 10) }, enginetest.Long).Should(BeEmpty())
}

func TestPipeline(t *testing.T) {
	r := begin(t)
	kind := schema.GroupVersionKind{Group: "dataflow.itechsmart.dev", Version: "v1alpha1", Kind: "Pipeline"}
	pipeline := func() *unstructured.Unstructured {
		p := &unstructured.Unstructured{}
		p.SetGroupVersionKind(kind)
		p.SetNamespace(r.Namespace)
		p.SetName("warehouse")
		return p
	}
	p := pipeline()
	p.Object["spec"] = map[string]any{
		"paused":  true,
		"sources": []any{map[string]any{"name": "in", "type": "http", "config": map[string]any{}}},
		"sinks":   []any{map[string]any{"name": "out", "type": "http", "config": map[string]any{}}},
	}
	r.G.Expect(r.Client.Create(t.Context(), p)).To(Succeed())
	status := func(phase string, generation int64, conditions ...any) {
		t.Helper()
		r.G.Eventually(func() error {
			p := pipeline()
			if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			if generation == 0 {
				generation = p.GetGeneration()
			}
			p.Object["status"] = map[string]any{"phase": phase, "observedGeneration": generation, "conditions": conditions}
			return r.Client.Status().Update(t.Context(), p)
		}, enginetest.Long).Should(Succeed())
	}
	status("Running", 1) // of the generation before the start
	step := func(action, more string) string {
		return fmt.Sprintf(`{"name":%q,"type":"pipeline","with":{"name":"warehouse","action":%q%s}}`, action, action, more)
	}
	r.Put("load", `{"steps":[`+step("start", "")+`,{"name":"wait","needs":["start"],"type":"pipeline","with":{"name":"warehouse","action":"wait","until":"Completed"}}]}`)
	id := r.Start("load", nil)
	expectPaused := func(want bool) {
		t.Helper()
		r.G.Eventually(func() bool {
			p := pipeline()
			_ = r.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p)
			paused, _, _ := unstructured.NestedBool(p.Object, "spec", "paused")
			return paused == want && len(p.Object["spec"].(map[string]any)) > 2
		}, enginetest.Long).Should(BeTrue(), "spec.paused should change, and nothing else")
	}
	expectPaused(false)
	r.Wait(id, store.Waiting)
	status("Finished", 0)
	r.Wait(id, store.Succeeded)
	r.G.Expect(r.Output(id, "wait")).To(MatchJSON(`{"name":"warehouse","phase":"Finished"}`))

	r.Put("stop", `{"steps":[`+step("pause", "")+`,{"name":"wait","needs":["pause"],"type":"pipeline","with":{"name":"warehouse","action":"wait","until":"Paused"}}]}`)
	id = r.Start("stop", nil)
	expectPaused(true)
	status("Failed", 0, map[string]any{"type": "Stalled", "status": "True", "reason": "InvalidConfig", "message": "sources[0]: no such topic", "lastTransitionTime": "2026-01-01T00:00:00Z"})
	r.G.Expect(r.Wait(id, store.Failed).Error).To(ContainSubstring("Pipeline warehouse cannot work: sources[0]: no such topic"))

	r.Put("late", `{"steps":[{"name":"wait","type":"pipeline","with":{"name":"warehouse","action":"wait","timeout":"1s","until":"Running"}}]}`)
	status("Paused", 0)
	r.G.Expect(r.Wait(r.Start("late", nil), store.Failed).Error).To(ContainSubstring("Pipeline warehouse was not Running within 1s"))
	r.Put("none", `{"steps":[{"name":"wait","type":"pipeline","with":{"name":"nobody","action":"start"}}]}`)
	r.G.Expect(r.Wait(r.Start("none", nil), store.Failed).Error).To(ContainSubstring("Pipeline nobody does not exist"))
}

// theJob waits for the Job of a run.
func theJob(r *enginetest.Harness, run string) *batchv1.Job {
	r.T.Helper()
	var list batchv1.JobList
	r.G.Eventually(func() ([]batchv1.Job, error) {
		err := r.Client.List(context.Background(), &list, client.InNamespace(r.Namespace), client.MatchingLabels{runLabel: run})
		return list.Items, err
	}, enginetest.Long).Should(HaveLen(1))
	return &list.Items[0]
}

// end finishes a Job as the Job controller and a kubelet would.
func end(r *enginetest.Harness, job *batchv1.Job, code int32) {
	r.T.Helper()
	ctx := context.Background()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: job.Name + "-x", Namespace: r.Namespace, Labels: job.Spec.Template.Labels}, Spec: job.Spec.Template.Spec}
	r.G.Expect(r.Client.Create(ctx, pod)).To(Succeed())
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}}
	r.G.Expect(r.Client.Status().Update(ctx, pod)).To(Succeed())
	now := metav1.Now()
	job.Status.StartTime, job.Status.CompletionTime = &now, &now
	kinds := []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete}
	if code != 0 {
		job.Status.CompletionTime = nil
		kinds = []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed}
	}
	for _, kind := range kinds {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, Reason: "X", Message: "it is over"})
	}
	r.G.Expect(r.Client.Status().Update(ctx, job)).To(Succeed())
}

func TestJob(t *testing.T) {
	r := begin(t)
	r.Put("run", `{"steps":[{"name":"pod","type":"job","with":{"image":"example/pack:1","args":["--run","${{ run.id }}"],"env":{"B":"2","A":"1"},"timeout":"90s","serviceAccount":"builder","resources":{"limits":{"cpu":"1"}}}}]}`)
	id := r.Start("run", nil)
	job := theJob(r, id)
	spec := job.Spec.Template.Spec
	c := spec.Containers[0]
	r.G.Expect(c.Args).To(Equal([]string{"--run", id}))
	r.G.Expect(c.Env).To(Equal([]corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}))
	r.G.Expect(c.Resources.Limits.Cpu().String()).To(Equal("1"))
	r.G.Expect(*job.Spec.ActiveDeadlineSeconds).To(BeEquivalentTo(90))
	r.G.Expect(*job.Spec.BackoffLimit).To(BeZero())
	r.G.Expect(*job.Spec.TTLSecondsAfterFinished).To(Equal(jobTTL))
	r.G.Expect(spec.ServiceAccountName).To(Equal("builder"))
	r.G.Expect(*spec.AutomountServiceAccountToken).To(BeFalse(), "authors of Workflows must not get the permissions of every ServiceAccount")
	r.G.Expect(*spec.SecurityContext.RunAsNonRoot).To(BeTrue())
	r.G.Expect(*c.SecurityContext.AllowPrivilegeEscalation).To(BeFalse())
	end(r, job, 0)
	r.Wait(id, store.Succeeded)
	r.G.Expect(r.Output(id, "pod")).To(MatchJSON(`{"exitCode":0,"logs":"it is done\n"}`))

	id = r.Start("run", nil)
	end(r, theJob(r, id), 3)
	r.G.Expect(r.Wait(id, store.Failed).Error).To(ContainSubstring("the container exited with code 3"))

	r.Put("bad", `{"steps":[{"name":"pod","type":"job","with":{"image":"example/pack:1","resources":{"limits":{"cpu":"many"}}}}]}`)
	r.G.Expect(r.Wait(r.Start("bad", nil), store.Failed).Error).To(ContainSubstring("with.resources"))
	r.Put("forbidden", `{"steps":[{"name":"pod","type":"job","with":{"image":"example/x:1","env":{"A=B":"1"}}}]}`)
	r.G.Expect(r.Wait(r.Start("forbidden", nil), store.Failed).Error).To(ContainSubstring("rejected by the API server"))
}

// TestTail checks that the end of the logs is kept, within the limits.
func TestTail(t *testing.T) {
	for _, letter := range []string{"a", "<", "\x01", "\xff", "ä"} {
		got, err := tail(strings.NewReader(strings.Repeat(letter, 1<<20) + "end"))
		data, errJSON := json.Marshal(got)
		if err != nil || errJSON != nil || !strings.HasSuffix(got, "end") || len(data) > maxJSON || letter == "a" && len(got) != maxLogs {
			t.Errorf("%q: %d bytes, %d as JSON, %v", letter, len(got), len(data), err)
		}
	}
	if got, err := tail(strings.NewReader("")); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMany starts 200 runs from one forEach, each once.
func TestMany(t *testing.T) {
	r := begin(t)
	r.Put("child", `{"steps":[{"name":"a","type":"transform","with":{"value":1}}],"history":{"successful":1000}}`)
	items := make([]string, 200)
	for i := range items {
		items[i] = fmt.Sprint(i)
	}
	r.Put("parent", `{"steps":[{"name":"call","type":"workflow","forEach":{"items":[`+strings.Join(items, ",")+`],"parallelism":100},"with":{"name":"child","wait":true}}]}`)
	began := time.Now()
	r.Wait(r.Start("parent", nil), store.Succeeded)
	t.Logf("200 children in %s", time.Since(began))
	r.G.Expect(r.Runs("child")).To(HaveLen(200))
}
