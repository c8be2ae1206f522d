// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Schema tests the rules of a kind's schema on the API server. Base is the part of the specification that every case has, as the
// members of a YAML object in one line.
type Schema struct {
	Kind schema.GroupVersionKind
	Base string
}

// Creation is a case: its name, a specification, and a part of the message with which the API server refuses it; empty: it accepts.
type Creation [3]string

// Update is a case: its name, the specification before and after, and a part of the refusal; empty: the API server accepts it.
type Update [4]string

// OnCreate tries creations.
func (s Schema) OnCreate(t *testing.T, cases []Creation) {
	t.Helper()
	c, _ := Env(t)
	namespace := Namespace(t)
	for _, test := range cases {
		name, spec, refused := test[0], test[1], test[2]
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, c.Create(context.Background(), s.parse(t, spec, namespace), client.DryRunAll), refused)
		})
	}
}

// OnUpdate tries changes.
func (s Schema) OnUpdate(t *testing.T, cases []Update) {
	t.Helper()
	c, _ := Env(t)
	for _, test := range cases {
		name, refused := test[0], test[3]
		t.Run(name, func(t *testing.T) {
			namespace := Namespace(t)
			before, after := s.parse(t, test[1], namespace), s.parse(t, test[2], namespace)
			if err := c.Create(context.Background(), before); err != nil {
				t.Fatal(err)
			}
			after.SetResourceVersion(before.GetResourceVersion())
			checkRefusal(t, c.Update(context.Background(), after, client.DryRunAll), refused)
		})
	}
}

// Defaulted creates an object with a specification, and reads into obj what the API server made of it.
func (s Schema) Defaulted(t *testing.T, spec string, obj client.Object) {
	t.Helper()
	c, _ := Env(t)
	live := s.parse(t, spec, Namespace(t))
	if err := c.Create(context.Background(), live); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(live), obj); err != nil {
		t.Fatal(err)
	}
}

func (s Schema) parse(t *testing.T, spec, namespace string) *unstructured.Unstructured {
	t.Helper()
	var members []string
	for _, part := range []string{s.Base, spec} {
		if part != "" {
			members = append(members, part)
		}
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("{metadata: {name: a}, spec: {"+strings.Join(members, ", ")+"}}"), &obj.Object); err != nil {
		t.Fatal(err)
	}
	obj.SetGroupVersionKind(s.Kind)
	obj.SetNamespace(namespace)
	return obj
}

func checkRefusal(t *testing.T, err error, refused string) {
	t.Helper()
	switch {
	case refused == "" && err != nil:
		t.Errorf("refused: %v", err)
	case refused == "":
	case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), refused):
		t.Errorf("got %v, want a refusal with %q", err, refused)
	}
}
