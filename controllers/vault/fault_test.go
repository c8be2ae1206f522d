// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	. "github.com/onsi/gomega"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/test/kube"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// faultScenario is one thing that happens to a Secret, whose manager dies at any of its writes.
type faultScenario struct {
	// before is the Secret when act begins; nil: it does not exist.
	before func(*vaultv1alpha1.Secret)
	act    func(*faultCell)
	// version of the destination at the end; 0: the Secret does not exist.
	version int64
}

func TestManagerDiesAtEveryWrite(t *testing.T) {
	rotating := func(s *vaultv1alpha1.Secret) {
		s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: 24 * time.Hour}}
		s.Spec.RestartTargets = []vaultv1alpha1.WorkloadReference{{Kind: "Deployment", Name: "app"}}
		s.Spec.DeletionPolicy, s.Spec.Destination.DeletionPolicy = common.DeletionDelete, common.DeletionDelete
	}
	for name, scenario := range map[string]faultScenario{
		"created": {act: func(c *faultCell) { c.secret("password", rotating) }, version: 1},
		"rotated": {before: rotating, version: 2, act: func(c *faultCell) {
			c.clock.Add(25 * time.Hour)
			c.poke(c.subject())
		}},
		"edited": {before: rotating, version: 2, act: func(c *faultCell) {
			c.edit(c.subject(), func(s *vaultv1alpha1.Secret) {
				s.Spec.Source.Generate.Length, s.Spec.Destination.Name = 64, "moved"
			})
		}},
		"pinned": {version: 1, act: func(c *faultCell) { c.edit(c.subject(), func(s *vaultv1alpha1.Secret) { s.Spec.Version = 1 }) },
			before: func(s *vaultv1alpha1.Secret) { rotating(s); s.Spec.Source.Generate.Length = 48 }},
		"deleted": {before: rotating, act: func(c *faultCell) { c.Expect(c.client.Delete(c.ctx, c.subject())).To(Succeed()) }},
	} {
		t.Run(name, func(t *testing.T) {
			kube.EveryWrite(t, 4, scenario.play)
		})
	}
}

// faultCell is one namespace with a Vault of its own, in which one manager dies and another takes over.
type faultCell struct{ *world }

func newFaultCell(t *testing.T) *faultCell {
	t.Helper()
	c, _ := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, ctx: context.Background(), client: c, namespace: ctrltest.Namespace(t), clock: &ctrltest.Clock{}}
	w.vault = vault.NewFake(w.namespace)
	w.vault.Now = w.clock.Now
	cell := &faultCell{w}
	w.platform("main")
	w.deployment("app", "password")
	return cell
}

func (c *faultCell) subject() *vaultv1alpha1.Secret { return generated(c.namespace, "password") }

func (c *faultCell) manager(crash *kube.Crash) (stop func()) {
	_, cfg := ctrltest.Env(c.t)
	options := setup.Options{Namespaces: []string{c.namespace}}
	return kube.Manager{
		Config: cfg, Scheme: ctrltest.Scheme(), Cache: setup.CacheOptions(options.Namespaces), Crash: crash,
		Setup: func(mgr manager.Manager) error {
			deps, err := setup.New(mgr, options)
			if err != nil {
				return err
			}
			return c.setup(deps)
		},
	}.Run(c.t)
}

func (s faultScenario) play(t *testing.T, at string, when kube.When) (state map[string]string, writes []string, died bool) {
	t.Helper()
	c := newFaultCell(t)
	crash := kube.NewCrash()
	stop := c.manager(crash)
	if s.before != nil {
		c.secret("password", s.before)
		crash.Await(c.t, func() error {
			if !crash.Quiet(500 * time.Millisecond) {
				return errors.New("the manager goes on writing")
			}
			return c.done(1)
		})
	}
	crash.Arm(at, when)
	s.act(c)
	crash.Await(c.t, func() error { return c.done(s.version) })
	stop()
	select {
	case <-crash.Dead():
		died = true
		stop = c.manager(nil)
		kube.NewCrash().Await(c.t, func() error { return c.done(s.version) })
		stop()
	default:
	}
	return c.state(), crash.Writes(), died
}

