// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func TestSecretBecomesReady(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("password", func(s *vaultv1alpha1.Secret) {
		s.Spec.Path = "db/password"
		s.Spec.Destination.Labels = map[string]vaultv1alpha1.LabelValue{"team": "data"}
	})
	got := w.ready(s)
	core := w.version(s, 1)
	w.Expect(core.Data).To(Equal(map[string][]byte{"text": w.stored("db/password", 1)["text"]}))
	w.Expect(core.Type).To(Equal(corev1.SecretTypeOpaque))
	w.Expect(core.Labels).To(HaveKeyWithValue("team", "data"))
	w.Expect(core.OwnerReferences).To(BeEmpty(), "a destination is retained by default")
	w.Expect(got.Status.CurrentVersion).To(Equal(int64(1)))
	w.Expect(got.Status.Versions).To(Equal(int64(1)))
	w.Expect(got.Status.KeyID).NotTo(BeEmpty())
	w.Expect(got.Status.DataMAC).To(HaveLen(32))
	w.Expect(got.Finalizers).To(ContainElement(common.Finalizer))
	w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionTrue, common.ReasonSucceeded)
	w.condition(s, vaultv1alpha1.ConditionKeyStale, metav1.ConditionFalse, vaultv1alpha1.ReasonCurrent)
}

func TestSecretWaitsForVault(t *testing.T) {
	w := newWorld(t)
	s := w.secret("early")
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	p := w.platform("main")
	w.ready(s)
	w.vaultReady(p, false)
	late := w.secret("late")
	message := w.condition(late, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	w.Expect(message).To(ContainSubstring("as the test says"))
	w.ready(s) // what works goes on to work
	w.vaultReady(p, true)
	w.ready(late)

	w.Expect(w.client.Delete(w.ctx, vaultService(p))).To(Succeed())
	message = w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(message).To(ContainSubstring("create a VaultService with spec.platformRef.name main"))
}

func TestSealedVault(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	w.Expect(w.vault.Seal(w.ctx)).To(Succeed())
	s := w.secret("waiting")
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonSealed)
	_, err := w.vault.Unseal(w.ctx, "share")
	w.Expect(err).NotTo(HaveOccurred())
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.ExpiryThreshold = metav1.Duration{Duration: time.Hour} }) // sooner than its timer
	w.ready(s)
}

func TestSteadyStateWritesAndReadsNothing(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	w.core("source", map[string]string{"password": canary})
	secrets := []*vaultv1alpha1.Secret{
		w.secret("generated"),
		w.secret("copied", func(s *vaultv1alpha1.Secret) {
			s.Spec.Source = vaultv1alpha1.Source{ValueFrom: &vaultv1alpha1.ValueFrom{SecretKeyRef: &vaultv1alpha1.SecretKeyReference{Name: "source", Key: "password"}}}
		}),
		w.secret("rotated", func(s *vaultv1alpha1.Secret) {
			s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: time.Hour}}
			s.Spec.Destination = nil
		}),
	}
	for _, s := range secrets {
		w.ready(s)
	}
	w.quiet()
	w.stop()
	asked := w.vault.Total()
	w.start()
	w.ready(w.secret("marker"))
	w.quiet()
	// The marker: its claim, its destination, its status.
	w.Expect(w.requests.Writes()).To(HaveLen(3), "a steady state must cost no write")
	for _, read := range w.requests.Reads() {
		for _, s := range secrets {
			w.Expect(read).NotTo(HaveSuffix("/"+s.Name), "a steady state must cost no live read")
		}
		w.Expect(read).NotTo(HaveSuffix("/source"))
	}
	// The marker: Secret, Apply, Read.
	w.Expect(w.vault.Total()-asked).To(Equal(3), "a steady state must not ask the Vault")
}

