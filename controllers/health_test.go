// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// outcome is a pass that ends with an error, or with none.
type outcome struct {
	err    error
	finish func(reconcile.Object)
	obj    reconcile.Object
}

func (o *outcome) Steps() []reconcile.Step {
	return []reconcile.Step{{Name: "step", Run: func(context.Context) error { return o.err }}}
}

func (o *outcome) Finalize(context.Context) error { return o.err }

func (o *outcome) Finish(context.Context, error) time.Duration {
	if o.finish != nil {
		o.finish(o.obj)
	}
	return 0
}

// state is what can happen to a resource, and its health in Argo CD and in Flux.
type state struct {
	outcome
	change  func(client.Object) // before the pass
	later   func(*unstructured.Unstructured)
	fresh   bool // no pass has written a status yet
	argo    string
	flux    status.Status
	message string
}

// states of a resource. The frame of all controllers writes the conditions.
var states = map[string]state{
	"ready":   {argo: "Healthy", flux: status.CurrentStatus, message: "All is as specified."},
	"waiting": {outcome: outcome{err: &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "on its way"}}, argo: "Progressing", flux: status.InProgressStatus, message: "on its way"},
	"failing": {outcome: outcome{err: reconcile.Fail(common.ReasonBackendUnavailable, errors.New("no answer"))}, argo: "Progressing", flux: status.InProgressStatus, message: "no answer"},
	"stalled": {outcome: outcome{err: reconcile.Stall(common.ReasonInvalidSpec, "spec.x: wrong")}, argo: "Degraded", flux: status.FailedStatus, message: "spec.x: wrong"},
	"new":     {fresh: true, argo: "Progressing", flux: status.InProgressStatus, message: "Waiting for the operator."},
	"running": {
		outcome: outcome{err: reconcile.Wait("Running", "The run is under way."), finish: func(o reconcile.Object) {
			reconcile.Set(o, common.ConditionReady, metav1.ConditionUnknown, "Running", "The run is under way.")
		}},
		argo: "Progressing", flux: status.InProgressStatus, message: "The run is under way.",
	},
	"edited": {
		later: func(u *unstructured.Unstructured) { u.SetGeneration(u.GetGeneration() + 1) },
		argo:  "Progressing", flux: status.InProgressStatus, message: "Waiting for the operator.",
	},
	"deleted": {
		outcome: outcome{err: reconcile.Wait(common.ReasonDeleting, "Pods are ending.")},
		change:  func(o client.Object) { o.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1_700_000_000, 0)}) },
		argo:    "Progressing", flux: status.TerminatingStatus, message: "Deleting: Pods are ending.",
	},
	"suspended": {
		later: func(u *unstructured.Unstructured) { _ = unstructured.SetNestedField(u.Object, true, "spec", "suspend") },
		argo:  "Suspended", flux: status.CurrentStatus, message: "All is as specified.",
	},
	"paused": {
		outcome: outcome{finish: func(o reconcile.Object) {
			reconcile.Set(o, common.ConditionReady, metav1.ConditionTrue, "Paused", "Paused as asked.")
		}},
		argo: "Suspended", flux: status.CurrentStatus, message: "Paused as asked.",
	},
}

