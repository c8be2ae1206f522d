// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/signingkeys"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

func newKeys(t *testing.T, n int) []signingkeys.Key {
	t.Helper()
	keys := make([]signingkeys.Key, n)
	now := time.Now().UTC()
	for i := range keys {
		key, err := signingkeys.Generate("HS256")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			key.Since = &now
		}
		keys[i] = key
	}
	return keys
}

// versions returns the resource versions of a service's children.
func versions(w *platformtest.World, o service.Object) map[string]string {
	out := map[string]string{}
	for name, child := range w.Children(o) {
		out[name] = child.GetResourceVersion()
	}
	return out
}

// TestServicesLeaveEachOtherAlone: a service that comes, and one that goes, change nothing of another on the Platform, on whose
// managed PostgreSQL they share the connections.
func TestServicesLeaveEachOtherAlone(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w := platformtest.NewWorld(t)
		platformtest.New(t, w.Client, w.Namespace, managed, backends...)
		w.Serve()
		w.Start(kinds()...)
		first := w.Service(kind, "first")
		w.Succeeds(first)
		w.Quiet()
		before := versions(w, first)
		var others []service.Object
		for _, other := range kinds() {
			if other != kind {
				o := w.Service(other, "other-"+other.Product, func(o service.Object) { o.ServiceSpec().Replicas = 2 })
				w.Succeeds(o)
				others = append(others, o)
			}
		}
		w.Expect(others).NotTo(BeEmpty())
		w.Quiet()
		w.Expect(versions(w, first)).To(Equal(before))
		for _, o := range others {
			w.Delete(o)
			w.Gone(o.GetName(), o)
		}
		w.Quiet()
		w.Expect(versions(w, first)).To(Equal(before))
	})
}

// TestScalingRestartsNothing: more replicas share the connections again, and no Pod is replaced for it.
func TestScalingRestartsNothing(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w := platformtest.NewWorld(t)
		platformtest.New(t, w.Client, w.Namespace, managed, backends...)
		w.Serve()
		w.Start(kinds()...)
		o := w.Service(kind, "mine")
		w.Succeeds(o)
		before, cfg := w.Deployment(kind.Product), w.Config(kind.Product)
		tenant, err := w.Postgres.Tenant(t.Context(), schemaOf(w, kind))
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(tenant.Connections).To(BeNumerically(">=", cfg.Database.MaxConnections*3), "the role's limit holds for a rollout")

		w.Edit(o, func() { o.ServiceSpec().Replicas = 3 })
		w.Succeeds(o)
		after, fewer := w.Deployment(kind.Product), w.Config(kind.Product)
		w.Expect(*after.Spec.Replicas).To(Equal(int32(3)))
		w.Expect(after.Spec.Template).To(Equal(before.Spec.Template))
		w.Expect(fewer.Database.MaxConnections).To(BeNumerically("<", cfg.Database.MaxConnections))
		fewer.Database, fewer.Identity = cfg.Database, cfg.Identity
		w.Expect(fewer).To(Equal(cfg), "the pools alone differ")
		changed, err := w.Postgres.Tenant(t.Context(), schemaOf(w, kind))
		w.Expect(err).NotTo(HaveOccurred())
		w.Expect(changed.Connections).NotTo(Equal(tenant.Connections))

		w.Edit(o, func() { o.ServiceSpec().Replicas = 50 })
		w.Says(o, common.ReasonInvalidSpec, "spec.replicas: 50 replicas need ")
		w.Says(o, common.ReasonInvalidSpec, "max_connections of Platform main to at least ")
		w.Expect(w.Deployment(kind.Product).Spec.Replicas).To(Equal(ptr.To[int32](3)))
	})
}