// done returns nil when the Secret of the current generation is Ready, with that version and nothing left to do.
func (c *faultCell) done(version int64) error {
	s := c.subject()
	err := c.client.Get(c.ctx, client.ObjectKeyFromObject(s), s)
	if version == 0 {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the Secret still exists"), err)
	}
	if err != nil {
		return err
	}
	found := meta.FindStatusCondition(s.Status.Conditions, common.ConditionReady)
	if found == nil || found.Status != metav1.ConditionTrue || found.ObservedGeneration != s.Generation {
		return fmt.Errorf("not Ready: %+v", found)
	}
	due := s.Status.NextRotation != nil && !c.clock.Now().Before(s.Status.NextRotation.Time) && s.Spec.Version == 0
	if s.Status.CurrentVersion != version || s.Status.RestartedVersion != version || due || s.Status.Destination != s.DestinationName() {
		return fmt.Errorf("status: %+v", s.Status)
	}
	return nil
}

// state returns all that matters at the end, without what differs from cell to cell.
func (c *faultCell) state() map[string]string {
	c.t.Helper()
	out := map[string]string{}
	values := []string{c.namespace, "NAMESPACE"}
	if s := c.subject(); c.client.Get(c.ctx, client.ObjectKeyFromObject(s), s) == nil {
		values = append(values, s.Status.StoredAt.UTC().Format(time.RFC3339Nano), "STORED")
	}
	if known, err := c.vault.Secret(c.ctx, "password"); err == nil {
		for n := int64(1); n <= known.Versions; n++ {
			read, err := c.vault.Read(c.ctx, "password", n)
			c.Expect(err).NotTo(HaveOccurred())
			values = append(values, string(read.Value["text"]), fmt.Sprintf("VALUE %d of length %d", n, len(read.Value["text"])))
		}
		out["stored"] = fmt.Sprintf("%d versions, owner %s", known.Versions, known.Metadata[metadataOwner])
	}
	alive := ""
	if s := c.subject(); c.client.Get(c.ctx, client.ObjectKeyFromObject(s), s) == nil {
		alive = string(s.UID)
		values = append(values, alive, "UID")
		out["secret"] = describeSecret(c.t, s)
	}
	var secrets corev1.SecretList
	c.Expect(c.client.List(c.ctx, &secrets, client.InNamespace(c.namespace))).To(Succeed())
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		if owner := metav1.GetControllerOf(secret); owner != nil && string(owner.UID) != alive {
			continue // the garbage collector's
		}
		text := fmt.Sprint(secret.Labels, secret.Annotations, secret.Type, len(secret.OwnerReferences))
		for key, value := range secret.Data {
			if secret.Name != macName("main") {
				text += key + "=" + string(value)
			}
		}
		out["core "+secret.Name] = text
	}
	var app appsv1.Deployment
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: c.namespace, Name: "app"}, &app)).To(Succeed())
	out["app"] = fmt.Sprint(app.Spec.Template.Annotations, " generation ", app.Generation)
	normal := strings.NewReplacer(values...)
	for name, text := range out {
		out[name] = normal.Replace(text)
	}
	return out
}

func describeSecret(t *testing.T, s *vaultv1alpha1.Secret) string {
	t.Helper()
	status := s.Status.DeepCopy()
	status.LastRotation, status.NextRotation, status.StoredAt, status.DataMAC = nil, nil, nil, ""
	var conditions []string
	for _, c := range status.Conditions {
		if c.Type != vaultv1alpha1.ConditionRotationDue { // it tells a time
			conditions = append(conditions, c.Type+" "+string(c.Status)+" "+c.Reason+" "+c.Message)
		}
	}
	status.Conditions = nil
	data, err := json.Marshal(map[string]any{"spec": s.Spec, "status": status, "annotations": s.Annotations, "finalizers": s.Finalizers})
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + strings.Join(sorted(conditions), ", ")
}
