// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kinds are the kinds that a manager creates or reconciles in these scenarios, besides the service kinds of products.
var kinds = []schema.GroupVersionKind{
	{Group: "platform.itechsmart.dev", Version: "v1alpha1", Kind: "Platform"}, {Group: "dataflow.itechsmart.dev", Version: "v1alpha1", Kind: "Pipeline"},
	{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "StatefulSet"}, {Group: "batch", Version: "v1", Kind: "Job"},
	{Version: "v1", Kind: "Service"}, {Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}, {Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
	{Version: "v1", Kind: "ServiceAccount"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
}

// isService reports whether a kind is a product's service kind.
func isService(kind schema.GroupVersionKind) bool {
	return strings.HasSuffix(kind.Group, ".itechsmart.dev") && strings.HasSuffix(kind.Kind, "Service")
}

// serviceKinds returns the service kinds of a scheme.
func serviceKinds(scheme *runtime.Scheme) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for kind := range scheme.AllKnownTypes() {
		if isService(kind) {
			out = append(out, kind)
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// State returns everything in a namespace after garbage collection, by kind and name. What differs between runs is left
// out, or replaced by the pairs in replace.
func State(ctx context.Context, c client.Client, namespace string, replace ...string) (map[string]string, error) {
	var objects []unstructured.Unstructured
	for _, kind := range append(serviceKinds(c.Scheme()), kinds...) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		objects = append(objects, list.Items...)
	}
	alive := map[string]bool{}
	replace = append(slices.Clone(replace), namespace, "NAMESPACE")
	for i := range objects {
		alive[string(objects[i].GetUID())] = true
		replace = append(replace, string(objects[i].GetUID()), "UID")
		annotations := objects[i].GetAnnotations()
		for _, key := range []string{"config-hash", "tested"} {
			if hash := annotations["dataflow.itechsmart.dev/"+key]; hash != "" {
				replace = append(replace, hash, strings.ToUpper(key))
			}
		}
	}
	normal := strings.NewReplacer(replace...)
	out := map[string]string{}
	for i := range objects {
		obj := &objects[i]
		if owners := obj.GetOwnerReferences(); len(owners) > 0 && !alive[string(owners[0].UID)] {
			continue // the garbage collector's
		}
		described, err := text(obj)
		if err != nil {
			return nil, err
		}
		out[normal.Replace(obj.GetKind()+" "+obj.GetName())] = normal.Replace(described)
	}
	return out, nil
}

// text returns the part of an object that must be equal in every cell.
func text(obj *unstructured.Unstructured) (string, error) {
	content := obj.DeepCopy().Object
	metadata := content["metadata"].(map[string]any)
	for _, key := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
		delete(metadata, key)
	}
	if obj.GetKind() != "Pipeline" && obj.GetKind() != "Platform" && !isService(obj.GroupVersionKind()) {
		delete(metadata, "generation")
		delete(content, "status")
	}
	if annotations, ok := metadata["annotations"].(map[string]any); ok {
		delete(annotations, "itechsmart.dev/applied-hash") // of names that differ
		delete(annotations, "itechsmart.dev/source-version")
	}
	if spec, ok := content["spec"].(map[string]any); ok && obj.GetKind() == "Service" && spec["clusterIP"] != "None" {
		delete(spec, "clusterIP") // the next free one
		delete(spec, "clusterIPs")
	}
	if conditions, ok, _ := unstructured.NestedSlice(content, "status", "conditions"); ok {
		for _, condition := range conditions {
			delete(condition.(map[string]any), "lastTransitionTime")
		}
		slices.SortFunc(conditions, func(a, b any) int {
			return strings.Compare(fmt.Sprint(a.(map[string]any)["type"]), fmt.Sprint(b.(map[string]any)["type"]))
		})
		_ = unstructured.SetNestedSlice(content, conditions, "status", "conditions")
	}
	if data, ok, _ := unstructured.NestedMap(content, "data"); ok && obj.GetKind() == "Secret" {
		for key, value := range data {
			var raw []byte
			if err := json.Unmarshal([]byte(`"`+value.(string)+`"`), &raw); err != nil {
				return "", fmt.Errorf("state: %w", err)
			}
			data[key] = string(raw)
		}
		content["data"] = data
	}
	described, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	return string(described), nil
}
