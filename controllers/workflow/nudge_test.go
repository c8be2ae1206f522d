// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
)

// Pods that mount the bindings are touched when those change, so that kubelet looks at once; others are left alone.
func TestPodsHearOfBindings(t *testing.T) {
	w := newWorld(t)
	w.platform("main")
	told := func(name string) string {
		var pod corev1.Pod
		w.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, &pod)).To(Succeed())
		return pod.Annotations[annotationBindings]
	}
	for _, name := range []string{"workflow", "workflow-worker", "vault"} {
		w.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				apply.LabelManagedBy: apply.ManagedBy, "app.kubernetes.io/name": name, "app.kubernetes.io/instance": "main",
			}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "example/none:1"}}},
		})
	}
	w.secret("shop", map[string]string{"type": "http", "token": canary})
	flow := least("orders")
	flow.Spec.Connections = []workflowv1alpha1.Connection{{Name: "shop", Ref: common.ConnectionReference{Name: "shop"}}}
	w.create(flow)
	w.Eventually(func() string { return told("workflow") }).ShouldNot(BeEmpty())
	w.Eventually(func() string { return told("workflow-worker") }).Should(Equal(told("workflow")))
	before := told("workflow")
	var secret corev1.Secret
	w.Expect(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "shop"}, &secret)).To(Succeed())
	secret.Data["token"] = []byte(canary + "-2")
	w.Expect(w.client.Update(w.ctx, &secret)).To(Succeed())
	w.Eventually(func() string { return told("workflow-worker") }).ShouldNot(BeElementOf("", before))
	w.Expect(told("vault")).To(BeEmpty())
}
