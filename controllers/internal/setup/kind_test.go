// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

func TestUpdatedSelectsChangesAlone(t *testing.T) {
	p := Updated(func(was, is *corev1.ConfigMap) bool { return was.Data["a"] != is.Data["a"] })
	one, other := &corev1.ConfigMap{Data: map[string]string{"a": "1"}}, &corev1.ConfigMap{Data: map[string]string{"a": "2"}}
	for name, test := range map[string]struct{ got, want bool }{
		"changed":      {p.Update(event.UpdateEvent{ObjectOld: one, ObjectNew: other}), true},
		"same":         {p.Update(event.UpdateEvent{ObjectOld: one, ObjectNew: one.DeepCopy()}), false},
		"another kind": {p.Update(event.UpdateEvent{ObjectOld: &corev1.Secret{}, ObjectNew: &corev1.Secret{}}), false},
		"created":      {p.Create(event.CreateEvent{Object: one}), false},
		"deleted":      {p.Delete(event.DeleteEvent{Object: one}), false},
		"generic":      {p.Generic(event.GenericEvent{Object: one}), false},
	} {
		if test.got != test.want {
			t.Errorf("%s: selected is %t", name, test.got)
		}
	}
}

func TestDeletionSelectsItsStart(t *testing.T) {
	now := metav1.Now()
	for _, test := range []struct {
		obj  client.Object
		want bool
	}{
		{&corev1.ConfigMap{}, false},
		{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, true},
	} {
		if got := Deletion().Update(event.UpdateEvent{ObjectOld: test.obj, ObjectNew: test.obj}); got != test.want {
			t.Errorf("%+v: selected is %t", test.obj, got)
		}
	}
}
