// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/config"
)

// resource is one of the operator's kinds.
type resource interface {
	client.Object
	common.ConditionedObject
}

// named returns the metadata by which the quickstart's resources are found.
func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func thePlatform() *platformv1alpha1.Platform {
	return &platformv1alpha1.Platform{ObjectMeta: named("main")}
}

func theVault() *vaultv1alpha1.VaultService {
	return &vaultv1alpha1.VaultService{ObjectMeta: named("vault")}
}

func theWorkflow() *workflowv1alpha1.WorkflowService {
	return &workflowv1alpha1.WorkflowService{ObjectMeta: named("workflow")}
}

// working waits until a resource is Ready at its current generation.
func (c *cluster) working(obj resource) {
	c.t.Helper()
	c.Eventually(func(g Gomega) {
		g.Expect(c.client.Get(c.ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		condition := meta.FindStatusCondition(*obj.GetConditions(), common.ConditionReady)
		g.Expect(condition).NotTo(BeNil())
		g.Expect(condition.ObservedGeneration).To(Equal(obj.GetGeneration()))
		g.Expect(condition.Status).To(Equal(metav1.ConditionTrue), "%s: %s", condition.Reason, condition.Message)
	}, patience, often).Should(Succeed())
}

// platformReady waits until the quickstart's Platform is Ready, and every service on it.
func (c *cluster) platformReady() {
	c.t.Helper()
	c.working(thePlatform())
	for _, service := range c.services() {
		c.working(service)
	}
}

// services returns the quickstart's services, by product: its Vault, and its Workflow if there is one.
func (c *cluster) services() map[string]resource {
	c.t.Helper()
	out := map[string]resource{vaultv1alpha1.Product: theVault()}
	workflow := theWorkflow()
	err := c.client.Get(c.ctx, client.ObjectKeyFromObject(workflow), workflow)
	c.Expect(client.IgnoreNotFound(err)).To(Succeed())
	if err == nil {
		out[workflowv1alpha1.Product] = workflow
	}
	return out
}

// change edits a resource, waits until it is Ready, and undoes the edit at the end of the test.
func change[T resource, S any](c *cluster, obj T, spec func(T) *S, edit func(*S)) {
	c.t.Helper()
	update := func(c *cluster, edit func(*S)) {
		c.t.Helper()
		c.Expect(c.client.Get(c.ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		base := obj.DeepCopyObject().(client.Object)
		edit(spec(obj))
		c.Expect(c.client.Patch(c.ctx, obj, client.MergeFrom(base))).To(Succeed())
	}
	c.Expect(c.client.Get(c.ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
	was := obj.DeepCopyObject().(T)
	update(c, edit)
	c.after(func(c *cluster) { update(c, func(s *S) { *s = *spec(was) }) })
	c.working(obj)
}

func (c *cluster) changeVault(edit func(*vaultv1alpha1.VaultServiceSpec)) {
	c.t.Helper()
	change(c, theVault(), func(s *vaultv1alpha1.VaultService) *vaultv1alpha1.VaultServiceSpec { return &s.Spec }, edit)
}

func (c *cluster) changeWorkflow(edit func(*workflowv1alpha1.WorkflowServiceSpec)) {
	c.t.Helper()
	change(c, theWorkflow(), func(s *workflowv1alpha1.WorkflowService) *workflowv1alpha1.WorkflowServiceSpec { return &s.Spec }, edit)
}

func (c *cluster) changePlatform(edit func(*platformv1alpha1.PlatformSpec)) {
	c.t.Helper()
	change(c, thePlatform(), func(p *platformv1alpha1.Platform) *platformv1alpha1.PlatformSpec { return &p.Spec }, edit)
}

// changeServices edits the Platform, and waits until every service runs with the changed configuration; at the end of the
// test it waits until every service runs as before.
func (c *cluster) changeServices(edit func(*platformv1alpha1.PlatformSpec), has func(*config.Service) bool) {
	c.t.Helper()
	c.platformReady()
	before := map[string]bool{}
	for product := range c.services() {
		before[product] = has(c.configuration(product))
	}
	c.after(func(c *cluster) { // after the edit is undone
		for product, want := range before {
			c.serves(product, func(s *config.Service) bool { return has(s) == want })
		}
	})
	c.changePlatform(edit)
	for product := range before {
		c.serves(product, has)
	}
	c.platformReady()
}

// serves waits until all replicas of a product run with a configuration; a product that was removed meanwhile has none.
func (c *cluster) serves(product string, has func(*config.Service) bool) {
	c.t.Helper()
	c.Eventually(func(g Gomega) {
		d, s, err := c.deployment(product)
		if apierrors.IsNotFound(err) {
			return
		}
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(has(s)).To(BeTrue(), "%s does not have the configuration", d.Name)
		replicas := ptr.Deref(d.Spec.Replicas, 1)
		g.Expect(d.Status.ObservedGeneration).To(Equal(d.Generation))
		g.Expect([]int32{d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas}).To(HaveEach(replicas), d.Name)
	}, patience, often).Should(Succeed())
}

func (c *cluster) configuration(product string) *config.Service {
	c.t.Helper()
	_, s, err := c.deployment(product)
	c.Expect(err).NotTo(HaveOccurred())
	return s
}

// deployment returns a product's Deployment, and the configuration that its Pods mount.
func (c *cluster) deployment(product string) (*appsv1.Deployment, *config.Service, error) {
	d := &appsv1.Deployment{ObjectMeta: named(common.ServiceName("main", product))}
	if err := c.client.Get(c.ctx, client.ObjectKeyFromObject(d), d); err != nil {
		return nil, nil, err
	}
	for _, volume := range d.Spec.Template.Spec.Volumes {
		if volume.Secret == nil {
			continue
		}
		secret := &corev1.Secret{ObjectMeta: named(volume.Secret.SecretName)}
		if err := c.client.Get(c.ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return nil, nil, err
		}
		if file, ok := secret.Data[config.FileName]; ok {
			s := &config.Service{}
			return d, s, json.Unmarshal(file, s)
		}
	}
	return d, &config.Service{}, nil
}

// unlimited removes the rate limit for the test.
func (c *cluster) unlimited() {
	c.t.Helper()
	c.changeServices(
		func(s *platformv1alpha1.PlatformSpec) { s.RateLimit.RequestsPerMinute = ptr.To[int32](0) },
		func(s *config.Service) bool { return s.RateLimit.RequestsPerMinute < 0 })
}

// runsWorkflow gives the Platform RabbitMQ and a WorkflowService, and removes at the end of the test what it added.
func (c *cluster) runsWorkflow() {
	c.t.Helper()
	start := time.Now()
	c.changePlatform(func(s *platformv1alpha1.PlatformSpec) {
		if s.Backends.RabbitMQ == nil {
			s.Backends.RabbitMQ = &platformv1alpha1.Backend{Managed: &platformv1alpha1.ManagedBackend{}}
		}
	})
	s := theWorkflow()
	s.Spec.PlatformRef.Name = "main"
	err := c.client.Create(c.ctx, s)
	if !apierrors.IsAlreadyExists(err) {
		c.Expect(err).NotTo(HaveOccurred())
		c.after(func(c *cluster) {
			c.Expect(client.IgnoreNotFound(c.client.Delete(c.ctx, theWorkflow()))).To(Succeed())
			c.Eventually(func() bool {
				return apierrors.IsNotFound(c.client.Get(c.ctx, client.ObjectKeyFromObject(s), theWorkflow()))
			}, patience, often).Should(BeTrue(), "the WorkflowService still exists")
		})
	}
	c.working(theWorkflow())
	c.t.Logf("the Platform runs Workflow after %.1f s", time.Since(start).Seconds())
}
