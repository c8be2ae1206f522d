// SPDX-License-Identifier: Apache-2.0

package retained

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// owner returns a ConfigMap that stands for a resource, with the given objects beside it.
func owner(uid types.UID, policy common.DeletionPolicy, objects ...client.Object) Owner {
	c := fake.NewClientBuilder().WithObjects(objects...).Build()
	return Owner{Client: c, Live: c, Policy: policy, Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "main", UID: uid}}}
}

// wanted returns a Secret of a component with a value that counts how often one was made.
func wanted(made *int) Secret {
	return Secret{
		Name: "main-echo", Type: corev1.SecretTypeOpaque, Keys: []string{"key"},
		Labels: map[string]string{
			apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: "ConfigMap", common.LabelOwnerName: "main",
			common.LabelPlatform: "main", common.LabelComponent: "echo",
		},
		Make: func() (map[string][]byte, error) {
			*made++
			return map[string][]byte{"key": []byte(strings.Repeat("x", *made))}, nil
		},
	}
}

func ensure(t *testing.T, o Owner, want Secret) *corev1.Secret {
	t.Helper()
	got, err := o.Ensure(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// live returns the Secret as it was written.
func live(t *testing.T, o Owner) *corev1.Secret {
	t.Helper()
	var secret corev1.Secret
	if err := o.Live.Get(t.Context(), client.ObjectKey{Namespace: "tenant", Name: "main-echo"}, &secret); err != nil {
		t.Fatal(err)
	}
	return &secret
}

func reason(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	got, _ := reconcile.Classify(err)
	return got
}

func TestMadeOnce(t *testing.T) {
	made := 0
	o := owner("1", common.DeletionRetain)
	for range 3 {
		if got := ensure(t, o, wanted(&made)); string(got.Data["key"]) != "x" || got.OwnerReferences != nil {
			t.Errorf("got %q, owned by %v", got.Data["key"], got.OwnerReferences)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

// The Secret follows its owner's deletionPolicy, and a later owner of the purpose finds it again.
func TestOwnedWhereDataGoes(t *testing.T) {
	made := 0
	o := owner("1", common.DeletionDelete)
	if got := ensure(t, o, wanted(&made)); metav1.GetControllerOf(got) == nil {
		t.Error("with Delete, nobody owns it")
	}
	o.Policy = common.DeletionRetain
	ensure(t, o, wanted(&made))
	kept := live(t, o)
	if kept.OwnerReferences != nil {
		t.Error("with Retain, the garbage collector takes it")
	}
	later := owner("2", common.DeletionDelete, kept.DeepCopy())
	want := wanted(&made)
	want.Labels[common.LabelOwnerName] = "another"
	ensure(t, later, want)
	got := live(t, later)
	if controller := metav1.GetControllerOf(got); made != 1 || controller == nil || controller.UID != "2" || got.Labels[common.LabelOwnerName] != "another" {
		t.Errorf("made %d times, owned by %v, labels %v", made, controller, got.Labels)
	}
}

func TestTheDeletedOwnersIsAwaited(t *testing.T) {
	made := 0
	earlier := ensure(t, owner("1", common.DeletionDelete), wanted(&made))
	_, err := owner("2", common.DeletionRetain, earlier.DeepCopy()).Ensure(t.Context(), wanted(&made))
	var waiting *reconcile.Waiting
	if !errors.As(err, &waiting) || waiting.After <= 0 {
		t.Errorf("got %v", err)
	}
}

func TestForeignIsNotTaken(t *testing.T) {
	made := 0
	for name, change := range map[string]func(*corev1.Secret){
		"another component": func(s *corev1.Secret) { s.Labels[common.LabelComponent] = "relay" },
		"another Platform":  func(s *corev1.Secret) { s.Labels[common.LabelPlatform] = "second" },
		"another kind":      func(s *corev1.Secret) { s.Labels[common.LabelOwnerKind] = "Platform" },
		"no label":          func(s *corev1.Secret) { s.Labels = nil },
	} {
		t.Run(name, func(t *testing.T) {
			want := wanted(&made)
			foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: want.Name, Labels: want.Labels}, Data: map[string][]byte{"key": []byte("theirs")}}
			change(foreign)
			o := owner("1", common.DeletionDelete, foreign)
			_, err := o.Ensure(t.Context(), wanted(&made))
			if got := reason(t, err); got != common.ReasonConflict {
				t.Errorf("got %s: %v", got, err)
			}
			if got := live(t, o); got.OwnerReferences != nil || string(got.Data["key"]) != "theirs" {
				t.Errorf("it is changed, owned by %v", got.OwnerReferences)
			}
		})
	}
}

func TestLostKeyIsNotReplaced(t *testing.T) {
	made := 0
	o := owner("1", common.DeletionRetain)
	secret := ensure(t, o, wanted(&made))
	secret.Data = nil
	if err := o.Client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	_, err := o.Ensure(t.Context(), wanted(&made))
	if got := reason(t, err); got != common.ReasonInvalidSpec || made != 1 {
		t.Errorf("%v; made %d times", err, made)
	}
}

// A cache that is behind must not make another key: the Secret that exists is awaited.
func TestStaleCacheMakesNoOther(t *testing.T) {
	made := 0
	o := owner("1", common.DeletionRetain)
	ensure(t, o, wanted(&made))
	empty := fake.NewClientBuilder().Build()
	o.Client = interceptor.NewClient(o.Client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return empty.Get(ctx, key, obj, opts...)
		},
	})
	_, err := o.Ensure(t.Context(), wanted(&made))
	var waiting *reconcile.Waiting
	if !errors.As(err, &waiting) || waiting.After <= 0 {
		t.Errorf("got %v", err)
	}
	if got := live(t, o); string(got.Data["key"]) != "x" {
		t.Errorf("the key is %q", got.Data["key"])
	}
}

func TestValue(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Data: map[string][]byte{"a": []byte("value\r\n"), "b": []byte("\n")}}
	if got, err := Value(secret, "spec.x", "a"); err != nil || got != "value" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, key := range []string{"b", "c"} {
		if _, err := Value(secret, "spec.x", key); err == nil || !strings.Contains(err.Error(), `spec.x: Secret mine lacks key "`+key+`"`) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