func TestCopiedValueFollowsItsSource(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("copied", func(s *vaultv1alpha1.Secret) {
		s.Spec.Type = vaultv1alpha1.TypeAPIKey
		s.Spec.Source = vaultv1alpha1.Source{ValueFrom: &vaultv1alpha1.ValueFrom{SecretKeyRefs: []vaultv1alpha1.FieldReference{
			{Field: "key", SecretKeyReference: vaultv1alpha1.SecretKeyReference{Name: "source", Key: "k"}},
			{Field: "id", SecretKeyReference: vaultv1alpha1.SecretKeyReference{Name: "source", Key: "i"}},
		}}}
	})
	message := w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(message).To(ContainSubstring("spec.source.valueFrom.secretKeyRefs[0]"))
	core := w.core("source", map[string]string{"k": canary + "-1"})
	w.Eventually(func() string {
		return w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	}, ctrltest.Timeout, ctrltest.Interval).Should(ContainSubstring(`has no key "i"`))
	core.StringData = map[string]string{"i": "me"}
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.ready(s)
	w.Expect(w.version(s, 1).Data).To(Equal(map[string][]byte{"key": []byte(canary + "-1"), "id": []byte("me")}))
	core.StringData = map[string]string{"k": canary + "-2"}
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.Expect(w.version(s, 2).Data).To(HaveKeyWithValue("key", []byte(canary+"-2")))
	// What changes beside the value makes no version.
	before := w.get(s).Status.SourceVersion
	core.Annotations = map[string]string{"touched": "yes"}
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.Eventually(func() string { return w.get(s).Status.SourceVersion }, ctrltest.Timeout, ctrltest.Interval).ShouldNot(Equal(before))
	w.Expect(w.get(s).Status.Versions).To(Equal(int64(2)))
	w.Expect(w.get(s).Status.SourceHash).To(HaveLen(32))
}

func TestSealedValue(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	sealed := func(name, text string) vaultv1alpha1.Source {
		return vaultv1alpha1.Source{Sealed: vault.SealFake(w.namespace, name, vault.Value{"text": []byte(text)})}
	}
	s := w.secret("sealed", func(s *vaultv1alpha1.Secret) { s.Spec.Source = sealed("sealed", canary+"-1") })
	w.ready(s)
	w.Expect(w.version(s, 1).Data).To(HaveKeyWithValue("text", []byte(canary+"-1")))
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Source = sealed("sealed", canary+"-2") })
	w.Expect(w.version(s, 2).Data).To(HaveKeyWithValue("text", []byte(canary+"-2")))
	stolen := w.secret("stolen", func(s *vaultv1alpha1.Secret) { s.Spec.Source = sealed("sealed", canary) })
	message := w.condition(stolen, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)
	w.Expect(message).To(ContainSubstring("does not open"))
}

func TestExternalValue(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("app.token", func(s *vaultv1alpha1.Secret) {
		s.Spec.Source = vaultv1alpha1.Source{External: &vaultv1alpha1.External{Path: "app/token"}}
		s.Spec.DeletionPolicy = common.DeletionDelete
	})
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	write := vault.Write{Type: vault.TypeText, Value: vault.Value{"text": []byte(canary)}}
	_, err := w.vault.Create(w.ctx, "app/token", write)
	w.Expect(err).NotTo(HaveOccurred())
	w.announce(s.Name, 1)
	w.ready(s)
	w.version(s, 1)
	write.Value = vault.Value{"text": []byte("second")}
	_, err = w.vault.Put(w.ctx, "app/token", write)
	w.Expect(err).NotTo(HaveOccurred())
	w.announce(s.Name, 2)
	w.Expect(w.version(s, 2).Data).To(HaveKeyWithValue("text", []byte("second")))
	// It did not create the value, so it does not remove it.
	w.Expect(w.client.Delete(w.ctx, s)).To(Succeed())
	w.Eventually(func() bool { return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), s)) }, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
	w.stored("app/token", 2)
}

