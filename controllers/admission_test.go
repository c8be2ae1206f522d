// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/controllers/internal/admission"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
)

// webhooks is a namespace whose resources the API server sends to the webhooks of a manager.
type webhooks struct {
	*WithT
	t         *testing.T
	client    client.Client
	namespace string
	clock     *ctrltest.Clock
}

func newWebhooks(t *testing.T) *webhooks {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &webhooks{WithT: NewWithT(t), t: t, client: c, namespace: ctrltest.Namespace(t), clock: &ctrltest.Clock{}}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	w.Expect(c.Create(context.Background(), &corev1.Secret{ObjectMeta: w.meta()})).To(Succeed())
	return w
}

func (w *webhooks) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: w.namespace, Name: w.namespace}
}

// serve starts a manager that serves webhooks, on a port of its own.
func (w *webhooks) serve() (port int, stop func()) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.Expect(err).NotTo(HaveOccurred())
	port = listener.Addr().(*net.TCPAddr).Port
	w.Expect(listener.Close()).To(Succeed())
	server := admission.New(admission.Options{Name: w.namespace, Namespace: w.namespace, Hosts: []string{"127.0.0.1"}, Port: port, Now: w.clock.Now})
	_, cfg := ctrltest.Env(w.t)
	stop = ctrltest.Start(w.t, cfg, setup.Options{Namespaces: []string{w.namespace}, Webhooks: server}, serveWebhooks)
	return port, stop
}

// configure applies the project's ValidatingWebhookConfiguration, for this namespace and port.
func (w *webhooks) configure(port int) *admissionv1.ValidatingWebhookConfiguration {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(ctrltest.Root(), "config", "webhook", "manifests.yaml"))
	w.Expect(err).NotTo(HaveOccurred())
	configuration := &admissionv1.ValidatingWebhookConfiguration{}
	w.Expect(yaml.UnmarshalStrict(data, configuration)).To(Succeed())
	configuration.ObjectMeta = metav1.ObjectMeta{Name: w.namespace}
	for i := range configuration.Webhooks {
		hook := &configuration.Webhooks[i]
		url := fmt.Sprintf("https://127.0.0.1:%d%s", port, *hook.ClientConfig.Service.Path)
		hook.ClientConfig = admissionv1.WebhookClientConfig{URL: ptr.To(url)}
		hook.FailurePolicy = ptr.To(admissionv1.Fail)
		hook.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}}
	}
	w.Expect(w.client.Create(context.Background(), configuration)).To(Succeed())
	w.t.Cleanup(func() { w.Expect(w.client.Delete(context.Background(), configuration)).To(Succeed()) })
	return configuration
}

func (w *webhooks) create(manifest string) (*unstructured.Unstructured, error) {
	w.t.Helper()
	obj := &unstructured.Unstructured{}
	w.Expect(yaml.Unmarshal([]byte(manifest), obj)).To(Succeed())
	obj.SetNamespace(w.namespace)
	return obj, w.client.Create(context.Background(), obj)
}

func (w *webhooks) get(obj client.Object) {
	w.t.Helper()
	w.Expect(w.client.Get(context.Background(), client.ObjectKeyFromObject(obj), obj)).To(Succeed())
}

func (w *webhooks) edit(obj client.Object, change func()) {
	w.t.Helper()
	w.Eventually(func() error {
		w.get(obj)
		change()
		return w.client.Update(context.Background(), obj)
	}).Should(Succeed())
}

const goodWorkflow = `
apiVersion: workflow.itechsmart.dev/v1alpha1
kind: Workflow
metadata: {name: %s}
spec: {steps: [{name: a, type: transform, with: {value: 1}}, {name: b, type: transform, needs: [%s], with: {value: 1}}]}
`

// workflow creates a Workflow whose second step needs another one.
func (w *webhooks) workflow(name, needs string) (*unstructured.Unstructured, error) {
	w.t.Helper()
	return w.create(fmt.Sprintf(goodWorkflow, name, needs))
}

// trusted waits until the API server trusts the webhooks' certificate.
func (w *webhooks) trusted() {
	w.t.Helper()
	w.Eventually(func() error {
		_, err := w.workflow("trusted", "a")
		return client.IgnoreAlreadyExists(err)
	}).Should(Succeed())
}

// TestAdmission: of each kind, what can never work is rejected with the fields at fault, and changes nothing.
func TestAdmission(t *testing.T) {
	w := newWebhooks(t)
	port, _ := w.serve()
	w.configure(port)
	w.trusted()
	files, err := filepath.Glob(filepath.Join("testdata", "admission", "*.yaml"))
	w.Expect(err).NotTo(HaveOccurred())
	kinds := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		w.Expect(err).NotTo(HaveOccurred())
		for i, document := range strings.Split(string(data), "\n---\n") {
			want := expected(document)
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(file), i), func(t *testing.T) {
				g := NewWithT(t)
				obj, err := w.create(document)
				kinds[obj.GetKind()] = true
				g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
				g.Expect(want).NotTo(BeEmpty())
				for _, line := range want {
					g.Expect(err.Error()).To(ContainSubstring(line))
				}
				g.Expect(apierrors.IsNotFound(w.client.Get(context.Background(), client.ObjectKeyFromObject(obj), obj))).To(BeTrue())
			})
		}
	}
	for _, kind := range Kinds() {
		gvk, err := w.client.GroupVersionKindFor(kind.Like)
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(kinds).To(HaveKey(gvk.Kind), "testdata/admission has no invalid %s", gvk.Kind)
	}
}

