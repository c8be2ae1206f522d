// SPDX-License-Identifier: Apache-2.0

// Package apply creates children, keeps them as desired with server-side apply,
// and removes those that are no longer desired. It compares with the cache first:
// when nothing differs it neither reads nor writes.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

const (
	// LabelManagedBy selects what the manager's cache holds of the child kinds.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is its value on every child.
	ManagedBy = "itechsmart-operator"
	// annotationHash identifies the desired state that was last applied, so that a removed field is noticed.
	annotationHash = "itechsmart.dev/applied-hash"
	// indexOwner indexes children by the bucket of their controller's UID.
	indexOwner = ".metadata.controllerUID"
)

// Kinds returns the child kinds that the manager prunes. It caches the objects of these kinds that have the managed-by label.
func Kinds() []client.Object {
	return []client.Object{
		&appsv1.Deployment{}, &appsv1.StatefulSet{}, &batchv1.Job{}, &corev1.Service{}, &corev1.Secret{},
		&corev1.ConfigMap{}, &policyv1.PodDisruptionBudget{},
		&networkingv1.NetworkPolicy{}, &networkingv1.Ingress{}, &corev1.ServiceAccount{}, &rbacv1.RoleBinding{},
		&autoscalingv2.HorizontalPodAutoscaler{},
	}
}

// Lists returns the list types of Kinds, in the same order.
func Lists() []client.ObjectList {
	return []client.ObjectList{
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &batchv1.JobList{}, &corev1.ServiceList{}, &corev1.SecretList{},
		&corev1.ConfigMapList{}, &policyv1.PodDisruptionBudgetList{},
		&networkingv1.NetworkPolicyList{}, &networkingv1.IngressList{}, &corev1.ServiceAccountList{}, &rbacv1.RoleBindingList{},
		&autoscalingv2.HorizontalPodAutoscalerList{},
	}
}

// Index registers the owner index on every child kind.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	for _, kind := range Kinds() {
		err := indexer.IndexField(ctx, kind, indexOwner, func(obj client.Object) []string {
			if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
				return []string{refs.Bucket(string(ref.UID))}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("index %T by owner: %w", kind, err)
		}
	}
	return nil
}

// Applier applies and prunes the children of one owner.
type Applier struct {
	Client client.Client
	Scheme *runtime.Scheme
	// Cache reads children of kinds without a Go type, which Client would read from the API server.
	Cache client.Reader
	// Live reads from the API server.
	Live client.Reader

	// equal holds which desired state was last found equal to which version of the live object.
	equal *memo.Lately[childKey]
}

// New returns an Applier that has applied nothing yet.
func New(c client.Client, scheme *runtime.Scheme, cache, live client.Reader) *Applier {
	return &Applier{Client: c, Scheme: scheme, Cache: cache, Live: live, equal: memo.New[childKey](0)}
}

// Apply makes each child as desired, in order. A desired object needs name, namespace and the fields that matter;
// the owner reference, the managed-by label and the type are set here.
func (a *Applier) Apply(ctx context.Context, owner client.Object, desired ...client.Object) error {
	for _, obj := range desired {
		if err := a.one(ctx, owner, obj, false); err != nil {
			return err
		}
	}
	return nil
}

// ApplyKept is Apply for objects that outlive their owner. They have no owner reference, so the garbage collector leaves
// them alone; the labels LabelOwnerKind and LabelOwnerName name their owner, and a later owner of the same kind and name
// finds them again. Prune does not see them.
func (a *Applier) ApplyKept(ctx context.Context, owner client.Object, desired ...client.Object) error {
	for _, obj := range desired {
		if err := a.one(ctx, owner, obj, true); err != nil {
			return err
		}
	}
	return nil
}

// belongs reports whether a live object is the owner's: by its controller reference or, when it has none, by its labels.
func belongs(owner, desired, live client.Object) bool {
	if ref := metav1.GetControllerOfNoCopy(live); ref != nil {
		return ref.UID == owner.GetUID()
	}
	want, have := desired.GetLabels(), live.GetLabels()
	return have[LabelManagedBy] == ManagedBy && want[common.LabelOwnerName] != "" &&
		have[common.LabelOwnerKind] == want[common.LabelOwnerKind] && have[common.LabelOwnerName] == want[common.LabelOwnerName]
}