// A file over 1 MiB is stored and known, but no destination can hold it: that is said, and what is there stays.
func TestLargeFileHasNoDestination(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("backup", func(s *vaultv1alpha1.Secret) {
		s.Spec.Type, s.Spec.Source = vaultv1alpha1.TypeFile, vaultv1alpha1.Source{External: &vaultv1alpha1.External{Path: "backup"}}
	})
	write := vault.Write{Type: vault.TypeFile, Value: vault.Value{"file": []byte(canary)}}
	_, err := w.vault.Create(w.ctx, "backup", write)
	w.Expect(err).NotTo(HaveOccurred())
	w.announce(s.Name, 1)
	w.ready(s)
	value := w.version(s, 1).Data
	w.Expect(w.vault.PutLarge("backup", 20<<20)).To(Succeed())
	w.announce(s.Name, 2)
	message := w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonFileTooLarge)
	w.Expect(message).To(And(ContainSubstring("spec.destination"), ContainSubstring("version 2"), ContainSubstring("1 MiB")))
	w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionFalse, vaultv1alpha1.ReasonFileTooLarge)
	var core corev1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), &core)).To(Succeed())
	w.Expect(core.Data).To(Equal(value), "nothing is taken from who uses it")
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Destination = nil })
	w.ready(s)
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Destination = &vaultv1alpha1.Destination{} })
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonFileTooLarge)
	_, err = w.vault.Put(w.ctx, "backup", write)
	w.Expect(err).NotTo(HaveOccurred())
	w.announce(s.Name, 3)
	w.ready(s)
	w.version(s, 3)
}

func TestOtherTypeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	_, err := w.vault.Create(w.ctx, "key", vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{"key": []byte("x")}})
	w.Expect(err).NotTo(HaveOccurred())
	s := w.secret("key", func(s *vaultv1alpha1.Secret) {
		s.Spec.Source = vaultv1alpha1.Source{External: &vaultv1alpha1.External{}}
	})
	w.Expect(w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)).To(ContainSubstring("spec.type"))
}

func TestForeignObjectsAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	foreign := w.core("taken", map[string]string{"mine": "yes"})
	s := w.secret("taken")
	w.Expect(w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonNotOwned)).To(ContainSubstring("spec.destination.name"))
	w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionFalse, common.ReasonNotOwned)
	var after corev1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(foreign), &after)).To(Succeed())
	w.Expect(after.ResourceVersion).To(Equal(foreign.ResourceVersion))
	w.Expect(w.client.Delete(w.ctx, foreign)).To(Succeed())
	w.ready(s)

	// A stored value without a Secret is not taken over either.
	_, err := w.vault.Create(w.ctx, "stored", vault.Write{Type: vault.TypeText, Value: vault.Value{"text": []byte(canary)}})
	w.Expect(err).NotTo(HaveOccurred())
	other := w.secret("stored", func(s *vaultv1alpha1.Secret) { s.Spec.DeletionPolicy = common.DeletionDelete })
	w.Expect(w.condition(other, common.ConditionReady, metav1.ConditionFalse, common.ReasonNotOwned)).To(ContainSubstring("spec.path"))
	w.Expect(w.client.Delete(w.ctx, other)).To(Succeed())
	w.Eventually(func() bool {
		return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(other), other))
	}, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
	w.stored("stored", 1)

	// Two Secrets that want one destination: the second is told.
	second := w.secret("second", func(s *vaultv1alpha1.Secret) { s.Spec.Destination.Name = "taken" })
	w.condition(second, common.ConditionReady, metav1.ConditionFalse, common.ReasonNotOwned)
	w.ready(s)
}

