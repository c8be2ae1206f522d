// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/test/kube"
)

// TestManagerDiesAtEveryWrite makes a Platform of managed and external backends, then edits it.
func TestManagerDiesAtEveryWrite(t *testing.T) {
	desired := func() *v1alpha1.Platform {
		return newPlatform(v1alpha1.Backends{PostgreSQL: managedBackend(), Kafka: managedBackend(), Redis: externalAt("elsewhere")})
	}
	t.Run("created", func(t *testing.T) {
		kube.EveryWrite(t, 6, func(t *testing.T, at string, when kube.When) (map[string]string, []string, bool) {
			return newFaultCell(t).play(at, when, nil, desired())
		})
	})
	t.Run("edited", func(t *testing.T) {
		kube.EveryWrite(t, 6, func(t *testing.T, at string, when kube.When) (map[string]string, []string, bool) {
			edited := desired()
			edited.Spec.Backends.Kafka = nil
			edited.Spec.Backends.PostgreSQL.Managed.Config = map[string]v1alpha1.ConfigValue{"max_connections": "50"}
			return newFaultCell(t).play(at, when, desired(), edited)
		})
	})
}

// faultCell is one namespace, in which one manager dies and another takes over.
type faultCell struct {
	t         *testing.T
	client    client.Client
	namespace string
	logins    *logins
}

func newFaultCell(t *testing.T) *faultCell {
	t.Helper()
	c, cfg := ctrltest.Env(t)
	f := &faultCell{t: t, client: c, namespace: ctrltest.Namespace(t), logins: newLogins()}
	if err := kube.Kubelet(t.Context(), cfg, f.namespace); err != nil {
		t.Fatal(err)
	}
	secret := binding("elsewhere", map[string]string{"type": "redis", "host": "redis.example.com", "port": "6379", "password": "known"})
	secret.Namespace = f.namespace
	if err := c.Create(context.Background(), secret); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faultCell) manager(crash *kube.Crash) (stop func()) {
	_, cfg := ctrltest.Env(f.t)
	options := setup.Options{Namespaces: []string{f.namespace}, DriftInterval: time.Hour}
	return kube.Manager{
		Config: cfg, Scheme: ctrltest.Scheme(), Cache: setup.CacheOptions(options.Namespaces), Crash: crash,
		Setup: func(mgr manager.Manager) error {
			deps, err := setup.New(mgr, options)
			if err != nil {
				return err
			}
			return SetupWith(deps, f.logins.probe, f.logins.databases)
		},
	}.Run(f.t)
}

// play has the Platform as before (nil: not at all) when the manager that dies gets it as after.
func (f *faultCell) play(at string, when kube.When, before, after *v1alpha1.Platform) (state map[string]string, writes []string, died bool) {
	f.t.Helper()
	crash := kube.NewCrash()
	stop := f.manager(crash)
	if before != nil {
		f.post(before)
		crash.Await(f.t, func() error {
			if !crash.Quiet(500 * time.Millisecond) {
				return errors.New("the manager goes on writing")
			}
			return f.ready()
		})
	}
	crash.Arm(at, when)
	f.post(after)
	crash.Await(f.t, f.ready)
	stop()
	select {
	case <-crash.Dead():
		died = true
		stop = f.manager(nil)
		kube.NewCrash().Await(f.t, f.ready)
		stop()
	default:
	}
	state, err := kube.State(context.Background(), f.client, f.namespace, f.random()...)
	if err != nil {
		f.t.Fatal(err)
	}
	return state, crash.Writes(), died
}

// post creates the Platform, or gives the one that there is another specification.
func (f *faultCell) post(desired *v1alpha1.Platform) {
	f.t.Helper()
	ctx := context.Background()
	desired.Namespace = f.namespace
	live := &v1alpha1.Platform{}
	err := f.client.Get(ctx, client.ObjectKeyFromObject(desired), live)
	switch {
	case err == nil:
		base := live.DeepCopy()
		live.Spec.Backends = desired.Spec.Backends
		err = f.client.Patch(ctx, live, client.MergeFrom(base))
	case client.IgnoreNotFound(err) == nil:
		err = f.client.Create(ctx, desired)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *faultCell) ready() error {
	p := &v1alpha1.Platform{}
	if err := f.client.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: "main"}, p); err != nil {
		return err
	}
	found := meta.FindStatusCondition(p.Status.Conditions, common.ConditionReady)
	if found == nil || found.Status != metav1.ConditionTrue || found.ObservedGeneration != p.Generation {
		return fmt.Errorf("not Ready: %+v", found)
	}
	return nil
}

// random replaces what is made at random, and sums of it, by where it stands: a binding must have the same password as
// the credentials.
func (f *faultCell) random() []string {
	f.t.Helper()
	ctx := context.Background()
	var secrets corev1.SecretList
	var sets appsv1.StatefulSetList
	if err := errors.Join(f.client.List(ctx, &secrets, client.InNamespace(f.namespace)), f.client.List(ctx, &sets, client.InNamespace(f.namespace))); err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for i := range secrets.Items {
		if secret := &secrets.Items[i]; secret.Type == corev1.SecretTypeBasicAuth {
			out = append(out, string(secret.Data[keyPassword]), "PASSWORD of "+secret.Name)
		}
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		out = append(out, set.Annotations[annotationRevision], "REVISION of "+set.Name)
		if checksum := set.Spec.Template.Annotations[workload.AnnotationChecksum]; checksum != "" {
			out = append(out, checksum, "CHECKSUM of "+set.Name)
		}
	}
	return out
}
