// SPDX-License-Identifier: Apache-2.0

// Package validation checks specifications with code, where a schema and CEL rules do not suffice. Admission and conditions
// report the same errors.
package validation

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// Kind is a kind and the check of its specification.
type Kind struct {
	// Like is an empty object of the kind.
	Like client.Object
	// Check returns everything that can never work, whatever other objects exist; nil: the schema suffices.
	Check func(client.Object) field.ErrorList
}

// For returns the Kind of like.
func For[T client.Object](like T, check func(T) field.ErrorList) Kind {
	return Kind{Like: like, Check: func(obj client.Object) field.ErrorList {
		t, ok := obj.(T)
		if !ok {
			return field.ErrorList{field.InternalError(nil, fmt.Errorf("got %T, want %T", obj, like))}
		}
		return check(t)
	}}
}

// Errorf returns an error at a path, such as spec.sources[0].type. It never has the field's value, which may be secret.
func Errorf(path, format string, args ...any) *field.Error {
	return &field.Error{Type: field.ErrorTypeInvalid, Field: path, BadValue: field.OmitValueType{}, Detail: fmt.Sprintf(format, args...)}
}

// Memo checks each generation of a resource once. It is safe for concurrent use.
type Memo[T reconcile.Object] struct {
	check func(T) field.ErrorList

	mu    sync.Mutex
	known map[client.ObjectKey]verdict
}

// verdict is the outcome for one generation.
type verdict struct {
	uid        types.UID
	generation int64
	errs       field.ErrorList
}

// NewMemo returns a Memo of a check.
func NewMemo[T reconcile.Object](check func(T) field.ErrorList) *Memo[T] {
	return &Memo[T]{check: check, known: map[client.ObjectKey]verdict{}}
}

// Check returns nil, or a terminal error that lists the invalid fields. A resource that is Ready at its generation is valid:
// a new manager does not check everything again.
func (m *Memo[T]) Check(obj T) error {
	ready := meta.FindStatusCondition(*obj.GetConditions(), common.ConditionReady)
	if ready != nil && ready.Status == "True" && ready.ObservedGeneration == obj.GetGeneration() {
		return nil
	}
	key := client.ObjectKeyFromObject(obj)
	m.mu.Lock()
	last, ok := m.known[key]
	m.mu.Unlock()
	if !ok || last.uid != obj.GetUID() || last.generation != obj.GetGeneration() {
		last = verdict{obj.GetUID(), obj.GetGeneration(), m.check(obj)}
		m.mu.Lock()
		m.known[key] = last
		m.mu.Unlock()
	}
	return reconcile.Invalid(last.errs)
}

// Forget drops what is known of a resource that is gone.
func (m *Memo[T]) Forget(key client.ObjectKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, key)
}