func TestOlderPathWins(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	older := w.secret("a-older", func(s *vaultv1alpha1.Secret) { s.Spec.Path, s.Spec.DeletionPolicy = "shared", common.DeletionDelete })
	w.ready(older)
	ctrltest.Outlast(t, older)
	younger := w.secret("b-younger", func(s *vaultv1alpha1.Secret) { s.Spec.Path = "shared" })
	w.Expect(w.condition(younger, common.ConditionReady, metav1.ConditionFalse, common.ReasonConflict)).To(ContainSubstring("a-older"))
	reader := w.secret("c-reader", func(s *vaultv1alpha1.Secret) {
		s.Spec.Source = vaultv1alpha1.Source{External: &vaultv1alpha1.External{Path: "shared"}}
	})
	w.ready(reader)
	w.Expect(w.client.Delete(w.ctx, older)).To(Succeed())
	w.ready(younger)
}

func TestDriftIsReverted(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("drift")
	w.ready(s)
	core := w.version(s, 1)
	want := core.DeepCopy()
	for name, change := range map[string]func(){
		"value":   func() { core.Data["text"] = []byte("changed") },
		"key":     func() { core.Data["more"] = []byte("added") },
		"removed": func() { delete(core.Data, "text") },
		"version": func() { core.Annotations[vaultv1alpha1.AnnotationVersion] = "9" },
		"label":   func() { delete(core.Labels, common.LabelComponent) },
		"managed": func() { delete(core.Labels, "app.kubernetes.io/managed-by") },
	} {
		w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(core), core)).To(Succeed())
		change()
		w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
		w.Eventually(func(g Gomega) {
			g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(core), core)).To(Succeed())
			g.Expect(core.Data).To(Equal(want.Data))
			g.Expect(core.Labels).To(Equal(want.Labels))
			g.Expect(core.Annotations).To(Equal(want.Annotations))
		}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed(), name)
	}
	w.Expect(w.client.Delete(w.ctx, core)).To(Succeed())
	w.version(s, 1)
	// What others add to the metadata stays.
	w.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(core), core)).To(Succeed())
	core.Labels["theirs"], core.Data["text"] = "yes", []byte("changed")
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.Eventually(func(g Gomega) {
		g.Expect(w.client.Get(w.ctx, client.ObjectKeyFromObject(core), core)).To(Succeed())
		g.Expect(core.Data).To(Equal(want.Data))
		g.Expect(core.Labels).To(HaveKeyWithValue("theirs", "yes"))
	}, ctrltest.Timeout, ctrltest.Interval).Should(Succeed())
}

// What a look found is not forgotten when its status could not be written.
func TestLostStatus(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("lost")
	w.ready(s)
	_, err := w.vault.Rotate(w.ctx, "lost")
	w.Expect(err).NotTo(HaveOccurred())
	w.requests.Refuse("PATCH /apis/" + vaultv1alpha1.GroupVersion.String() + "/namespaces/" + w.namespace + "/secrets/lost/status")
	w.announce("lost", 2)
	w.version(s, 2)
	w.Expect(w.requests.Refused()).To(BeTrue())
}

func TestVersionIsPinned(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("pinned", func(s *vaultv1alpha1.Secret) {
		s.Spec.Rotation = &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: time.Hour}, Jitter: "0%"}
	})
	w.ready(s)
	_, err := w.vault.Rotate(w.ctx, "pinned")
	w.Expect(err).NotTo(HaveOccurred())
	w.announce("pinned", 2)
	w.version(s, 2)
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Version = 1 })
	w.Expect(w.version(s, 1).Data["text"]).To(Equal(w.stored("pinned", 1)["text"]))
	w.ready(s)
	// While it is pinned nothing is rotated.
	w.clock.Add(3 * time.Hour)
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.ExpiryThreshold = metav1.Duration{Duration: time.Hour} })
	w.condition(s, vaultv1alpha1.ConditionRotationDue, metav1.ConditionTrue, vaultv1alpha1.ReasonPinned)
	w.Expect(w.get(s).Status.LatestVersion).To(Equal(int64(2)))
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Version = 9 })
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonVersionNotFound)
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Version = 0 })
	w.version(s, 3)
	w.condition(s, vaultv1alpha1.ConditionRotationDue, metav1.ConditionFalse, vaultv1alpha1.ReasonScheduled)
}

