// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
)

var ctx = context.Background()

func TestManagedBecomesReady(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(allManaged()))
	w.Eventually(func() string { return w.ready("main", metav1.ConditionFalse, common.ReasonProgressing).Message }).Should(ContainSubstring("kafka: the pod starts"))
	w.Expect(w.platform("main").Status.Ready).To(Equal("0/5"))
	for i, kind := range managedTypes() {
		w.run("main-" + kind.name)
		w.Eventually(func() string { return w.platform("main").Status.Ready }).Should(Equal(fmt.Sprintf("%d/5", i+1)))
	}
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	for _, row := range w.platform("main").Status.Backends {
		w.Expect(row.Ready).To(BeTrue())
		w.Expect(row.Message).To(BeEmpty())
		w.Expect(row.Version).To(Equal("1.2.3"))
		w.Expect(row.Endpoint).To(HavePrefix("main-" + row.Name + "." + w.namespace + ".svc:"))
		b := w.logins.binding(row.Name)
		w.Expect(b.Password).To(HaveLen(32), row.Name)
		w.Expect(b.Type).To(Equal(row.Name))
	}
}

func TestCredentialsAreMadeOnce(t *testing.T) {
	w := newWorld(t)
	w.keepRunning()
	w.create(newPlatform(v1alpha1.Backends{PostgreSQL: managedBackend()}))
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	first := w.logins.binding("postgresql").Password

	// An edit, and a new manager, keep them.
	w.edit("main", func(p *v1alpha1.Platform) {
		p.Spec.Backends.PostgreSQL.Managed.Config = map[string]v1alpha1.ConfigValue{"max_connections": "50"}
	})
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Expect(w.logins.binding("postgresql").Password).To(Equal(first))

	// When the Secret is deleted, the binding still has them.
	var secret corev1.Secret
	w.Expect(w.get("main-postgresql-credentials", &secret)).To(Succeed())
	w.Expect(secret.OwnerReferences).To(BeEmpty(), "with Retain, credentials stay with the volume")
	w.Expect(w.client.Delete(ctx, &secret)).To(Succeed())
	w.Eventually(func() (string, error) {
		var again corev1.Secret
		err := w.get("main-postgresql-credentials", &again)
		return string(again.Data["password"]), err
	}).Should(Equal(first))
}

func TestForeignCredentialsAreNotTaken(t *testing.T) {
	w := newWorld(t)
	w.create(binding("main-redis-credentials", map[string]string{"username": "somebody", "password": "theirs"}))
	w.create(newPlatform(v1alpha1.Backends{Redis: managedBackend()}))
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(condition.Message).To(ContainSubstring("main-redis-credentials"))
	w.Expect(w.get("main-redis", &appsv1.StatefulSet{})).NotTo(Succeed())
}

func TestForeignChildIsNotTaken(t *testing.T) {
	w := newWorld(t)
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "main-redis"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
	w.create(theirs)
	theirs.Labels = map[string]string{apply.LabelManagedBy: apply.ManagedBy}
	w.Expect(w.client.Update(ctx, theirs)).To(Succeed())
	w.create(newPlatform(v1alpha1.Backends{Redis: managedBackend()}))
	w.ready("main", metav1.ConditionFalse, common.ReasonConflict)
	w.Expect(w.get("main-redis", theirs)).To(Succeed())
	w.Expect(theirs.Spec.Ports[0].Port).To(Equal(int32(1)))
}

func TestSteadyStateCostsNothing(t *testing.T) {
	_, cfg := ctrltest.Env(t)
	counted, requests := ctrltest.Count(cfg)
	w := newWorldWith(t, counted, ctrltest.Namespace(t))
	w.create(binding("elsewhere", map[string]string{"host": "a", "port": "1"}))
	backends := allManaged()
	backends.Redis = externalAt("elsewhere")
	w.create(newPlatform(backends))
	for _, kind := range managedTypes() {
		if kind != redisBackend {
			w.run("main-" + kind.name)
		}
	}
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	w.Eventually(requests.Quiet).Should(BeTrue())

	// Touch a child in a way that means nothing: the pass that follows must be silent.
	passes := func() int { return w.logins.total() }
	before := passes()
	requests.Reset()
	for i := range 5 {
		var service corev1.Service
		w.Expect(w.get("main-kafka", &service)).To(Succeed())
		service.Annotations["example.com/touched"] = fmt.Sprint(i)
		w.Expect(w.client.Update(ctx, &service)).To(Succeed())
	}
	w.Consistently(requests.Writes, time.Second).Should(BeEmpty())
	w.Expect(requests.Reads()).To(BeEmpty())
	w.Expect(passes()).To(Equal(before), "a no-op pass logged in")

	// A fresh manager finds everything as it should be: it logs in once each and writes nothing.
	w.stop()
	requests.Reset()
	w.start(counted)
	w.Eventually(passes).Should(Equal(before + 5))
	w.Consistently(requests.Writes, time.Second).Should(BeEmpty())
	// Informers list; nothing is read: the foreign Secret has the version that its binding was copied from.
	var live []string
	for _, read := range requests.Reads() {
		if regexp.MustCompile(`/namespaces/[^/]+/[^/]+/.+`).MatchString(read) {
			live = append(live, read)
		}
	}
	w.Expect(live).To(BeEmpty())
}

