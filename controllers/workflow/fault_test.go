// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/test/kube"
)

// faultScenario is one thing that happens to a Workflow, whose manager dies at any of its writes.
type faultScenario struct {
	// exists is true if the Workflow is Ready when act begins.
	exists bool
	act    func(*world)
	// path and server are expected in the bindings and the Workflow at the end; empty: it does not exist.
	path, server string
	runs         []string
}

func TestManagerDiesAtEveryWrite(t *testing.T) {
	for name, scenario := range map[string]faultScenario{
		"created": {path: "orders", server: "kafka:9092", act: func(w *world) { w.workflow(subject()) }},
		"edited": {exists: true, path: "moved", server: "kafka:9092", act: func(w *world) {
			edit(w, w.named(), func(of *workflowv1alpha1.Workflow) { of.Spec.Triggers[1].Webhook.Path = "moved" })
		}},
		"rotated": {exists: true, path: "orders", server: "other:9092", act: func(w *world) {
			edit(w, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "kafka"}}, func(s *corev1.Secret) {
				s.StringData = map[string]string{"bootstrap-servers": "other:9092"}
			})
		}},
		"run": {exists: true, path: "orders", server: "kafka:9092", runs: []string{"run-2"}, act: func(w *world) {
			for i := range 3 {
				name := fmt.Sprintf("run-%d", i)
				w.run("orders", name)
				w.end(name, workflowv1alpha1.RunSucceeded, time.Duration(10-i)*time.Minute)
			}
		}},
		"deleted": {exists: true, act: func(w *world) { w.Expect(w.client.Delete(w.ctx, w.named())).To(Succeed()) }},
	} {
		t.Run(name, func(t *testing.T) { kube.EveryWrite(t, 4, scenario.play) })
	}
}

func subject() *workflowv1alpha1.Workflow {
	of := hooked("orders", "orders")
	of.Spec.History.Successful = ptr.To[int32](1)
	return of
}

// named returns where the Workflow is.
func (w *world) named() *workflowv1alpha1.Workflow {
	return &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "orders"}}
}

func (w *world) manager(crash *kube.Crash) (stop func()) {
	_, cfg := ctrltest.Env(w.t)
	options := setup.Options{Namespaces: []string{w.namespace}}
	return kube.Manager{
		Config: cfg, Scheme: ctrltest.Scheme(), Cache: setup.CacheOptions(options.Namespaces), Crash: crash,
		Setup: func(mgr manager.Manager) error {
			deps, err := setup.New(mgr, options)
			if err != nil {
				return err
			}
			return w.setup(deps)
		},
	}.Run(w.t)
}

func (s faultScenario) play(t *testing.T, at string, when kube.When) (state map[string]string, writes []string, died bool) {
	t.Helper()
	w := newCell(t)
	w.platform("main")
	w.secrets()
	crash := kube.NewCrash()
	stop := w.manager(crash)
	if s.exists {
		w.workflow(subject())
		before := faultScenario{path: "orders", server: "kafka:9092"}
		crash.Await(w.t, func() error {
			if !crash.Quiet(500 * time.Millisecond) {
				return errors.New("the manager goes on writing")
			}
			return before.done(w)
		})
	}
	crash.Arm(at, when)
	s.act(w)
	crash.Await(w.t, func() error { return s.done(w) })
	stop()
	select {
	case <-crash.Dead():
		died = true
		stop = w.manager(nil)
		kube.NewCrash().Await(w.t, func() error { return s.done(w) })
		stop()
	default:
	}
	return w.state(), crash.Writes(), died
}

// done returns nil when all is as the scenario has it. On the way it does what the service does.
func (s faultScenario) done(w *world) error {
	bound := w.bindings("main")
	of := w.named()
	err := w.client.Get(w.ctx, client.ObjectKeyFromObject(of), of)
	switch {
	case s.path == "" && client.IgnoreNotFound(err) == nil && err != nil && len(bound) == 0:
		return nil
	case s.path == "" || err != nil:
		return errors.Join(fmt.Errorf("the Workflow, or %v, is still there", keys(bound)), err)
	case of.Status.ServedGeneration != of.Generation:
		return errors.Join(errors.New("the service takes it"), w.tryServe(of))
	}
	found := meta.FindStatusCondition(of.Status.Conditions, common.ConditionReady)
	if found == nil || found.Status != metav1.ConditionTrue || found.ObservedGeneration != of.Generation || of.Spec.Triggers[1].Webhook.Path != s.path {
		return fmt.Errorf("not Ready: %+v", found)
	}
	if got := bound["orders"].Connections["bus"]["bootstrap-servers"]; got != s.server {
		return fmt.Errorf("the bindings name %q", got)
	}
	if runs := w.names(); !slices.Equal(runs, s.runs) {
		return fmt.Errorf("runs: %v", runs)
	}
	for _, name := range s.runs {
		run := &workflowv1alpha1.WorkflowRun{}
		if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, run); err != nil || !meta.IsStatusConditionTrue(run.Status.Conditions, common.ConditionReady) {
			return fmt.Errorf("run %s: %+v, %w", name, run.Status.Conditions, err)
		}
	}
	return nil
}

// state returns all that matters at the end, without what differs from cell to cell.
func (w *world) state() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	var secrets corev1.SecretList
	w.Expect(w.client.List(w.ctx, &secrets, client.InNamespace(w.namespace))).To(Succeed())
	for i := range secrets.Items {
		s := &secrets.Items[i]
		text := fmt.Sprint(s.Labels, s.Type, len(s.OwnerReferences))
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			text += key + "=" + string(s.Data[key])
		}
		out["secret "+s.Name] = text
	}
	if of := w.named(); w.client.Get(w.ctx, client.ObjectKeyFromObject(of), of) == nil {
		var conditions []string
		for _, c := range of.Status.Conditions {
			conditions = append(conditions, c.Type+" "+string(c.Status)+" "+c.Reason+" "+c.Message)
		}
		slices.Sort(conditions)
		of.Status.Conditions = nil
		data, err := json.Marshal([]any{of.Spec, of.Status, of.Finalizers})
		w.Expect(err).NotTo(HaveOccurred())
		out["workflow"] = string(data) + strings.Join(conditions, ", ")
	}
	out["runs"] = strings.Join(w.names(), ", ")
	return out
}