// TestOfTwoServicesTheOlderServes: the younger says so, and finds all that the older leaves.
func TestOfTwoServicesTheOlderServes(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		older := w.Service(kind, "zebra")
		w.Succeeds(older)
		ctrltest.Outlast(t, older)
		younger := w.Service(kind, "ant")
		w.Says(younger, common.ReasonConflict, "the older "+kind.Kind+" zebra serves Platform main")
		w.Succeeds(older)
		names := []string{tenants.SecretName("main", kind.Product)}
		if kind.Retained != nil {
			names = append(names, kind.Retained("main")...)
		}
		kept := map[string]map[string][]byte{}
		for _, name := range names {
			kept[name] = w.Data(name)
		}
		password := w.Postgres.Password(schemaOf(w, kind))

		w.Delete(older)
		w.Gone("zebra", older)
		// Until the garbage collector has been there, the older one's children are in the way.
		w.Says(younger, common.ReasonConflict, "exists and belongs to something else")
		w.Collect(older)
		w.Succeeds(younger)
		for name, data := range kept {
			w.Expect(w.Data(name)).To(Equal(data), name)
		}
		w.Expect(w.Postgres.Password(schemaOf(w, kind))).To(Equal(password))
		w.Expect(w.Config(kind.Product).Database.Binding).To(HaveKeyWithValue("password", password))
		w.Expect(w.Postgres.Calls("DropSchema") + w.RabbitMQ.Calls("DeleteQueue")).To(BeZero())
	})
}

// TestTheBucketIsAway: a service that does not use it is not affected, a new one waits for it, and a running one keeps running.
func TestTheBucketIsAway(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w := platformtest.NewWorld(t)
		p := platformtest.New(t, w.Client, w.Namespace, nil, append([]string{platformv1alpha1.BackendObjectStorage}, backends...)...)
		w.Serve()
		p.Backend(platformv1alpha1.BackendObjectStorage, "it is away")
		w.Start(kinds()...)
		o := w.Service(kind, "mine")
		if kind.Objects {
			w.Says(o, common.ReasonReferenceNotReady, "Object storage of Platform main is not Ready: it is away")
			p.Backend(platformv1alpha1.BackendObjectStorage, "")
			w.Succeeds(o)
			w.Expect(w.Config(kind.Product).Objects).To(HaveKeyWithValue("bucket", "lake"))
			p.Backend(platformv1alpha1.BackendObjectStorage, "it is away again")
		}
		w.Succeeds(o)
		w.Edit(o, func() { o.ServiceSpec().LogLevel = "debug" })
		w.Succeeds(o)
		w.Expect(w.Config(kind.Product).LogLevel).To(Equal("debug"))
		w.Expect(w.Config(kind.Product).Objects != nil).To(Equal(kind.Objects))
	})
}

// TestServersAreAway: a service that runs takes edits while its servers are unavailable, after a restart of the manager as well.
func TestServersAreAway(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, p := newWorld(t)
		o := w.Service(kind, "mine")
		w.Succeeds(o)
		w.Stop()
		for _, name := range backends {
			p.Backend(name, "it is away")
		}
		calls := w.Postgres.Total() + w.RabbitMQ.Total()
		w.Start(kinds()...)
		w.Edit(o, func() { o.ServiceSpec().LogLevel = "debug" })
		w.Succeeds(o)
		w.Expect(w.Config(kind.Product).LogLevel).To(Equal("debug"))
		w.Expect(w.Postgres.Total() + w.RabbitMQ.Total()).To(Equal(calls))
	})
}

// TestDeletion: with Retain the data stays, with Delete it goes, and where its server is gone nothing is waited for.
func TestDeletion(t *testing.T) {
	for name, test := range map[string]struct {
		policy common.DeletionPolicy
		before func(*platformtest.World, *platformtest.Platform)
		kept   bool
	}{
		"Retain": {common.DeletionRetain, nil, true},
		"Delete": {common.DeletionDelete, nil, false},
		"Delete, the Platform is gone": {common.DeletionDelete, func(w *platformtest.World, p *platformtest.Platform) {
			live := p.Get()
			p.Remove()
			ctrltest.Unseen(t, w.Cache, live)
		}, true},
		"Delete, the bindings are gone": {common.DeletionDelete, func(w *platformtest.World, p *platformtest.Platform) {
			for _, name := range backends {
				binding := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: p.Get().BindingSecretName(name)}}
				w.Delete(binding)
				ctrltest.Unseen(t, w.Cache, binding)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			eachService(t, func(t *testing.T, kind *service.Type) {
				w, p := newWorld(t)
				o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = test.policy })
				w.Succeeds(o)
				if test.before != nil {
					test.before(w, p)
				}
				w.Delete(o)
				w.Gone("mine", o)
				for _, component := range kind.Components() {
					w.Expect(apierrors.IsNotFound(w.Get("main-"+component, &appsv1.Deployment{}))).To(BeTrue(), component)
				}
				_, err := reviewerOf(w, kind)
				w.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "what no namespace holds")
				_, err = w.Postgres.Tenant(t.Context(), schemaOf(w, kind))
				w.Expect(err == nil).To(Equal(test.kept), "%v", err)
				if kind.Queue {
					_, err = w.RabbitMQ.Queue(t.Context(), queueOf(w, kind))
					w.Expect(err == nil).To(Equal(test.kept), "%v", err)
				}
			})
		})
	}
}

