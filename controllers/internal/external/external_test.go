// SPDX-License-Identifier: Apache-2.0

package external

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// server is a backing system of named objects with a size.
type server struct {
	objects map[string]int
	// before runs before a create, to simulate another client or a crash.
	before func(name string) error
}

type thing struct {
	name string
	size int
}

func (s *server) driver() Driver[thing] {
	return Driver[thing]{
		Kind: "Thing", Name: func(t thing) string { return t.name },
		Get: func(_ context.Context, want thing) (thing, error) {
			size, ok := s.objects[want.name]
			if !ok {
				return thing{}, backend.ErrNotFound
			}
			return thing{want.name, size}, nil
		},
		Create: func(_ context.Context, want thing) error {
			if s.before != nil {
				if err := s.before(want.name); err != nil {
					return err
				}
			}
			if _, ok := s.objects[want.name]; ok {
				return backend.ErrExists
			}
			s.objects[want.name] = want.size
			return nil
		},
		Update:    func(_ context.Context, want, _ thing) error { s.objects[want.name] = want.size; return nil },
		Usable:    func(_, _ thing) error { return nil },
		MayCreate: func(thing) error { return nil },
		Drop: func(_ context.Context, name string) error {
			if _, ok := s.objects[name]; !ok {
				return backend.ErrNotFound
			}
			if s.before != nil {
				if err := s.before(name); err != nil {
					return err
				}
			}
			delete(s.objects, name)
			return nil
		},
	}
}

// ensure compares and applies.
func ensure(t *testing.T, owner Owner, s *server, wants []thing) ([]common.ExternalObject, error) {
	t.Helper()
	plan, err := Diff(t.Context(), owner, s.driver(), "here", wants)
	if err != nil {
		return nil, err
	}
	return Apply(t.Context(), owner, plan)
}

func newOwner(t *testing.T) Owner {
	t.Helper()
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner", Namespace: "default"}}
	c := fake.NewClientBuilder().WithObjects(obj).Build()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	return Owner{Client: c, Object: obj}
}

func claims(t *testing.T, o Owner) string {
	t.Helper()
	list, err := o.Claims()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(list)
}

