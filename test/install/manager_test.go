// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/itechsmart/operator/controllers"
)

// forbidden is the log of the managers: it collects what the API server refused them.
var forbidden = &refusals{}

type refusals struct {
	mu   sync.Mutex
	seen []string
}

func (r *refusals) add(text string) {
	if strings.Contains(text, "forbidden") {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, text)
	}
}

func (r *refusals) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *refusals) Init(logr.RuntimeInfo)                  {}
func (r *refusals) Enabled(int) bool                       { return true }
func (r *refusals) Info(_ int, text string, values ...any) { r.add(text + fmt.Sprint(values...)) }
func (r *refusals) WithValues(...any) logr.LogSink         { return r }
func (r *refusals) WithName(string) logr.LogSink           { return r }
func (r *refusals) Error(err error, text string, values ...any) {
	r.add(fmt.Sprint(text, " ", err, values))
}

// registered records the paths that a manager serves.
type registered struct {
	webhook.Server
	paths []string
}

func (r *registered) Register(path string, hook http.Handler) {
	r.paths = append(r.paths, path)
	r.Server.Register(path, hook)
}

// TestWebhooksAreServed checks that the API server calls the paths that a manager serves, and no other.
func TestWebhooksAreServed(t *testing.T) {
	g := NewWithT(t)
	hooks := controllers.NewWebhooks(controllers.WebhookOptions{Name: "itechsmart-webhook", Namespace: "itechsmart-system", Hosts: []string{"127.0.0.1"}, Port: 9443})
	options := managerOptions()
	hooks.Configure(&options)
	server := &registered{Server: options.WebhookServer}
	options.WebhookServer = server
	mgr, err := ctrl.NewManager(shared.config, options)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(controllers.Setup(mgr, controllers.Options{Webhooks: hooks})).To(Succeed())

	var asked []string
	for _, configuration := range installedAs[admissionv1.ValidatingWebhookConfiguration](t, "ValidatingWebhookConfiguration") {
		for _, hook := range configuration.Webhooks {
			asked = append(asked, *hook.ClientConfig.Service.Path)
			rule := hook.Rules[0]
			kind, err := shared.client.RESTMapper().KindFor(schema.GroupVersionResource{Group: rule.APIGroups[0], Version: rule.APIVersions[0], Resource: rule.Resources[0]})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(*hook.ClientConfig.Service.Path).To(Equal("/validate-"+strings.ReplaceAll(kind.Group, ".", "-")+"-"+kind.Version+"-"+strings.ToLower(kind.Kind)), hook.Name)
			g.Expect(hook.Name).To(Equal(rule.Resources[0] + "." + rule.APIGroups[0]))
		}
	}
	g.Expect(server.paths).NotTo(BeEmpty())
	g.Expect(asked).To(ConsistOf(server.paths), "run make manifests")
}

func managerOptions() ctrl.Options {
	yes := true
	return ctrl.Options{
		Scheme: shared.scheme, Cache: controllers.CacheOptions(nil), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &yes},
	}
}

// TestManagerWorks checks that a manager with the permissions of its ServiceAccount, on a cluster with no kind but ours,
// reconciles a Platform and a service of each product.
func TestManagerWorks(t *testing.T) {
	g := NewWithT(t)
	mgr, err := ctrl.NewManager(asManager(), managerOptions())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(controllers.Setup(mgr, controllers.Options{
		ServiceRolePrefix: "itechsmart", TokenReviewerRole: "itechsmart-token-reviewer",
	})).To(Succeed())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	defer func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(30 * time.Second): // one whose caches never sync does not stop
			t.Error("the manager does not stop")
		}
		if seen := forbidden.all(); len(seen) > 0 {
			t.Errorf("the API server refused the manager:\n%s", strings.Join(seen, "\n"))
		}
	}()

	ns := namespace(t)
	resources := []*unstructured.Unstructured{resource(schema.GroupVersionKind{Group: "platform.itechsmart.dev", Version: "v1alpha1", Kind: "Platform"}, ns, nil)}
	for i := range controllers.Products {
		s := controllers.Products[i].Service
		if s == nil {
			continue
		}
		gvk, err := apiutil.GVKForObject(s.New(), shared.scheme)
		g.Expect(err).NotTo(HaveOccurred())
		resources = append(resources, resource(gvk, ns, map[string]any{"platformRef": map[string]any{"name": "main"}}))
	}
	for _, obj := range resources {
		g.Expect(shared.client.Create(t.Context(), obj)).To(Succeed())
	}
	for _, obj := range resources {
		g.Eventually(func() []string { return conditions(t, obj) }, 30*time.Second, 50*time.Millisecond).Should(ContainElement("Ready"), "%s: no condition; refused: %v", obj.GetKind(), forbidden.all())
	}
	for _, obj := range resources {
		g.Expect(shared.client.Delete(t.Context(), obj)).To(Succeed())
	}
	for _, obj := range resources {
		g.Eventually(func() error {
			return shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj.DeepCopy())
		}, 30*time.Second, 50*time.Millisecond).Should(MatchError(ContainSubstring("not found")), "%s stays", obj.GetKind())
	}
}

func resource(gvk schema.GroupVersionKind, namespace string, spec map[string]any) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(gvk)
	obj.SetNamespace(namespace)
	obj.SetName("main")
	if spec == nil {
		spec = map[string]any{}
	}
	obj.Object["spec"] = spec
	return obj
}

// conditions returns the types of a resource's conditions.
func conditions(t *testing.T, obj *unstructured.Unstructured) []string {
	t.Helper()
	found := obj.DeepCopy()
	if err := shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), found); err != nil {
		t.Fatal(err)
	}
	list, _, _ := unstructured.NestedSlice(found.Object, "status", "conditions")
	var out []string
	for _, condition := range list {
		if c, ok := condition.(map[string]any); ok {
			out = append(out, fmt.Sprint(c["type"]))
		}
	}
	return out
}