func (a *Applier) one(ctx context.Context, owner, obj client.Object, kept bool) error {
	gvk, current, err := a.current(ctx, obj)
	if err != nil {
		return err
	}
	if current == nil {
		want, err := a.render(owner, obj, gvk, kept)
		if err != nil {
			return err
		}
		created, err := a.create(ctx, obj, want)
		if err == nil {
			return a.note(owner, obj, created, gvk, kept)
		}
		if !apierrors.IsAlreadyExists(err) {
			return explain("create", want, err)
		}
		// The cache is late, or does not hold the object because it is somebody else's.
		if current, err = a.read(ctx, a.Live, obj, gvk); err != nil || current == nil {
			return err // nil: it was deleted meanwhile, which is an event
		}
		if secret, ok := current.(*corev1.Secret); ok {
			Digest(secret)
		}
	}
	want, err := a.differing(owner, obj, current, gvk, kept)
	if err != nil || want == nil {
		return err
	}
	if err := a.adopt(ctx, current, gvk); err != nil {
		return err
	}
	return explain("apply", want, a.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(common.FieldOwner), client.ForceOwnership))
}

// note records that the API server has a child as desired.
func (a *Applier) note(owner, obj, live client.Object, gvk schema.GroupVersionKind, kept bool) error {
	sum, err := digest(owner, obj, live, kept)
	if err == nil {
		a.equal.Done(keyOf(obj, gvk), sum)
	}
	return err
}

// explain adds to an error of the API server what was written.
func explain(verb string, want *unstructured.Unstructured, err error) error {
	switch {
	case apierrors.IsInvalid(err):
		return &reconcile.Terminal{Reason: common.ReasonInvalidSpec, Message: fmt.Sprintf("the API server refuses %s %q: %v", want.GetKind(), want.GetName(), err)}
	case err != nil:
		return fmt.Errorf("%s %s %q: %w", verb, want.GetKind(), want.GetName(), err)
	}
	return nil
}

// Unchanged reports whether Apply would write nothing: the child exists as desired, and was applied so.
func (a *Applier) Unchanged(ctx context.Context, owner, desired client.Object) bool {
	gvk, current, err := a.current(ctx, desired)
	if err != nil || current == nil {
		return false
	}
	want, err := a.differing(owner, desired, current, gvk, false)
	return err == nil && want == nil
}

// differing returns the object to send, or nil when current is as desired.
func (a *Applier) differing(owner, obj, current client.Object, gvk schema.GroupVersionKind, kept bool) (*unstructured.Unstructured, error) {
	key := keyOf(obj, gvk)
	sum, err := digest(owner, obj, current, kept)
	if err != nil {
		return nil, err
	}
	if due, _ := a.equal.Due(key, sum); !due {
		return nil, nil
	}
	want, err := a.render(owner, obj, gvk, kept)
	if err != nil {
		return nil, err
	}
	if !belongs(owner, obj, current) {
		return nil, &reconcile.Terminal{Reason: common.ReasonConflict, Message: fmt.Sprintf(
			"%s %q exists and belongs to something else; rename this resource, or remove that object", gvk.Kind, obj.GetName())}
	}
	live, err := asUnstructured(current, gvk)
	if err != nil {
		return nil, err
	}
	if live.GetAnnotations()[annotationHash] == want.GetAnnotations()[annotationHash] && contains(cached(obj, want), live.Object) {
		a.equal.Done(key, sum)
		return nil, nil
	}
	return want, nil
}

// render returns the object as it is sent: with hash and owner, and without status and the server's own fields.
func (a *Applier) render(owner, obj client.Object, gvk schema.GroupVersionKind, kept bool) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("render %s %q: %w", gvk.Kind, obj.GetName(), err)
	}
	want := &unstructured.Unstructured{Object: content}
	want.SetGroupVersionKind(gvk)
	clean(want.Object)
	labels := want.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelManagedBy] = ManagedBy
	want.SetLabels(labels)
	if !kept {
		if err := controllerutil.SetControllerReference(owner, want, a.Scheme); err != nil {
			return nil, fmt.Errorf("own %s %q: %w", gvk.Kind, obj.GetName(), err)
		}
	}
	data, err := json.Marshal(want.Object)
	if err != nil {
		return nil, fmt.Errorf("render %s %q: %w", gvk.Kind, obj.GetName(), err)
	}
	sum := sha256.Sum256(data)
	annotations := want.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationHash] = hex.EncodeToString(sum[:8])
	want.SetAnnotations(annotations)
	return want, nil
}