func TestApplyClaimsBeforeItCreates(t *testing.T) {
	owner, s := newOwner(t), &server{objects: map[string]int{"theirs": 1}}
	s.before = func(string) error {
		if !controllerutil.ContainsFinalizer(owner.Object, common.Finalizer) || claims(t, owner) == "[]" {
			t.Error("an object is created before it is claimed")
		}
		return nil
	}
	got, err := ensure(t, owner, s, []thing{{"theirs", 5}, {"ours", 2}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Owned || !got[1].Owned || s.objects["theirs"] != 1 || s.objects["ours"] != 2 {
		t.Errorf("got %v, objects %v", got, s.objects)
	}
	if claims(t, owner) != "[{Thing ours here}]" {
		t.Errorf("claims are %s", claims(t, owner))
	}
}

func TestApplyConvergesAfterACrash(t *testing.T) {
	owner, s := newOwner(t), &server{objects: map[string]int{}}
	crash := errors.New("crash")
	s.before = func(string) error { return crash }
	if _, err := ensure(t, owner, s, []thing{{"ours", 2}}); !errors.Is(err, crash) {
		t.Fatalf("got %v", err)
	}
	s.before = nil
	got, err := ensure(t, owner, s, []thing{{"ours", 3}})
	if err != nil || !got[0].Owned || s.objects["ours"] != 3 {
		t.Errorf("got %v, %v, objects %v", got, err, s.objects)
	}
}

func TestApplyNeverAdoptsSilently(t *testing.T) {
	owner, s := newOwner(t), &server{objects: map[string]int{}}
	s.before = func(name string) error { s.objects[name] = 9; return nil } // somebody is faster
	_, err := ensure(t, owner, s, []thing{{"raced", 2}})
	var waiting *reconcile.Waiting
	if !errors.As(err, &waiting) || claims(t, owner) != "[]" {
		t.Fatalf("got %v, claims %s", err, claims(t, owner))
	}
	got, err := ensure(t, owner, s, []thing{{"raced", 2}})
	if err != nil || got[0].Owned || s.objects["raced"] != 9 {
		t.Errorf("got %v, %v, objects %v", got, err, s.objects)
	}
}

func TestApplyClaimsForAllPlansInOneWrite(t *testing.T) {
	owner, first, second := newOwner(t), &server{objects: map[string]int{}}, &server{objects: map[string]int{}}
	version := owner.Object.GetResourceVersion()
	one, err := Diff(t.Context(), owner, first.driver(), "here", []thing{{"a", 1}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := Diff(t.Context(), owner, second.driver(), "there", []thing{{"b", 1}})
	if err != nil {
		t.Fatal(err)
	}
	second.before = func(string) error {
		before, _ := strconv.Atoi(version)
		if now, _ := strconv.Atoi(owner.Object.GetResourceVersion()); now != before+1 {
			t.Errorf("resource version %d after %d: not one write", now, before)
		}
		return nil
	}
	got, err := Apply(t.Context(), owner, one, two)
	if err != nil || len(got) != 2 || claims(t, owner) != "[{Thing a here} {Thing b there}]" {
		t.Errorf("got %v, %v, claims %s", got, err, claims(t, owner))
	}
}

func TestClaimAddsWhatIsMissing(t *testing.T) {
	owner := newOwner(t)
	a, b := Claim{"Thing", "a", "here"}, Claim{"Thing", "b", "here"}
	if err := owner.Claim(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := owner.Claim(t.Context(), b, a); err != nil {
		t.Fatal(err)
	}
	version := owner.Object.GetResourceVersion()
	if err := owner.Claim(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if claims(t, owner) != "[{Thing a here} {Thing b here}]" || owner.Object.GetResourceVersion() != version {
		t.Errorf("claims are %s at version %s, want a and b at %s", claims(t, owner), owner.Object.GetResourceVersion(), version)
	}
	claimed, err := owner.Claimed()
	if err != nil || !claimed(a) || claimed(Claim{"Thing", "a", "there"}) {
		t.Errorf("a is claimed here, and not there: %v", err)
	}
}

func TestUnreadableClaimsAreReported(t *testing.T) {
	owner := newOwner(t)
	owner.Object.SetAnnotations(map[string]string{AnnotationClaims: "{"})
	_, read := owner.Claimed()
	for name, err := range map[string]error{
		"read": read, "claim": owner.Claim(t.Context(), Claim{"Thing", "a", "here"}), "release": owner.Release(t.Context(), Claim{"Thing", "a", "here"}),
	} {
		if reason, message := reconcile.Classify(err); reason != common.ReasonInvalidSpec || !strings.Contains(message, AnnotationClaims) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDropTakesMissingAsRemoved(t *testing.T) {
	s := &server{objects: map[string]int{"a": 1, "b": 1}}
	err := Drop(t.Context(), s.driver(), Claim{"Thing", "gone", "here"}, Claim{"Thing", "a", "here"})
	if err != nil || len(s.objects) != 1 || s.objects["b"] != 1 {
		t.Errorf("got %v, objects %v", err, s.objects)
	}
	s.before = func(string) error { return backend.ErrUnavailable }
	err = Drop(t.Context(), s.driver(), Claim{"Thing", "b", "here"})
	if reason, message := reconcile.Classify(err); reason != common.ReasonBackendUnavailable || !strings.Contains(message, "Retain") {
		t.Errorf("got %v", err)
	}
}

func TestExplain(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		reason string
	}{
		"denied":      {backend.ErrAuth, common.ReasonAccessDenied},
		"invalid":     {backend.ErrInvalid, common.ReasonInvalidSpec},
		"unavailable": {backend.ErrUnavailable, common.ReasonBackendUnavailable},
		"typed":       {reconcile.Stall(common.ReasonConflict, "x"), common.ReasonConflict},
	} {
		t.Run(name, func(t *testing.T) {
			if reason, _ := reconcile.Classify(Explain("Thing", "n", test.err)); reason != test.reason {
				t.Errorf("reason %s, want %s", reason, test.reason)
			}
		})
	}
}