// expected returns the comments of a manifest: the errors that its creation must give.
func expected(document string) []string {
	var out []string
	for _, line := range strings.Split(document, "\n") {
		if text, ok := strings.CutPrefix(line, "# "); ok && !strings.HasPrefix(text, "SPDX") {
			out = append(out, text)
		}
	}
	return out
}

// TestSamplesAreAdmitted: no check rejects a sample.
func TestSamplesAreAdmitted(t *testing.T) {
	w := newWebhooks(t)
	checked := 0
	err := filepath.WalkDir(filepath.Join(ctrltest.Root(), "config", "samples"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			for _, kind := range Kinds() {
				gvk, err := w.client.GroupVersionKindFor(kind.Like)
				if err != nil {
					return err
				}
				if kind.Check == nil || !bytes.Contains(document, []byte("apiVersion: "+gvk.GroupVersion().String()+"\nkind: "+gvk.Kind+"\n")) {
					continue
				}
				obj := kind.Like.DeepCopyObject().(client.Object)
				if err := yaml.UnmarshalStrict(document, obj); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				checked++
				if invalid := kind.Check(obj); len(invalid) > 0 {
					t.Errorf("%s: %v", path, invalid.ToAggregate())
				}
			}
		}
		return nil
	})
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(checked).To(BeNumerically(">", 20))
}

// TestAdmissionOfEdits: an edit is checked, too; what was invalid before the webhooks can be labeled and deleted.
func TestAdmissionOfEdits(t *testing.T) {
	w := newWebhooks(t)
	bad, err := w.workflow("bad", "nobody")
	w.Expect(err).NotTo(HaveOccurred())
	port, stop := w.serve()
	w.configure(port)
	w.trusted()
	good, err := w.workflow("good", "a")
	w.Expect(err).NotTo(HaveOccurred())

	generation := good.GetGeneration()
	good.Object["spec"].(map[string]any)["steps"].([]any)[1].(map[string]any)["needs"] = []any{"nobody"}
	w.Expect(apierrors.IsInvalid(w.client.Update(context.Background(), good))).To(BeTrue())
	w.get(good)
	w.Expect(good.GetGeneration()).To(Equal(generation))

	w.edit(bad, func() { bad.SetLabels(map[string]string{"a": "b"}) })
	w.get(bad)
	w.Expect(bad.GetLabels()).To(HaveKey("a"))
	w.Expect(w.client.Delete(context.Background(), bad)).To(Succeed())
	stop() // no manager is needed to delete
	w.Expect(w.client.Delete(context.Background(), good)).To(Succeed())
}

// TestAdmissionRenews: two managers serve one certificate, which is renewed in time. Changes of the Secret or of the
// configuration by others are reverted.
func TestAdmissionRenews(t *testing.T) {
	w := newWebhooks(t)
	w.clock.Add(-61 * 24 * time.Hour) // the API server has the true time
	port, _ := w.serve()
	w.serve()
	configuration := w.configure(port)
	w.trusted()
	secret := &corev1.Secret{ObjectMeta: w.meta()}
	w.get(secret)
	first := secret.Data
	authorities := func() []byte {
		w.get(configuration)
		return configuration.Webhooks[len(configuration.Webhooks)-1].ClientConfig.CABundle
	}
	w.Expect(authorities()).To(Equal(first["ca.crt"]))

	w.edit(configuration, func() { configuration.Webhooks[len(configuration.Webhooks)-1].ClientConfig.CABundle = nil })
	w.Eventually(authorities).Should(Equal(first["ca.crt"]))

	// The event replaces the timer, for which no test waits.
	w.clock.Add(61 * 24 * time.Hour)
	w.edit(configuration, func() { configuration.Labels = map[string]string{"renew": "now"} })
	w.Eventually(func() bool {
		w.get(secret)
		return bytes.Equal(secret.Data["tls.crt"], first["tls.crt"])
	}).Should(BeFalse())
	w.Expect(secret.Data["ca.crt"]).To(HaveSuffix(string(first["ca.crt"])), "the earlier authority is still trusted")
	w.Eventually(authorities).Should(Equal(secret.Data["ca.crt"]))
	w.Eventually(func() error {
		_, err := w.workflow("after", "a")
		return client.IgnoreAlreadyExists(err)
	}).Should(Succeed())
}
