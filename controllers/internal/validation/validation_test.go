// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// TestMemoChecksEachGenerationOnce, and nothing that is Ready at its generation.
func TestMemoChecksEachGenerationOnce(t *testing.T) {
	checks, invalid := 0, field.ErrorList{Errorf("spec.a", "is wrong")}
	memo := NewMemo(func(*platformv1alpha1.Platform) field.ErrorList {
		checks++
		return invalid
	})
	p := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "main", UID: "1", Generation: 1}}
	expect := func(what string, want int) {
		t.Helper()
		if err := memo.Check(p); err == nil != (invalid == nil) || err != nil && err.Error() != "InvalidSpec: spec.a: is wrong" {
			t.Errorf("%s: got %v", what, err)
		}
		if checks != want {
			t.Errorf("%s: %d checks, want %d", what, checks, want)
		}
	}
	expect("first", 1)
	expect("the same generation", 1)
	p.Generation = 2
	expect("another generation", 2)
	p.UID = "2"
	expect("another object of the name", 3)
	memo.Forget(client.ObjectKeyFromObject(p))
	expect("after Forget", 4)

	invalid = nil
	p.Generation = 3
	reconcile.Set(p, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded, "")
	expect("Ready", 4)
	p.Generation = 4
	expect("Ready at an earlier generation", 5)
}

func TestShared(t *testing.T) {
	list := func(cpu string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	for _, c := range []struct {
		got  field.ErrorList
		want string
	}{
		{Resources("r", nil), ""},
		{Resources("r", &corev1.ResourceRequirements{Requests: list("1"), Limits: list("1")}), ""},
		{Resources("r", &corev1.ResourceRequirements{Requests: list("2"), Limits: list("1")}), "r.requests[cpu]"},
		{Resources("r", &corev1.ResourceRequirements{Requests: list("-1")}), "r.requests[cpu]"},
		{Image("i", ""), ""},
		{Image("i", "registry.example.com:5000/a/b:1.2@sha256:"+strings.Repeat("a", 64)), ""},
		{Image("i", "a b"), "i"},
		{Image("i", "a/B"), "i"},
		{Labels("l", map[string]string{"example.com/a": "b"}), ""},
		{Labels("l", map[string]string{"a": "/"}), "l[a]"},
		{Annotations("a", map[string]string{"nginx.ingress.kubernetes.io/Rewrite-Target": "any value"}), ""},
		{Annotations("a", map[string]string{"/": ""}), "a[/]"},
		{Hostnames("h", []string{"a.example.com", "*.example.com"}), ""},
		{Hostnames("h", []string{"a", "*b.example.com"}), "h[1]"},
	} {
		got := ""
		if len(c.got) > 0 {
			got = c.got[0].Field
		}
		if got != c.want {
			t.Errorf("got %v, want %s", c.got, c.want)
		}
	}
}

// TestInvalidFitsIntoAnEvent: of many invalid fields the first have their messages, then come paths, and at last a count.
func TestInvalidFitsIntoAnEvent(t *testing.T) {
	if err := reconcile.Invalid(nil); err != nil {
		t.Errorf("none: %v", err)
	}
	var list field.ErrorList
	for i := range 200 {
		list = append(list, Errorf(fmt.Sprintf("spec.steps[%d]", i), "%s", strings.Repeat("wrong ", 5)))
	}
	_, message := reconcile.Classify(reconcile.Invalid(list))
	if len(message) > 950 || !strings.HasPrefix(message, "spec.steps[0]: wrong") || !strings.Contains(message, "; spec.steps[20]; ") || !strings.HasSuffix(message, " more") {
		t.Errorf("%d bytes: %s", len(message), message)
	}
}
