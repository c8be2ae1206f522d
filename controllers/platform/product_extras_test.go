// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
)

// TestKeysAreReplacedInTwoRollouts: with the algorithm, as with age, a new key is verified everywhere before it signs.
func TestKeysAreReplacedInTwoRollouts(t *testing.T) {
	w := serviceWorld(t)
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	first := w.told().Auth.Keys[0]
	var seen [][]string
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // every configuration that a Deployment had
		defer close(ended)
		for last := false; !last; {
			select {
			case <-done:
				last = true
			case <-time.After(5 * time.Millisecond):
			}
			var d appsv1.Deployment
			if w.get("main-vault", &d) != nil {
				continue
			}
			if c, err := w.configOf(&d); err == nil {
				var ids []string
				for _, key := range c.Auth.Keys {
					ids = append(ids, key.Algorithm)
				}
				if len(seen) == 0 || !slices.Equal(seen[len(seen)-1], ids) {
					seen = append(seen, ids)
				}
			}
		}
	}()
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Auth.Algorithm = v1alpha1.RS256 })
	w.Eventually(func() string { return w.told().Auth.Keys[0].Algorithm }).Should(Equal("RS256"))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	close(done)
	<-ended
	w.Expect(seen).To(Equal([][]string{{"HS256"}, {"HS256", "RS256"}, {"RS256", "HS256"}}))
	w.Expect(w.told().Auth.Keys[1]).To(Equal(first))
}

// TestARouteNeedsItsKind runs before the CRD is installed.
func TestARouteNeedsItsKind(t *testing.T) {
	w := serviceWorld(t)
	p := vaultPlatform()
	p.Spec.Products.Vault.HTTPRoute = &v1alpha1.ProductHTTPRoute{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}}
	w.create(p)
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(condition.Message).To(ContainSubstring("install the CRDs of the Gateway API"))
}

func TestProductExtras(t *testing.T) {
	installGateway(t)
	w := serviceWorld(t)
	p := vaultPlatform()
	p.Spec.Products.Vault.ProductSpec = v1alpha1.ProductSpec{
		Autoscaling: &v1alpha1.Autoscaling{MaxReplicas: 4}, Ingress: &v1alpha1.ProductIngress{Host: "vault.example.com"},
		HTTPRoute:      &v1alpha1.ProductHTTPRoute{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}},
		ServiceMonitor: &v1alpha1.ProductServiceMonitor{}, // the cluster has none: nothing depends on it
	}
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.get("main-vault", &autoscalingv2.HorizontalPodAutoscaler{})).To(Succeed())
	w.Expect(w.get("main-vault", &networkingv1.Ingress{})).To(Succeed())
	route := w.resource(routeKind.group, "v1", routeKind.kind, "main-vault")
	var role rbacv1.ClusterRoleBinding
	key := client.ObjectKey{Name: reviewerName(w.namespace, "main", "vault")}
	w.Expect(w.client.Get(ctx, key, &role)).To(Succeed())
	w.Expect(role.RoleRef.Name).To(Equal(reviewer))

	// Drift is reverted, in what no namespace holds as well.
	role.Subjects = nil
	w.Expect(w.client.Update(ctx, &role)).To(Succeed())
	w.Eventually(func() []rbacv1.Subject {
		_ = w.client.Get(ctx, key, &role)
		return role.Subjects
	}).Should(HaveLen(1))

	// The autoscaler chooses the replicas, and nobody takes them back.
	d := w.deployment()
	d.Spec.Replicas = ptr.To[int32](3)
	w.Expect(w.client.Update(ctx, d)).To(Succeed())
	w.Eventually(func() int32 { return w.platform("main").Status.Product("vault").Replicas }).Should(Equal(int32(3)))
	w.Expect(*w.deployment().Spec.Replicas).To(Equal(int32(3)))

	// What is no longer asked for goes.
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Vault.ProductSpec = v1alpha1.ProductSpec{Replicas: 1} })
	w.gone("main-vault", &autoscalingv2.HorizontalPodAutoscaler{})
	w.gone("main-vault", &networkingv1.Ingress{})
	w.Eventually(func() error { return w.get("main-vault", route) }).ShouldNot(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Products.Vault = nil })
	w.gone("main-vault", &appsv1.Deployment{})
	w.Eventually(func() error { return w.client.Get(ctx, key, &role) }).ShouldNot(Succeed())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.platform("main").Status.Products).To(BeEmpty())
	w.Expect(w.platform("main").Status.ReadyProducts).To(BeEmpty())
}

func installGateway(t *testing.T) {
	t.Helper()
	_, cfg := ctrltest.Env(t)
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	crd := filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml")
	if _, err := envtest.InstallCRDs(cfg, envtest.CRDInstallOptions{Paths: []string{crd}, ErrorIfPathMissing: true}); err != nil {
		t.Fatal(err)
	}
}

func TestProductSteadyStateCostsNothing(t *testing.T) {
	_, cfg := ctrltest.Env(t)
	counted, requests := ctrltest.Count(cfg)
	w := newWorldWith(t, counted, ctrltest.Namespace(t))
	w.create(postgresSecret())
	w.keepServing()
	w.create(vaultPlatform())
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Eventually(requests.Quiet).Should(BeTrue())
	calls := w.logins.postgres.Total()
	requests.Reset()
	for i := range 5 {
		var service corev1.Service
		w.Expect(w.get("main-vault", &service)).To(Succeed())
		service.Annotations["touched"] = strings.Repeat("x", i+1)
		w.Expect(w.client.Update(ctx, &service)).To(Succeed())
	}
	w.Consistently(func() int { return len(requests.Writes()) + len(requests.Reads()) }, time.Second).Should(BeZero())
	w.Expect(w.logins.postgres.Total()).To(Equal(calls))
}

// TestDeletionWaitsForTheServer: with Delete a Platform stays until its schemas are dropped, and Retain lets it go.
func TestDeletionWaitsForTheServer(t *testing.T) {
	w := serviceWorld(t)
	p := vaultPlatform()
	p.Spec.DeletionPolicy = common.DeletionDelete
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.logins.postgres.Fail("DropSchema", backend.ErrUnavailable)
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.Eventually(func() string {
		condition := w.ready("main", metav1.ConditionFalse, common.ReasonDeleting)
		return condition.Message
	}).Should(ContainSubstring("set spec.deletionPolicy to Retain"))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionRetain })
	w.gone("main", &v1alpha1.Platform{})
}
