// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/setup"
)

// children has an Applier as controllers have it, with the manager's cache.
type children struct {
	*WithT
	t         *testing.T
	client    client.Client
	cache     cache.Cache
	applier   *apply.Applier
	namespace string
	owner     *corev1.ConfigMap
	requests  *ctrltest.Requests
}

func newChildren(t *testing.T) *children {
	t.Helper()
	c := &children{WithT: NewWithT(t), t: t, namespace: ctrltest.Namespace(t)}
	var cfg *rest.Config
	c.client, cfg = ctrltest.Env(t)
	cfg, c.requests = ctrltest.Count(cfg)
	ctrltest.Start(t, cfg, setup.Options{Namespaces: []string{c.namespace}}, func(d *setup.Deps) error {
		c.cache, c.applier = d.Manager.GetCache(), d.Applier
		return nil
	})
	c.Expect(c.cache.WaitForCacheSync(t.Context())).To(BeTrue()) // it has started
	c.owner = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "owner"}}
	c.Expect(c.client.Create(t.Context(), c.owner)).To(Succeed())
	return c
}

func (c *children) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: c.namespace, Name: "child"}
}

func (c *children) configMap(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: c.meta(), Data: data}
}

// apply applies a child, and waits until the cache has the result.
func (c *children) apply(desired client.Object) error {
	err := c.applier.Apply(c.t.Context(), c.owner, desired)
	if err == nil {
		ctrltest.Seen(c.t, c.cache, c.live(desired))
	}
	return err
}

// live returns what the API server has.
func (c *children) live(like client.Object) client.Object {
	found := like.DeepCopyObject().(client.Object)
	c.Expect(c.client.Get(context.Background(), client.ObjectKeyFromObject(like), found)).To(Succeed())
	return found
}

// writes returns how many requests change something while do runs.
func (c *children) writes(do func()) int {
	c.requests.Reset()
	do()
	return len(c.requests.Writes())
}

// TestApplyRemovesCreatedFields: what a child was created with goes when it is no longer desired, and what others set stays.
func TestApplyRemovesCreatedFields(t *testing.T) {
	c := newChildren(t)
	c.Expect(c.writes(func() { c.Expect(c.apply(c.configMap(map[string]string{"a": "1", "b": "1"}))).To(Succeed()) })).To(Equal(1))
	c.Expect(c.writes(func() { c.Expect(c.apply(c.configMap(map[string]string{"a": "1", "b": "1"}))).To(Succeed()) })).To(BeZero())

	other := c.live(c.configMap(nil)).(*corev1.ConfigMap)
	other.Data["other"] = "1"
	c.Expect(c.client.Update(t.Context(), other, client.FieldOwner("somebody"))).To(Succeed())
	ctrltest.Seen(t, c.cache, other)

	c.Expect(c.writes(func() { c.Expect(c.apply(c.configMap(map[string]string{"a": "2"}))).To(Succeed()) })).To(Equal(2), "its fields are taken over once")
	c.Expect(c.live(other).(*corev1.ConfigMap).Data).To(Equal(map[string]string{"a": "2", "other": "1"}))
	c.Expect(c.writes(func() { c.Expect(c.apply(c.configMap(map[string]string{"c": "3"}))).To(Succeed()) })).To(Equal(1))
	c.Expect(c.live(other).(*corev1.ConfigMap).Data).To(Equal(map[string]string{"c": "3", "other": "1"}))
}

// TestApplyLeavesForeignObjects: an object that the cache does not hold, because it has not the operator's label, is not
// taken over.
func TestApplyLeavesForeignObjects(t *testing.T) {
	c := newChildren(t)
	c.Expect(c.client.Create(t.Context(), c.configMap(map[string]string{"theirs": "1"}))).To(Succeed())
	err := c.applier.Apply(t.Context(), c.owner, c.configMap(map[string]string{"ours": "1"}))
	var terminal *reconcile.Terminal
	c.Expect(err).To(BeAssignableToTypeOf(terminal))
	c.Expect(err).To(HaveField("Reason", common.ReasonConflict))
	c.Expect(c.live(c.configMap(nil)).(*corev1.ConfigMap).Data).To(Equal(map[string]string{"theirs": "1"}))
}

// TestApplyComparesDigests: the cache has digests of a configuration, and a change by somebody else is undone.
func TestApplyComparesDigests(t *testing.T) {
	c := newChildren(t)
	desired := func() *corev1.Secret {
		return &corev1.Secret{ObjectMeta: c.meta(), Type: apply.SecretTypeConfiguration, Data: map[string][]byte{"service.json": []byte(`{"a":1}`)}}
	}
	c.Expect(c.apply(desired())).To(Succeed())
	cached := desired()
	c.Expect(c.cache.Get(t.Context(), client.ObjectKeyFromObject(cached), cached)).To(Succeed())
	c.Expect(string(cached.Data["service.json"])).To(And(HavePrefix("sha256:"), Not(ContainSubstring("{"))))
	c.Expect(c.writes(func() { c.Expect(c.apply(desired())).To(Succeed()) })).To(BeZero())

	changed := c.live(desired()).(*corev1.Secret)
	changed.Data["service.json"] = []byte(`{"a":2}`)
	c.Expect(c.client.Update(t.Context(), changed)).To(Succeed())
	ctrltest.Seen(t, c.cache, changed)
	c.Expect(c.apply(desired())).To(Succeed())
	c.Expect(c.live(desired()).(*corev1.Secret).Data).To(HaveKeyWithValue("service.json", []byte(`{"a":1}`)))
}