func TestDeletion(t *testing.T) {
	for _, policy := range []common.DeletionPolicy{common.DeletionRetain, common.DeletionDelete} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t)
			w.platform("main")
			s := w.secret("gone", func(s *vaultv1alpha1.Secret) {
				s.Spec.DeletionPolicy, s.Spec.Destination.DeletionPolicy = policy, policy
			})
			w.ready(s)
			core := w.version(s, 1)
			w.Expect(metav1.IsControlledBy(core, w.get(s))).To(Equal(policy == common.DeletionDelete))
			value := core.Data["text"]
			w.Expect(w.client.Delete(w.ctx, s)).To(Succeed())
			w.Eventually(func() bool { return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), s)) }, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
			_, err := w.vault.Secret(w.ctx, "gone")
			if policy == common.DeletionDelete {
				w.Expect(err).To(MatchError(backend.ErrNotFound))
				return
			}
			w.Expect(err).NotTo(HaveOccurred())
			// A resource of the same name finds the value and the core Secret again.
			again := w.secret("gone")
			w.ready(again)
			w.Expect(w.version(again, 1).Data["text"]).To(Equal(value))
		})
	}
}

func TestDeletionWaitsForTheVault(t *testing.T) {
	w := newWorld(t)
	p := w.platform("main")
	s := w.secret("stuck", func(s *vaultv1alpha1.Secret) { s.Spec.DeletionPolicy = common.DeletionDelete })
	w.ready(s)
	w.vaultReady(p, false)
	w.Expect(w.client.Delete(w.ctx, s)).To(Succeed())
	w.condition(s, common.ConditionReady, metav1.ConditionFalse, common.ReasonDeleting)
	_, err := w.vault.Secret(w.ctx, "stuck")
	w.Expect(err).NotTo(HaveOccurred())
	// A Platform that is gone took its store along.
	w.Expect(w.client.Delete(w.ctx, p)).To(Succeed())
	w.Eventually(func() bool { return apierrors.IsNotFound(w.client.Get(w.ctx, client.ObjectKeyFromObject(s), s)) }, ctrltest.Timeout, ctrltest.Interval).Should(BeTrue())
}

func TestDestinationMoves(t *testing.T) {
	for _, policy := range []common.DeletionPolicy{common.DeletionRetain, common.DeletionDelete} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t)
			w.platform("main")
			s := w.secret("moves", func(s *vaultv1alpha1.Secret) { s.Spec.Destination.DeletionPolicy = policy })
			w.ready(s)
			old := w.version(s, 1)
			w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Destination.Name = "moved" })
			s = w.ready(s)
			w.Expect(w.version(s, 1).Name).To(Equal("moved"))
			err := w.client.Get(w.ctx, client.ObjectKeyFromObject(old), old)
			w.Expect(apierrors.IsNotFound(err)).To(Equal(policy == common.DeletionDelete))
			w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Destination = nil })
			w.ready(s)
			w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionTrue, vaultv1alpha1.ReasonNoDestination)
			w.Expect(w.get(s).Status.Destination).To(BeEmpty())
		})
	}
}