// TestDeletionWaitsForTheServer: with Delete a service stays until its schema is dropped, and Retain lets it go.
func TestDeletionWaitsForTheServer(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
		w.Succeeds(o)
		w.Postgres.Fail("DropSchema", backend.ErrUnavailable)
		w.Delete(o)
		w.Says(o, common.ReasonDeleting, "set spec.deletionPolicy to Retain")
		w.Edit(o, func() { o.ServiceSpec().DeletionPolicy = common.DeletionRetain })
		w.Gone("mine", o)
	})
}

func TestForeignSchemaIsNotTaken(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		schema := schemaOf(w, kind)
		w.Expect(w.Postgres.EnsureTenant(t.Context(), postgres.Tenant{Name: schema, Mark: "another cluster's"}, "theirs", "")).To(Succeed())
		o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
		w.Says(o, common.ReasonNotOwned, schema)
		w.Expect(w.Postgres.Password(schema)).To(Equal("theirs"))
		w.Delete(o)
		w.Gone("mine", o)
		w.Expect(w.Postgres.Password(schema)).To(Equal("theirs"), "what another made is not dropped")
	})
}

// TestClaimComesBeforeTheDatabase: a manager that dies between the two leaves nothing that a later one does not know.
func TestClaimComesBeforeTheDatabase(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		w.Postgres.Fail("EnsureTenant", context.DeadlineExceeded)
		o := w.Service(kind, "mine")
		w.Eventually(func() int { return w.Postgres.Calls("EnsureTenant") }).ShouldNot(BeZero())
		w.Refresh(o)
		w.Expect(o.GetAnnotations()["itechsmart.dev/external-objects"]).To(ContainSubstring(schemaOf(w, kind)))
		if kind.Retained != nil {
			for _, name := range kind.Retained("main") {
				w.Expect(w.Get(name, &corev1.Secret{})).To(Succeed(), "what the data will be under is there before the data")
			}
		}
		w.Stop()
		w.Postgres.Fail("EnsureTenant", nil)
		w.Start(kinds()...)
		w.Succeeds(o)
	})
}

// TestThePlatformStaysWhileAServiceRuns runs the Platform's own controller, from its first service to its deletion.
func TestThePlatformStaysWhileAServiceRuns(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w := platformtest.NewWorld(t)
		w.Serve()
		w.StartWith(w.Options(), func(d *setup.Deps) error { return w.Setup(d, kinds()...) }, setupPlatform(w))
		p := newPlatform(w)
		o := w.Service(kind, "mine")
		w.Succeeds(o)
		w.Expect(w.Postgres.Password(tenants.Name(w.Namespace, "main", platformv1alpha1.ComponentIdentity))).To(Equal(w.Config(kind.Product).Identity.Binding["password"]))

		w.Delete(p)
		w.Eventually(func() string {
			w.Refresh(p)
			if ready := meta.FindStatusCondition(p.Status.Conditions, common.ConditionReady); ready != nil && ready.Reason == common.ReasonDeleting {
				return ready.Message
			}
			return ""
		}).Should(ContainSubstring(kind.Kind + " mine still runs on this Platform; delete it"))
		w.Edit(o, func() { o.ServiceSpec().LogLevel = "debug" })
		w.Says(o, common.ReasonReferenceNotReady, "Platform main is being deleted")
		w.Expect(w.Get("main-"+kind.Product, &appsv1.Deployment{})).To(Succeed(), "it runs until it is deleted")
		w.Delete(o)
		w.Gone("mine", o)
		w.Gone("main", p)
		_, err := w.Postgres.Tenant(t.Context(), tenants.Name(w.Namespace, "main", platformv1alpha1.ComponentIdentity))
		w.Expect(err).To(MatchError(backend.ErrNotFound))
	})
}