func TestDriftIsReverted(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{Redis: managedBackend()}))
	w.run("main-redis")
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	var config corev1.ConfigMap
	w.Expect(w.get("main-redis", &config)).To(Succeed())
	original := config.Data["redis.conf"]
	config.Data["redis.conf"] = "appendonly no\n"
	w.Expect(w.client.Update(ctx, &config)).To(Succeed())
	w.Eventually(func() string { _ = w.get("main-redis", &config); return config.Data["redis.conf"] }).Should(Equal(original))

	var set appsv1.StatefulSet
	w.Expect(w.get("main-redis", &set)).To(Succeed())
	set.Spec.Template.Spec.Containers[0].Image = "evil:1"
	w.Expect(w.client.Update(ctx, &set)).To(Succeed())
	w.Eventually(func() string {
		_ = w.get("main-redis", &set)
		return set.Spec.Template.Spec.Containers[0].Image
	}).Should(Equal(redisBackend.image))

	for _, obj := range []client.Object{&corev1.Service{}, &policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}} {
		w.Expect(w.get("main-redis", obj)).To(Succeed())
		uid := obj.GetUID()
		w.Expect(w.client.Delete(ctx, obj)).To(Succeed())
		w.Eventually(func() bool {
			return w.get("main-redis", obj) == nil && obj.GetUID() != uid
		}).Should(BeTrue(), "%T was not made again", obj)
	}
}

func TestBackendUnavailableIsToldAndRetried(t *testing.T) {
	w := newWorld(t)
	w.logins.fail("redis", fmt.Errorf("redis: ping: %w: read tcp 10.0.0.1:5123->10.0.0.2:6379: i/o timeout", backend.ErrUnavailable))
	w.create(binding("elsewhere", map[string]string{"host": "a", "port": "1", "password": "secret"}))
	w.create(newPlatform(v1alpha1.Backends{Redis: externalAt("elsewhere")}))
	condition := w.ready("main", metav1.ConditionFalse, common.ReasonBackendUnavailable)
	w.Expect(condition.Message).To(Equal("redis: Redis at a:1 cannot be used: redis: ping: unavailable: read tcp 10.0.0.2:6379: i/o timeout; " +
		"check that the server runs and that the network lets the operator in"))
	w.logins.fail("redis", nil)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)

	w.logins.fail("redis", fmt.Errorf("redis: ping: %w: WRONGPASS secret", backend.ErrAuth))
	var secret corev1.Secret
	w.Expect(w.get("elsewhere", &secret)).To(Succeed())
	secret.StringData = map[string]string{"username": "u"}
	w.Expect(w.client.Update(ctx, &secret)).To(Succeed())
	condition = w.ready("main", metav1.ConditionFalse, common.ReasonAccessDenied)
	w.Expect(condition.Message).NotTo(ContainSubstring("secret;"), "the password is shown")
}

func TestOneBackendDoesNotHoldUpTheOthers(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{PostgreSQL: externalAt("missing"), Redis: managedBackend()}))
	w.run("main-redis")
	w.Eventually(func() string { return w.platform("main").Status.Ready }).Should(Equal("1/2"))
	w.ready("main", metav1.ConditionFalse, common.ReasonReferenceNotFound)
}

func TestPodTroubleIsTold(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{Redis: managedBackend()}))
	w.ready("main", metav1.ConditionFalse, common.ReasonProgressing)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "main-redis-0", Labels: objectLabels("main", "redis")},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "nowhere/redis:7"}}},
	}
	w.create(pod)
	said := func() string { return w.platform("main").Status.Backends[0].Message }
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "server", Image: "nowhere/redis:7", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	w.Expect(w.client.Status().Update(ctx, pod)).To(Succeed())
	w.Eventually(said).Should(Equal(`Pod main-redis-0: image "nowhere/redis:7" cannot be pulled; check its name, and the credentials for its registry`))
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	pod.Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "FATAL CONFIG FILE ERROR\nBad directive"}}
	w.Expect(w.client.Status().Update(ctx, pod)).To(Succeed())
	w.Eventually(said).Should(Equal("Pod main-redis-0: container server ended with exit code 1 and restarts: FATAL CONFIG FILE ERROR Bad directive"))
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."}}
	w.Expect(w.client.Status().Update(ctx, pod)).To(Succeed())
	w.Eventually(said).Should(ContainSubstring("unbound immediate PersistentVolumeClaims"))
}

