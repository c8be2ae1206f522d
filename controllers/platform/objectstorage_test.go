// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/config"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// lake is a Secret as the S3 connector of Pipelines takes it, but for the bucket.
func lake() map[string]string {
	return map[string]string{
		"type": "s3", "uri": "https://s3.example.com", "region": "eu-west-1", "bucket": "payloads", "prefix": "team",
		"access-key": "AKIA1", "secret-key": "secret-s3", "administrator-token": "canary-s3",
	}
}

func TestObjectStorageBinding(t *testing.T) {
	w := newWorld(t)
	w.create(binding("lake", lake()))
	w.create(newPlatform(v1alpha1.Backends{ObjectStorage: externalAt("lake")}))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.platform("main").Status.Backends).To(Equal([]v1alpha1.BackendStatus{{
		Name: "objectstorage", Mode: "external", Ready: true, Endpoint: "s3.example.com:443", Version: "1.2.3", BindingSecret: "main-objectstorage-binding",
	}}))
	var secret corev1.Secret
	w.Expect(w.get("main-objectstorage-binding", &secret)).To(Succeed())
	want := lake()
	want["type"], want["provider"], want["host"], want["port"], want["tls"] = "objectstorage", "external", "s3.example.com", "443", "true"
	w.Expect(backend.ParseBinding(secret.Data).Data()).To(Equal(want))
	w.Expect(w.logins.binding("objectstorage").Data()).To(Equal(want))
}

