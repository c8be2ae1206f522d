// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
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
)

// lake returns a Secret as the S3 connector of Pipelines takes it, but for the bucket.
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

// TestObjectStorageOnMinIO logs in to a real store: to a bucket that is missing, with a wrong key, and as it should be.
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
		func(d *setup.Deps) error { return SetupWith(d, probe, w.logins.databases) })

	data := map[string]string{"type": "s3", "uri": "http://" + b.Address(), "access-key": b.Username, "secret-key": b.Password, "bucket": "no-such-bucket"}
	secret := binding("lake", data)
	w.create(secret)
	w.create(newPlatform(v1alpha1.Backends{ObjectStorage: externalAt("lake")}))
	// Until the cache has the Secret, it is reported as not found.
	w.Eventually(func() string { return w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound).Message }).Should(And(
		ContainSubstring(fmt.Sprintf(`objectstorage: Object storage at %s cannot be used: s3: list bucket "no-such-bucket": not found`, b.Address())),
		ContainSubstring("create it, or correct the Secret"),
	))

	secret.StringData = map[string]string{"bucket": b.Extra[s3.KeyBucket], "secret-key": "wr0ng-" + b.Password}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonAccessDenied)
	w.Expect(condition.Message).NotTo(ContainSubstring(b.Password))

	secret.StringData = map[string]string{"secret-key": b.Password}
	w.Expect(w.client.Update(ctx, secret)).To(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	var written corev1.Secret
	w.Expect(w.get("main-objectstorage-binding", &written)).To(Succeed())
	bucket, err := s3.Open(backend.ParseBinding(written.Data))
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(bucket.Put(ctx, "folder/key", []byte("value"))).To(Succeed())
}