func TestTemplate(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("binding", func(s *vaultv1alpha1.Secret) {
		s.Spec.Source = vaultv1alpha1.Source{Sealed: vault.SealFake(w.namespace, "binding", vault.Value{"text": []byte(canary + "/?")})}
		s.Spec.Destination.Type = "servicebinding.io/postgresql"
		s.Spec.Destination.Template = map[string]vaultv1alpha1.Template{
			"type": "postgresql", "password": "{{ .Value }}", "uri": "postgres://app:{{ .Value | urlquery }}@db/app?v={{ .Version }}",
		}
	})
	w.ready(s)
	core := w.version(s, 1)
	w.Expect(core.Type).To(Equal(corev1.SecretType("servicebinding.io/postgresql")))
	w.Expect(core.Data).To(Equal(map[string][]byte{
		"type": []byte("postgresql"), "password": []byte(canary + "/?"), "uri": []byte("postgres://app:" + canary + "%2F%3F@db/app?v=1"),
	}))
	w.edit(s, func(s *vaultv1alpha1.Secret) { s.Spec.Destination.Template["password"] = "{{ .Nothing }}" })
	message := w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonTemplateFailed)
	w.Expect(message).To(ContainSubstring("spec.destination.template[password]"))
	w.edit(s, func(s *vaultv1alpha1.Secret) { delete(s.Spec.Destination.Template, "password") })
	w.ready(s)
	w.Eventually(func() map[string][]byte { return w.version(s, 1).Data }, ctrltest.Timeout, ctrltest.Interval).ShouldNot(HaveKey("password"))
}

func TestCreatedOnce(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("once", func(s *vaultv1alpha1.Secret) { s.Spec.Refresh.Policy = vaultv1alpha1.RefreshCreatedOnce })
	w.ready(s)
	core := w.version(s, 1)
	core.Data["text"] = []byte("by hand")
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	_, err := w.vault.Rotate(w.ctx, "once")
	w.Expect(err).NotTo(HaveOccurred())
	w.announce("once", 2)
	w.Eventually(func() int64 { return w.get(s).Status.LatestVersion }, ctrltest.Timeout, ctrltest.Interval).Should(Equal(int64(2)))
	w.Expect(w.version(s, 1).Data).To(HaveKeyWithValue("text", []byte("by hand")))
}

func TestPeriodicRefresh(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("periodic", func(s *vaultv1alpha1.Secret) {
		s.Spec.Refresh = vaultv1alpha1.Refresh{Policy: vaultv1alpha1.RefreshPeriodic, Interval: &metav1.Duration{Duration: 10 * time.Second}}
	})
	w.ready(s)
	_, err := w.vault.Rotate(w.ctx, "periodic")
	w.Expect(err).NotTo(HaveOccurred())
	w.clock.Add(time.Minute) // no event tells of the new version
	w.version(s, 2)
}

func TestNewestVersionIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	s := w.secret("deleted")
	w.ready(s)
	value := w.version(s, 1).Data
	w.Expect(w.vault.DeleteVersion(w.ctx, "deleted", 1)).To(Succeed())
	w.touch("deleted", "1+a")
	w.Expect(w.condition(s, common.ConditionReady, metav1.ConditionFalse, vaultv1alpha1.ReasonVersionNotFound)).To(ContainSubstring("version 1"))
	w.condition(s, vaultv1alpha1.ConditionSynced, metav1.ConditionFalse, vaultv1alpha1.ReasonVersionNotFound)
	w.Expect(w.version(s, 1).Data).To(Equal(value), "nothing is taken from who uses it")
	w.Expect(w.vault.UndeleteVersion(w.ctx, "deleted", 1)).To(Succeed())
	w.touch("deleted", "1+b")
	w.ready(s)
	// What was destroyed as a whole is declared again.
	w.Expect(w.vault.Delete(w.ctx, "deleted", true)).To(Succeed())
	w.touch("deleted", "1+c")
	w.Eventually(func() map[string][]byte { return w.version(s, 1).Data }, ctrltest.Timeout, ctrltest.Interval).ShouldNot(Equal(value))
	w.ready(s)
}

func TestManyForeignSecretsCostNoMemory(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	for i := range 20 {
		w.core(fmt.Sprintf("foreign-%d", i), map[string]string{"data": strings.Repeat("x", 100<<10)})
	}
	w.ready(w.secret("one"))
	w.quiet()
	for _, read := range w.requests.Reads() {
		w.Expect(read).NotTo(ContainSubstring("foreign"), "no foreign Secret is read")
	}
}
