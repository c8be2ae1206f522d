// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// vaultSecret makes a vault Secret, as it is before its controller has written a destination.
func (w *world) vaultSecret(name string, destination *vaultv1alpha1.Destination) *vaultv1alpha1.Secret {
	w.t.Helper()
	s := &vaultv1alpha1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       vaultv1alpha1.SecretSpec{Type: "Text", Source: vaultv1alpha1.Source{Generate: &vaultv1alpha1.Generate{}}, Destination: destination},
	}
	w.Expect(w.client.Create(w.ctx, s)).To(Succeed())
	return s
}

// destination makes what the vault Secret's controller would write.
func (w *world) destination(s *vaultv1alpha1.Secret, data map[string]string) *corev1.Secret {
	w.t.Helper()
	core := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: s.DestinationName(),
			Labels:      map[string]string{apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: string(common.ConnectionVaultSecret)},
			Annotations: map[string]string{vaultv1alpha1.AnnotationSecret: s.Name},
		},
		StringData: data,
	}
	w.Expect(w.client.Create(w.ctx, core)).To(Succeed())
	return core
}

func TestConnectionIsAVaultSecret(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	p := w.pipeline("vaulted", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].ConnectionRef = &common.ConnectionReference{Kind: common.ConnectionVaultSecret, Name: "broker"}
	})
	message := w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotFound)
	w.Expect(message).To(ContainSubstring("spec.sources[0].connectionRef: vault Secret"))
	s := w.vaultSecret("broker", nil)
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)
	s.Spec.Destination = &vaultv1alpha1.Destination{Name: "broker-binding"}
	w.Expect(w.client.Update(w.ctx, s)).To(Succeed())
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	core := w.destination(s, map[string]string{"password": "canary-1"})
	w.Eventually(func() string {
		return w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonInvalidSpec)
	}, ctrltest.Timeout, ctrltest.Interval).Should(ContainSubstring(`no key "type"`))
	core.StringData = map[string]string{"type": "kafka", "bootstrap-servers": "broker:9092"}
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.ready(p)
	w.Expect(w.vaultPassword(p)).To(Equal("canary-1"))

	// A rotation reaches the workers' file, and restarts none of them.
	before := w.deployment(p)
	core.StringData = map[string]string{"password": "canary-2"}
	w.Expect(w.client.Update(w.ctx, core)).To(Succeed())
	w.Eventually(func() string { return w.vaultPassword(p) }, ctrltest.Timeout, ctrltest.Interval).Should(Equal("canary-2"))
	w.Expect(w.deployment(p).Generation).To(Equal(before.Generation))
	w.condition(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded)
}

// vaultPassword returns the password that the workers' file has for the source.
func (w *world) vaultPassword(p *dataflowv1alpha1.Pipeline) string {
	w.t.Helper()
	var secret corev1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: configName(p, w.get(p).Status.ConfigHash)}, &secret)).To(Succeed())
	var cfg config.Pipeline
	w.Expect(json.Unmarshal(secret.Data[config.FileName], &cfg)).To(Succeed())
	return cfg.Connections[cfg.Sources[0].Connection]["password"]
}

func TestForeignDestinationIsNotRead(t *testing.T) {
	w := newWorld(t, hour)
	w.platform("main")
	s := w.vaultSecret("broker", &vaultv1alpha1.Destination{})
	core := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: s.DestinationName()}, StringData: map[string]string{"type": "kafka", "bootstrap-servers": "b:1"}}
	w.Expect(w.client.Create(w.ctx, core)).To(Succeed())
	p := w.pipeline("foreign", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].ConnectionRef = &common.ConnectionReference{Kind: common.ConnectionVaultSecret, Name: "broker"}
	})
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotReady)
	p = w.pipeline("elsewhere", func(p *dataflowv1alpha1.Pipeline) {
		p.Spec.Sources[0].ConnectionRef = &common.ConnectionReference{Kind: common.ConnectionVaultSecret, Name: "broker", Namespace: "default"}
	})
	w.condition(p, common.ConditionReady, metav1.ConditionFalse, common.ReasonReferenceNotGranted)
}
