// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestApplyStatus checks that an owner's fields are what it wrote last, and that those of others stay.
func TestApplyStatus(t *testing.T) {
	ns := namespace(t)
	s, err := Open(t.Context(), Options{Config: cluster, Scheme: scheme.Scheme, Namespace: ns, Kinds: []client.Object{&corev1.Pod{}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: ns}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "example/a:1"}}}}
	if err := direct.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	type fields struct {
		Message string `json:"message,omitempty"`
		Reason  string `json:"reason,omitempty"`
	}
	for _, step := range []struct {
		owner           string
		status          fields
		message, reason string
	}{
		{"one", fields{Message: "m"}, "m", ""},
		{"two", fields{Reason: "r"}, "m", "r"},
		{"one", fields{}, "", "r"},
		{"one", fields{Reason: "mine"}, "", "mine"},
	} {
		if err := s.ApplyStatus(t.Context(), pod, step.owner, step.status); err != nil {
			t.Fatal(err)
		}
		got := &corev1.Pod{}
		if err := direct.Get(t.Context(), client.ObjectKeyFromObject(pod), got); err != nil {
			t.Fatal(err)
		}
		if got.Status.Message != step.message || got.Status.Reason != step.reason || len(got.Spec.Containers) != 1 {
			t.Errorf("%+v: message %q, reason %q", step, got.Status.Message, got.Status.Reason)
		}
	}
	another := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "another"}}
	if err := s.ApplyStatus(t.Context(), another, "one", fields{}); !apierrors.IsConflict(err) {
		t.Errorf("got %v of a resource that has another UID, want a conflict", err)
	}
	if err := s.ApplyStatus(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, "one", fields{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v of a missing resource", err)
	}
	if err := s.ApplyStatus(t.Context(), &corev1.Node{}, "one", fields{}); err == nil {
		t.Error("a kind that is not watched was written")
	}
}
