// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func pod(secret, image string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName: "node", SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		},
		Containers: []corev1.Container{{
			Name: "worker", Image: image, Env: []corev1.EnvVar{{Name: "A", Value: "b"}},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}},
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": name}, Annotations: map[string]string{"c": "d"},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "m"}},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Kind", Name: name, UID: "o", Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(false)}},
	}
}

func deployment(name, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: meta(name),
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": name}}, Spec: pod(name, image)},
		},
		Status: appsv1.DeploymentStatus{ReadyReplicas: 3, Conditions: []appsv1.DeploymentCondition{{Type: "Available"}}},
	}
}

func kept[T client.Object](t *testing.T, obj T) T {
	t.Helper()
	out, err := slim(obj.DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

// What is compared with the desired state stays as it was.
func TestSlimLoses(t *testing.T) {
	for _, obj := range []client.Object{
		deployment("one", "i"),
		&appsv1.StatefulSet{ObjectMeta: meta("s"), Spec: appsv1.StatefulSetSpec{Template: corev1.PodTemplateSpec{Spec: pod("s", "i")}}},
		&corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		}},
		&networkingv1.NetworkPolicy{ObjectMeta: meta("n"), Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}}},
			Egress:      []networkingv1.NetworkPolicyEgressRule{{}},
		}},
		&corev1.Secret{ObjectMeta: meta("s"), Data: map[string][]byte{"a": []byte("b")}},
	} {
		want := obj.DeepCopyObject().(client.Object)
		want.SetManagedFields(nil)
		if d, ok := want.(*appsv1.Deployment); ok {
			d.Status.Conditions = nil
		}
		for range 2 { // the second finds what the first left
			if diff := cmp.Diff(want, kept(t, obj)); diff != "" {
				t.Errorf("%T: %s", obj, diff)
			}
		}
	}
	got := kept(t, &corev1.Pod{ObjectMeta: meta("p"), Spec: pod("config", "i"), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1",
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionFalse}},
	}})
	if got.Spec.NodeName != "" || len(got.Spec.Containers) != 0 || got.Spec.Volumes[0].Secret.SecretName != "config" || got.Status.PodIP != "10.0.0.1" ||
		len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Type != corev1.PodScheduled {
		t.Errorf("Pod: %+v", got)
	}
}

func TestSlimShares(t *testing.T) {
	one, two, other := kept(t, deployment("one", "i")), kept(t, deployment("two", "i")), kept(t, deployment("one", "j"))
	a, b, c := &one.Spec.Template.Spec, &two.Spec.Template.Spec, &other.Spec.Template.Spec
	if &a.Containers[0] != &b.Containers[0] || a.SecurityContext != b.SecurityContext || a.Volumes[1].EmptyDir != b.Volumes[1].EmptyDir {
		t.Error("equal parts are there twice")
	}
	if reflect.ValueOf(one.Labels).Pointer() != reflect.ValueOf(one.Spec.Selector.MatchLabels).Pointer() {
		t.Error("equal labels are there twice")
	}
	if &a.Containers[0] == &c.Containers[0] || c.Containers[0].Image != "j" || a.Volumes[0].Secret.SecretName != "one" || b.Volumes[0].Secret.SecretName != "two" {
		t.Error("what differs is shared")
	}
}

func TestSlimIsBounded(t *testing.T) {
	for i := range mostParts + 10 {
		kept(t, deployment("one", fmt.Sprint(i)))
	}
	if n := len(parts); n > mostParts {
		t.Errorf("%d are known", n)
	}
}
