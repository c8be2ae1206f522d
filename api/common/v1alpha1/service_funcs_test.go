// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestOlder(t *testing.T) {
	first := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	later := metav1.NewTime(first.Add(time.Second))
	elsewhere := metav1.NewTime(first.In(time.FixedZone("elsewhere", 3600)))
	made := func(name string, at metav1.Time, uid types.UID) metav1.Object {
		return &metav1.ObjectMeta{Namespace: name, Name: name, CreationTimestamp: at, UID: uid}
	}
	for name, test := range map[string]struct {
		a, b metav1.Object
		want bool
	}{
		"made first":              {made("b", first, "2"), made("a", later, "1"), true},
		"made later":              {made("a", later, "1"), made("b", first, "2"), false},
		"one second, lesser UID":  {made("b", first, "1"), made("a", first, "2"), true},
		"one second, greater UID": {made("a", first, "2"), made("b", first, "1"), false},
		"one second, two zones":   {made("b", elsewhere, "1"), made("a", first, "2"), true},
		"itself":                  {made("a", first, "1"), made("a", first, "1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Older(test.a, test.b); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