func TestRemovedBackendIsPruned(t *testing.T) {
	for _, policy := range []common.DeletionPolicy{common.DeletionRetain, common.DeletionDelete} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t)
			p := newPlatform(v1alpha1.Backends{Redis: managedBackend(), Kafka: managedBackend()})
			p.Spec.DeletionPolicy = policy
			w.create(p)
			w.run("main-redis")
			w.run("main-kafka")
			w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
			w.edit("main", func(p *v1alpha1.Platform) { p.Spec.Backends.Kafka = nil })
			for _, obj := range []client.Object{&corev1.Service{}, &corev1.ConfigMap{}, &policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}, &appsv1.StatefulSet{}} {
				w.gone("main-kafka", obj)
			}
			w.gone("main-kafka-headless", &corev1.Service{})
			w.gone("main-kafka-binding", &corev1.Secret{})
			if policy == common.DeletionDelete {
				w.gone("main-kafka-credentials", &corev1.Secret{})
			} else {
				w.Expect(w.get("main-kafka-credentials", &corev1.Secret{})).To(Succeed(), "the volume's credentials are lost")
			}
			w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
			w.Expect(w.platform("main").Status.Ready).To(Equal("1/1"))
			w.Expect(w.get("main-redis", &appsv1.StatefulSet{})).To(Succeed())
		})
	}
}

func TestDeletionPolicyMovesTheCredentials(t *testing.T) {
	w := newWorld(t)
	w.create(newPlatform(v1alpha1.Backends{Redis: managedBackend()}))
	owners := func() int {
		var secret corev1.Secret
		if w.get("main-redis-credentials", &secret) != nil {
			return -1
		}
		return len(secret.OwnerReferences)
	}
	w.Eventually(owners).Should(Equal(0))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionDelete })
	w.Eventually(owners).Should(Equal(1))
	w.Eventually(func() string {
		var set appsv1.StatefulSet
		w.Expect(w.get("main-redis", &set)).To(Succeed())
		return string(set.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted)
	}).Should(Equal("Delete"))
	w.edit("main", func(p *v1alpha1.Platform) { p.Spec.DeletionPolicy = common.DeletionRetain })
	w.Eventually(owners).Should(Equal(0))
	// Nothing holds the Platform up when it goes.
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
}

func TestVolumeGrows(t *testing.T) {
	for _, expandable := range []bool{true, false} {
		t.Run(fmt.Sprintf("expandable %v", expandable), func(t *testing.T) {
			w := newWorld(t)
			w.keepRunning()
			class := &storagev1.StorageClass{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}, Provisioner: "example.com/none", AllowVolumeExpansion: &expandable,
			}
			w.Expect(w.client.Create(ctx, class)).To(Succeed())
			p := newPlatform(v1alpha1.Backends{Redis: managedBackend()})
			p.Spec.Backends.Redis.Managed.Storage.StorageClassName = class.Name
			w.create(p)
			w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
			volume := w.boundClaim("main-redis")

			w.edit("main", func(p *v1alpha1.Platform) {
				p.Spec.Backends.Redis.Managed.Storage.Size = resource.MustParse("16Gi")
				p.Spec.Backends.Redis.Managed.Version = "7.4"
			})
			if expandable {
				w.Eventually(func() string {
					_ = w.get(volume.Name, volume)
					return volume.Spec.Resources.Requests.Storage().String()
				}).Should(Equal("16Gi"))
				w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
			} else {
				condition := w.ready("main", metav1.ConditionFalse, common.ReasonInvalidSpec)
				w.Expect(condition.Message).To(ContainSubstring("spec.backends.redis.managed.storage.size: the volume cannot grow"))
			}
			// Either way the rest of the edit goes through, although the claims' template is immutable.
			var set appsv1.StatefulSet
			w.Expect(w.get("main-redis", &set)).To(Succeed())
			w.Expect(set.Spec.Template.Spec.Containers[0].Image).To(HaveSuffix(":7.4"))
			w.Expect(set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String()).To(Equal("8Gi"))
		})
	}
}

// boundClaim makes the claim of pod 0, which the test server has no controller for.
func (w *world) boundClaim(name string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	var set appsv1.StatefulSet
	w.Expect(w.get(name, &set)).To(Succeed())
	template := set.Spec.VolumeClaimTemplates[0]
	volume := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: template.Name + "-" + name + "-0", Labels: template.Labels}, Spec: template.Spec,
	}
	volume.Spec.VolumeName = "some-volume"
	w.create(volume)
	volume.Status.Phase = corev1.ClaimBound
	volume.Status.Capacity = template.Spec.Resources.Requests
	w.Expect(w.client.Status().Update(ctx, volume)).To(Succeed())
	return volume
}
