// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"regexp"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestResources(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	sizing := Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"}
	for name, test := range map[string]struct {
		given            *corev1.ResourceRequirements
		requests, limits corev1.ResourceList
	}{
		"by default":              {nil, list("cpu", "100m", "memory", "128Mi"), list("memory", "512Mi")},
		"a part":                  {&corev1.ResourceRequirements{Requests: list("cpu", "2")}, list("cpu", "2", "memory", "128Mi"), list("memory", "512Mi")},
		"a limit below a default": {&corev1.ResourceRequirements{Limits: list("memory", "64Mi")}, list("cpu", "100m", "memory", "64Mi"), list("memory", "64Mi")},
		"a request above a limit": {&corev1.ResourceRequirements{Requests: list("memory", "1Gi")}, list("cpu", "100m", "memory", "1Gi"), list("memory", "1Gi")},
		"a limit of processors":   {&corev1.ResourceRequirements{Limits: list("cpu", "50m")}, list("cpu", "50m", "memory", "128Mi"), list("cpu", "50m", "memory", "512Mi")},
	} {
		t.Run(name, func(t *testing.T) {
			before := test.given.DeepCopy()
			got := sizing.Resources(test.given)
			if !equality.Semantic.DeepEqual(got.Requests, test.requests) || !equality.Semantic.DeepEqual(got.Limits, test.limits) {
				t.Errorf("requests %v, limits %v", got.Requests, got.Limits)
			}
			if !equality.Semantic.DeepEqual(before, test.given) {
				t.Error("what was given is changed")
			}
		})
	}
}

func TestChecksum(t *testing.T) {
	a, b := Checksum(map[string]any{"a": 1, "b": 2}), Checksum(map[string]any{"b": 2, "a": 1})
	if a != b || len(a) != 16 {
		t.Errorf("%q and %q", a, b)
	}
	if a == Checksum(map[string]any{"a": 1, "b": 3}) {
		t.Error("two values have one checksum")
	}
}

func TestPassword(t *testing.T) {
	one, other := Password(), Password()
	if one == other || !regexp.MustCompile(`^[a-z2-9]{32}$`).MatchString(one) {
		t.Errorf("%d characters", len(one))
	}
}

func TestSooner(t *testing.T) {
	for _, test := range []struct{ a, b, want time.Duration }{
		{0, 0, 0}, {0, time.Second, time.Second}, {time.Second, 0, time.Second}, {time.Minute, time.Second, time.Second}, {time.Second, time.Minute, time.Second},
	} {
		if got := Sooner(test.a, test.b); got != test.want {
			t.Errorf("of %s and %s: %s", test.a, test.b, got)
		}
	}
}