// TestHealth: Argo CD, by the health checks that the project ships, and Flux agree about each kind in each state.
func TestHealth(t *testing.T) {
	g := NewWithT(t)
	data, err := os.ReadFile(filepath.Join(ctrltest.Root(), "config", "argocd", "argocd-cm.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	var shipped corev1.ConfigMap
	g.Expect(yaml.UnmarshalStrict(data, &shipped)).To(Succeed())
	g.Expect(shipped.Data).To(HaveLen(len(Kinds())))
	initial := initialStatuses(g)
	for _, kind := range Kinds() {
		gvk, err := apiutil.GVKForObject(kind.Like, ctrltest.Scheme())
		g.Expect(err).NotTo(HaveOccurred())
		script := shipped.Data["resource.customizations.health."+gvk.Group+"_"+gvk.Kind]
		g.Expect(script).NotTo(BeEmpty(), "%s has no health check", gvk)
		for name, s := range states {
			t.Run(gvk.Kind+"/"+name, func(t *testing.T) {
				g := NewWithT(t)
				found := reconciled(g, kind.Like.DeepCopyObject().(reconcile.Object), s)
				found.SetGroupVersionKind(gvk)
				if s.fresh {
					found.Object["status"] = initial[gvk.GroupKind()]
				}
				health, message := evaluate(g, script, found)
				g.Expect([]string{health, message}).To(Equal([]string{s.argo, s.message}))
				result, err := status.Compute(found)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(result.Status).To(Equal(s.flux), result.Message)
			})
		}
	}
}

// initialStatuses returns the status that the API server gives to new resources, by kind: the default in the CRD.
func initialStatuses(g *WithT) map[schema.GroupKind]any {
	paths, err := filepath.Glob(filepath.Join(ctrltest.Root(), "config", "crd", "*_*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	out := map[schema.GroupKind]any{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		g.Expect(err).NotTo(HaveOccurred())
		var crd apiextensionsv1.CustomResourceDefinition
		g.Expect(yaml.UnmarshalStrict(data, &crd)).To(Succeed(), path)
		def := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"].Default
		g.Expect(def).NotTo(BeNil(), "%s: a new resource has no status.observedGeneration, and so is Current for kstatus", path)
		var value any
		g.Expect(json.Unmarshal(def.Raw, &value)).To(Succeed())
		out[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = value
	}
	return out
}

// reconciled returns a resource after a pass of the frame.
func reconciled(g *WithT, obj reconcile.Object, s state) *unstructured.Unstructured {
	obj.SetNamespace("ns")
	obj.SetName("mine")
	obj.SetGeneration(3)
	obj.SetFinalizers([]string{common.Finalizer})
	reconcile.Set(obj, common.ConditionReady, metav1.ConditionFalse, common.ReasonProgressing, "before") // no first status, which is held back
	if s.change != nil {
		s.change(obj)
	}
	c := fake.NewClientBuilder().WithScheme(ctrltest.Scheme()).WithObjects(obj).WithStatusSubresource(obj).Build()
	r := &reconcile.Reconciler[reconcile.Object]{
		Client: c, New: func() reconcile.Object { return obj.DeepCopyObject().(reconcile.Object) },
		NewPass: func(o reconcile.Object) reconcile.Pass { return &outcome{err: s.err, finish: s.finish, obj: o} },
	}
	_, err := r.Reconcile(context.Background(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
	if err != nil {
		g.Expect(err).To(MatchError(ContainSubstring("no answer")))
	}
	g.Expect(c.Get(context.Background(), client.ObjectKeyFromObject(obj), obj)).To(Succeed())
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	g.Expect(err).NotTo(HaveOccurred())
	found := &unstructured.Unstructured{Object: content}
	if s.later != nil {
		s.later(found)
	}
	return found
}

// evaluate runs a health check as Argo CD does: with few libraries, without that of strings, and the resource as the global obj.
func evaluate(g *WithT, script string, obj *unstructured.Unstructured) (health, message string) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		g.Expect(state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name))).To(Succeed())
	}
	state.SetGlobal("obj", value(state, obj.Object))
	g.Expect(state.DoString(script)).To(Succeed())
	result, ok := state.Get(-1).(*lua.LTable)
	g.Expect(ok).To(BeTrue(), "the script returns no table")
	return result.RawGetString("status").String(), result.RawGetString("message").String()
}

// value converts JSON to Lua.
func value(state *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, item := range v {
			table.RawSetString(key, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range v {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(v)
	case bool:
		return lua.LBool(v)
	case int64:
		return lua.LNumber(v)
	case float64:
		return lua.LNumber(v)
	default:
		return lua.LNil
	}
}