// current returns the kind of a child, and the child from the cache, which is nil when there is none.
func (a *Applier) current(ctx context.Context, obj client.Object) (schema.GroupVersionKind, client.Object, error) {
	gvk, err := apiutil.GVKForObject(obj, a.Scheme)
	if err != nil {
		return gvk, nil, fmt.Errorf("apply: %w", err)
	}
	var reader client.Reader = a.Client
	if _, isUnstructured := obj.(*unstructured.Unstructured); isUnstructured {
		reader = a.Cache
	}
	current, err := a.read(ctx, reader, obj, gvk, client.UnsafeDisableDeepCopy) // it is only compared
	return gvk, current, err
}

// read returns the object of the name of obj, or nil when there is none.
func (a *Applier) read(ctx context.Context, reader client.Reader, obj client.Object, gvk schema.GroupVersionKind, options ...client.GetOption) (client.Object, error) {
	found, err := empty(a.Scheme, obj, gvk)
	if err != nil {
		return nil, err
	}
	err = reader.Get(ctx, client.ObjectKeyFromObject(obj), found, options...)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %q: %w", gvk.Kind, obj.GetName(), err)
	}
	return found, nil
}

// empty returns an object of the kind and the Go type of obj.
func empty(scheme *runtime.Scheme, obj client.Object, gvk schema.GroupVersionKind) (client.Object, error) {
	if _, isUnstructured := obj.(*unstructured.Unstructured); isUnstructured {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gvk)
		return u, nil
	}
	typed, err := scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	return typed.(client.Object), nil
}

// asUnstructured returns obj as unstructured content, for reading only: the cache may share it.
func asUnstructured(obj client.Object, gvk schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("read %s %q: %w", gvk.Kind, obj.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

// Prune deletes the owner's children that keep does not name. Keys are "Kind/name".
func (a *Applier) Prune(ctx context.Context, owner client.Object, retain map[string]bool) error {
	return a.each(ctx, owner, func(kind string, child client.Object) error {
		if retain[kind+"/"+child.GetName()] {
			return nil
		}
		return a.delete(ctx, kind, child)
	})
}

func (a *Applier) delete(ctx context.Context, kind string, child client.Object) error {
	if !child.GetDeletionTimestamp().IsZero() {
		return nil
	}
	uid := child.GetUID()
	err := a.Client.Delete(ctx, child, client.PropagationPolicy("Background"), client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s %q: %w", kind, child.GetName(), err)
	}
	return nil
}

// Key returns the name that Prune has for an object.
func (a *Applier) Key(obj client.Object) string {
	gvk, err := apiutil.GVKForObject(obj, a.Scheme)
	if err != nil {
		return ""
	}
	return gvk.Kind + "/" + obj.GetName()
}

// each visits the owner's children. They are shared with the cache: visit must not change them.
func (a *Applier) each(ctx context.Context, owner client.Object, visit func(kind string, child client.Object) error) error {
	kinds := Kinds()
	for i, list := range Lists() {
		err := a.Client.List(ctx, list, client.InNamespace(owner.GetNamespace()), client.MatchingFields{indexOwner: refs.Bucket(string(owner.GetUID()))}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return fmt.Errorf("list children: %w", err)
		}
		gvk, err := apiutil.GVKForObject(kinds[i], a.Scheme)
		if err != nil {
			return fmt.Errorf("list children: %w", err)
		}
		children, err := extract(list)
		if err != nil {
			return err
		}
		for _, child := range children {
			if !metav1.IsControlledBy(child, owner) {
				continue
			}
			if err := visit(gvk.Kind, child); err != nil {
				return err
			}
		}
	}
	return nil
}