func TestObjectStorageChecksItsSecret(t *testing.T) {
	for _, test := range []struct {
		name string
		data map[string]string
		want string // empty: it is in order
		uri  string
	}{
		{"host and port", map[string]string{"host": "s3", "port": "9000", "username": "u", "password": "p", "bucket": "b"}, "", "http://s3:9000"},
		{"host alone", map[string]string{"host": "s3", "tls": "true", "username": "u", "password": "p", "bucket": "b"}, "", "https://s3:443"},
		{"uri", map[string]string{"type": "objectstorage", "uri": "http://s3:9000", "access-key": "u", "secret-key": "p", "bucket": "b"}, "", "http://s3:9000"},
		{"neither", map[string]string{"username": "u", "password": "p", "bucket": "b"}, `it lacks key "uri" (https://host[:port]), or "host" and "port"`, ""},
		{"another scheme", map[string]string{"uri": "s3://b", "username": "u", "password": "p", "bucket": "b"}, `key "uri" is not of the form https://host[:port]`, ""},
		{"a path", map[string]string{"uri": "https://s3/b", "username": "u", "password": "p", "bucket": "b"}, `key "uri" is not of the form`, ""},
		{"no port", map[string]string{"host": "s3", "port": "x", "username": "u", "password": "p", "bucket": "b"}, `key "port" must be a number`, ""},
		{"no bucket", map[string]string{"uri": "https://s3", "username": "u", "password": "p"}, `it lacks key "bucket"`, ""},
		{"no credentials", map[string]string{"uri": "https://s3", "bucket": "b"}, `it lacks keys "access-key" and "secret-key", or "username" and "password"`, ""},
		{"half of them", map[string]string{"uri": "https://s3", "bucket": "b", "access-key": "u"}, `it lacks keys "access-key" and "secret-key"`, ""},
		{"another type", map[string]string{"type": "redis", "uri": "https://s3", "bucket": "b", "username": "u", "password": "p"}, `this backend needs "objectstorage"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			b := backend.ParseBinding(test.data)
			got := objectStorageBackend.checkBinding(&b)
			if test.want != "" {
				g.Expect(got).To(ContainSubstring(test.want))
				return
			}
			g.Expect(got).To(BeEmpty())
			g.Expect(objectStorageBackend.uri(b)).To(Equal(test.uri))
		})
	}
}

// objects are what the live service and the live workers are told of the bucket.
func (w *world) objects() (service, worker map[string]string) {
	w.t.Helper()
	var s config.Service
	w.Expect(json.Unmarshal(w.mounted("main-workflow", config.FileName), &s)).To(Succeed())
	dir := w.t.TempDir()
	w.Expect(os.WriteFile(filepath.Join(dir, workerconfig.FileName), w.mounted("main-workflow-worker", workerconfig.FileName), 0o600)).To(Succeed())
	told, err := workerconfig.Load(dir)
	w.Expect(err).NotTo(HaveOccurred())
	return s.Workflow.Objects, told.Objects
}

func TestWorkflowIsGivenObjectStorage(t *testing.T) {
	w := workflowWorld(t)
	secret := binding("lake", lake())
	w.create(secret)
	p := workflowPlatform()
	p.Spec.Backends.ObjectStorage = externalAt("lake")
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	want := lake()
	delete(want, "administrator-token")
	want["type"], want["provider"], want["host"], want["port"], want["tls"] = "objectstorage", "external", "s3.example.com", "443", "true"
	service, worker := w.objects()
	w.Expect(service).To(Equal(want))
	w.Expect(worker).To(Equal(want))
	_, err := s3.Open(backend.ParseBinding(worker))
	w.Expect(err).NotTo(HaveOccurred())

	// Another key is another rollout.
	secret.StringData = map[string]string{"secret-key": "secret-s4"}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.Eventually(func() []string {
		service, worker := w.objects()
		return []string{service["secret-key"], worker["secret-key"]}
	}).Should(Equal([]string{"secret-s4", "secret-s4"}))

	// Once it is in use, an outage is its own row's alone: service and workers go on with it.
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.logins.fail("objectstorage", backend.ErrUnavailable)
	secret.StringData = map[string]string{"region": "eu-west-2"} // logs in anew
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionFalse, common.ReasonBackendUnavailable)
	w.Eventually(func() bool { return w.platform("main").Status.Product("workflow").Ready }).Should(BeTrue())
	service, _ = w.objects()
	w.Expect(service).To(HaveKeyWithValue("secret-key", "secret-s4"))

	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.ObjectStorage = nil })
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	service, worker = w.objects()
	w.Expect(service).To(BeNil())
	w.Expect(worker).To(BeNil())
	w.gone("main-objectstorage-binding", &corev1.Secret{})
}

// TestObjectStorageOnMinIO logs in to a real store. A service that runs is given the bucket when it is there, and not before.
func TestObjectStorageOnMinIO(t *testing.T) {
	b := servers.StartMinIO(t).Binding
	c, cfg := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, client: c, namespace: ctrltest.Namespace(t), logins: newLogins()}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	probe := func(ctx context.Context, kind string, b backend.Binding) (string, error) {
		if kind == v1alpha1.BackendObjectStorage {
			return realProbe(ctx, kind, b)
		}
		return w.logins.probe(ctx, kind, b)
	}
	w.stop = ctrltest.Start(t, cfg, setup.Options{Namespaces: []string{w.namespace}, DriftInterval: time.Hour},
		func(d *setup.Deps) error { return setupWith(d, probe, w.logins.stores()) })
	w.keepServing()
	w.create(postgresSecret())
	w.create(rabbitSecret())
	w.create(workflowPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	data := map[string]string{"type": "s3", "uri": "http://" + b.Address(), "access-key": b.Username, "secret-key": b.Password, "bucket": "no-such-bucket"}
	secret := binding("lake", data)
	w.create(secret)
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.ObjectStorage = externalAt("lake") })
	// Until the Secret is seen, it is what was not found.
	w.Eventually(func() string { return w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound).Message }).Should(And(
		ContainSubstring(fmt.Sprintf(`objectstorage: Object storage at %s cannot be used: s3: list bucket "no-such-bucket": not found`, b.Address())),
		ContainSubstring("create it, or correct the Secret"),
		ContainSubstring("spec.products.workflow: Object storage is awaited"),
	))
	service, worker := w.objects()
	w.Expect(service).To(BeNil())
	w.Expect(worker).To(BeNil())

	secret.StringData = map[string]string{"bucket": b.Extra[s3.KeyBucket], "secret-key": "wr0ng-" + b.Password}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonAccessDenied)
	w.Expect(condition.Message).NotTo(ContainSubstring(b.Password))

	secret.StringData = map[string]string{"secret-key": b.Password}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	service, worker = w.objects()
	w.Expect(service).To(And(Equal(worker), HaveKeyWithValue("bucket", b.Extra[s3.KeyBucket])))
	bucket, err := s3.Open(backend.ParseBinding(service))
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(bucket.Put(ctx, "folder/key", []byte("value"))).To(Succeed())
}
