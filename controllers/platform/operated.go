// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/internal/backend"
)

// operated applies the custom resources of an established operator, waits for it, and binds to its Secrets.
func (p *pass) operated(ctx context.Context, kind *backendType, spec *v1alpha1.OperatedBackend) (backend.Binding, error) {
	path := fieldPath(kind.name, v1alpha1.ModeOperated)
	if kind.operated == nil {
		return backend.Binding{}, reconcile.Stall(common.ReasonInvalidSpec, "%s: not supported for %s; use managed or external", path, kind.title)
	}
	if err := reconcile.Invalid(kind.validateOperated(path, spec)); err != nil {
		return backend.Binding{}, err
	}
	versions, err := p.dynamic.Installed(kind.operated.kinds...)
	if meta.IsNoMatchError(err) {
		return backend.Binding{}, &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: dynamic.Retry, Message: fmt.Sprintf(
			"%s: %s is not installed (%v); install it, or use managed or external", path, kind.operated.operator, err)}
	}
	if err != nil {
		return backend.Binding{}, fmt.Errorf("%s: %w", path, err)
	}
	in := p.operatedInput(kind, spec, versions)
	desired := kind.operated.render(in)
	objects := map[string]*unstructured.Unstructured{}
	for _, obj := range desired {
		if err := p.applyOperated(ctx, obj); err != nil {
			return backend.Binding{}, err
		}
		live := obj.DeepCopy()
		if err := p.cache.Get(ctx, client.ObjectKeyFromObject(obj), live); client.IgnoreNotFound(err) != nil {
			return backend.Binding{}, fmt.Errorf("read %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		objects[obj.GetKind()] = live
	}
	if ok, message := kind.operated.ready(objects); !ok {
		p.prober.forget(p.probeKey(kind))
		return p.lastBinding(ctx, kind), reconcile.Wait(common.ReasonProgressing, "%s", message)
	}
	return p.bindOperated(ctx, kind, in, objects)
}

// applyOperated marks what holds data by labels alone when it is to be retained.
func (p *pass) applyOperated(ctx context.Context, obj client.Object) error {
	if p.platform.Spec.DeletionPolicy == common.DeletionDelete {
		return p.deps.Applier.Apply(ctx, p.platform, obj)
	}
	return p.deps.Applier.ApplyKept(ctx, p.platform, obj)
}

func (p *pass) operatedInput(kind *backendType, spec *v1alpha1.OperatedBackend, versions map[string]schema.GroupVersionKind) operatedInput {
	return operatedInput{
		name: workloadName(p.platform.Name, kind.name), namespace: p.platform.Namespace, platform: p.platform.Name,
		labels: objectLabels(p.platform.Name, kind.name), spec: spec, versions: versions,
		remove: p.platform.Spec.DeletionPolicy == common.DeletionDelete,
	}
}

func (p *pass) bindOperated(ctx context.Context, kind *backendType, in operatedInput, objects map[string]*unstructured.Unstructured) (backend.Binding, error) {
	from := refs.From{Group: v1alpha1.GroupVersion.Group, Kind: kindPlatform, Namespace: p.platform.Namespace}
	var secrets []*corev1.Secret
	for _, name := range kind.operated.secrets(in.name) {
		secret, err := p.deps.Refs.Secret(ctx, fieldPath(kind.name, v1alpha1.ModeOperated), from, in.namespace, name)
		var missing *reconcile.Terminal
		if errors.As(err, &missing) {
			return backend.Binding{}, reconcile.Wait(common.ReasonProgressing, "Secret %s is awaited from %s", name, kind.operated.operator)
		}
		if err != nil {
			return backend.Binding{}, err
		}
		secrets = append(secrets, secret)
	}
	b, err := kind.operated.bind(in, secrets, objects)
	if err != nil {
		return b, reconcile.Wait(common.ReasonProgressing, "%v", err)
	}
	if b.Host == "" && len(b.Brokers()) > 0 {
		if b.Host, b.Port, err = net.SplitHostPort(b.Brokers()[0]); err != nil {
			return b, reconcile.Wait(common.ReasonProgressing, "the address that %s tells has no port", kind.operated.operator)
		}
	}
	return b, p.bindTo(ctx, kind, &b, v1alpha1.ModeOperated, "")
}

// lastBinding returns the binding that products still read while the backend is not Ready.
func (p *pass) lastBinding(ctx context.Context, kind *backendType) backend.Binding {
	var secret corev1.Secret
	if err := p.client.Get(ctx, client.ObjectKey{Namespace: p.platform.Namespace, Name: p.platform.BindingSecretName(kind.name)}, &secret); err != nil {
		return backend.Binding{}
	}
	return backend.ParseBinding(secret.Data)
}

// pruneOperated deletes the resources of an operated backend that the specification no longer has; Retain leaves them.
func (p *pass) pruneOperated(ctx context.Context, kind *backendType) error {
	if kind.operated == nil || p.platform.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	versions, err := p.dynamic.Installed(kind.operated.kinds...)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	in := p.operatedInput(kind, &v1alpha1.OperatedBackend{}, versions)
	for _, obj := range kind.operated.render(in) {
		live := obj.DeepCopy()
		err := p.cache.Get(ctx, client.ObjectKeyFromObject(obj), live)
		if apierrors.IsNotFound(err) || err == nil && !p.ours(live) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		uid := live.GetUID()
		if err := p.client.Delete(ctx, live, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
	}
	return nil
}

// object makes one custom resource.
func (in operatedInput) object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	obj.SetGroupVersionKind(in.versions[kind])
	obj.SetName(name)
	obj.SetNamespace(in.namespace)
	labels := map[string]string{}
	for key, value := range in.labels {
		labels[key] = value
	}
	obj.SetLabels(labels)
	return obj
}

// conditionTrue reports whether a condition of another operator's resource is True; message is its message otherwise.
func conditionTrue(obj *unstructured.Unstructured, conditionType string) (ok bool, message string) {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, c := range conditions {
		condition, isMap := c.(map[string]any)
		if !isMap || condition["type"] != conditionType {
			continue
		}
		if condition["status"] == "True" {
			return true, ""
		}
		text, _ := condition["message"].(string)
		return false, fmt.Sprintf("%s %s is not %s: %s", obj.GetKind(), obj.GetName(), conditionType, strings.Join(strings.Fields(text), " "))
	}
	return false, fmt.Sprintf("%s %s has no condition %s yet", obj.GetKind(), obj.GetName(), conditionType)
}

// addResources sets spec.resources in the notation that all of them share with Kubernetes.
func addResources(spec map[string]any, resources *corev1.ResourceRequirements) {
	if resources == nil {
		return
	}
	out := map[string]any{}
	for name, list := range map[string]corev1.ResourceList{"requests": resources.Requests, "limits": resources.Limits} {
		if len(list) == 0 {
			continue
		}
		quantities := map[string]any{}
		for key, quantity := range list {
			quantities[string(key)] = quantity.String()
		}
		out[name] = quantities
	}
	if len(out) > 0 {
		spec["resources"] = out
	}
}

func sizeString(storage v1alpha1.Storage) string {
	size := sizeOf(storage)
	return size.String()
}

func configMap(config map[string]v1alpha1.ConfigValue) map[string]any {
	out := make(map[string]any, len(config))
	for key, value := range config {
		out[key] = string(value)
	}
	return out
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
