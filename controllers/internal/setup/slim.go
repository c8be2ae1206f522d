// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"slices"
	"sync"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/controllers/internal/apply"
)

// slim drops what no controller reads, and lets equal parts of thousands of children share memory.
func slim(obj any) (any, error) {
	o, ok := obj.(client.Object)
	if !ok {
		return obj, nil
	}
	o.SetManagedFields(apply.Unapplied(o.GetManagedFields()))
	o.SetLabels(shared(o.GetLabels()))
	o.SetNamespace(text(o.GetNamespace()))
	o.SetName(text(o.GetName()))
	owners := o.GetOwnerReferences()
	for i := range owners {
		ref := &owners[i]
		ref.APIVersion, ref.Kind, ref.Name, ref.UID = text(ref.APIVersion), text(ref.Kind), text(ref.Name), text(ref.UID)
		ref.Controller, ref.BlockOwnerDeletion = flag(ref.Controller), flag(ref.BlockOwnerDeletion)
	}
	o.SetOwnerReferences(owners)
	switch o := obj.(type) {
	case *appsv1.Deployment:
		o.Spec.Selector.MatchLabels = shared(o.Spec.Selector.MatchLabels)
		o.Spec.Template.Labels = shared(o.Spec.Template.Labels)
		slimPod(&o.Spec.Template.Spec)
		o.Status.Conditions = nil // the numbers are enough
	case *appsv1.StatefulSet:
		slimPod(&o.Spec.Template.Spec)
		o.Status.Conditions = nil
	case *networkingv1.NetworkPolicy:
		o.Spec.PodSelector.MatchLabels = shared(o.Spec.PodSelector.MatchLabels)
		o.Spec.Ingress = list(o.Spec.Ingress)
		o.Spec.Egress = list(o.Spec.Egress)
	case *corev1.Service:
		o.Spec.Selector = shared(o.Spec.Selector)
		o.Spec.Ports = list(o.Spec.Ports)
	case *corev1.Secret:
		apply.Digest(o)
	case *corev1.Pod:
		// Controllers read only the volumes and the status of a Pod; its template is its owner's.
		o.Spec = corev1.PodSpec{Volumes: o.Spec.Volumes}
		o.Status.Conditions = slices.DeleteFunc(o.Status.Conditions, func(c corev1.PodCondition) bool { return c.Status == corev1.ConditionTrue })
	}
	return obj, nil
}

func slimPod(spec *corev1.PodSpec) {
	spec.InitContainers = list(spec.InitContainers)
	spec.Containers = list(spec.Containers)
	spec.SecurityContext = one(spec.SecurityContext)
	spec.Affinity = one(spec.Affinity)
	for i := range spec.Volumes {
		if empty := &spec.Volumes[i].EmptyDir; *empty != nil {
			*empty = one(*empty)
		}
	}
}

// shared returns the known map that equals labels: the children of one owner have the same labels.
func shared(labels map[string]string) map[string]string {
	if labels == nil {
		return nil
	}
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		_, _ = fmt.Fprintf(sum, "%q=%q,", key, labels[key])
	}
	return known(sum, func() map[string]string {
		out := make(map[string]string, len(labels))
		for key, value := range labels {
			out[text(key)] = text(value)
		}
		return out
	})
}

func text[S ~string](s S) S { return unique.Make(s).Value() }

var yes, no = true, false

func flag(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

type part[T any] interface {
	*T
	Marshal() ([]byte, error)
}

// one returns the known part that equals p.
func one[T any, P part[T]](p P) P {
	if p == nil {
		return nil
	}
	return alike(p, p)
}

// list returns the known list that equals items.
func list[T any, P part[T]](items []T) []T {
	if len(items) == 0 {
		return items
	}
	each := make([]P, len(items))
	for i := range items {
		each[i] = &items[i]
	}
	return alike(items, each...)
}

func alike[V, T any, P part[T]](value V, parts ...P) V {
	sum := sha256.New()
	for _, p := range parts {
		data, err := p.Marshal()
		if err != nil {
			return value
		}
		_, _ = fmt.Fprintf(sum, "%d:%s", len(data), data)
	}
	return known(sum, func() V { return value })
}

var (
	partsMu sync.Mutex
	// parts is one of each value that objects of the cache have in common. Nobody changes what is in the cache.
	parts = map[[sha256.Size]byte]any{}
)

// mostParts bounds the number of parts. When it is reached all are forgotten, and sharing starts over.
const mostParts = 50_000

// known returns the value whose content has this sum, which first returns the first time.
func known[V any](sum hash.Hash, first func() V) V {
	var kind V
	_, _ = fmt.Fprintf(sum, "%T", kind)
	key := [sha256.Size]byte(sum.Sum(nil))
	partsMu.Lock()
	defer partsMu.Unlock()
	if found, ok := parts[key].(V); ok {
		return found
	}
	if len(parts) >= mostParts {
		clear(parts)
	}
	value := first()
	parts[key] = value
	return value
}
