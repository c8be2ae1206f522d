// SPDX-License-Identifier: Apache-2.0

package refs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/itechsmart/operator/controllers/internal/refs"
)

// indexes gathers what is registered.
type indexes struct {
	extract map[string]client.IndexerFunc
	err     error
}

func (i *indexes) IndexField(_ context.Context, _ client.Object, field string, extract client.IndexerFunc) error {
	i.extract[field] = extract
	return i.err
}

func teams(c *corev1.ConfigMap) []string { return strings.Fields(c.Data["teams"]) }

func TestIndexRegistersEveryField(t *testing.T) {
	got := &indexes{extract: map[string]client.IndexerFunc{}}
	err := refs.Index(t.Context(), got, &corev1.ConfigMap{}, refs.Fields[*corev1.ConfigMap]{
		"teams": teams, "name": func(c *corev1.ConfigMap) []string { return []string{c.Name} },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Data: map[string]string{"teams": "a b"}}
	if values := got.extract["teams"](c); !slices.Equal(values, []string{"a", "b"}) {
		t.Errorf("teams are %v", values)
	}
	if values := got.extract["name"](c); !slices.Equal(values, []string{"one"}) {
		t.Errorf("name is %v", values)
	}
	if values := got.extract["name"](&corev1.Secret{}); values != nil {
		t.Errorf("an object of another kind has %v", values)
	}
}

func TestIndexSaysWhichFieldFailed(t *testing.T) {
	broken := errors.New("broken")
	err := refs.Index(t.Context(), &indexes{extract: map[string]client.IndexerFunc{}, err: broken}, &corev1.ConfigMap{},
		refs.Fields[*corev1.ConfigMap]{"teams": teams})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "ConfigMap by teams") {
		t.Errorf("got %v", err)
	}
}

func TestOthersLeavesTheObjectOut(t *testing.T) {
	named := func(name, in string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"teams": in}}
	}
	self := named("self", "a b")
	reader := fake.NewClientBuilder().WithObjects(self, named("both", "a b"), named("b-only", "b"), named("none", "c")).
		WithIndex(&corev1.ConfigMap{}, "teams", func(obj client.Object) []string { return teams(obj.(*corev1.ConfigMap)) }).Build()
	var got []string
	for _, request := range refs.Others(t.Context(), reader, self, &corev1.ConfigMapList{}, "teams", teams(self)...) {
		got = append(got, request.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"b-only", "both", "both"}) {
		t.Errorf("got %v", got)
	}
}
