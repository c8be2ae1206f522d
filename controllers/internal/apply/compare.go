// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clean removes unset fields of a typed object: null values and the server's own fields. What is left is exactly
// what we want to own.
func clean(content map[string]any) {
	delete(content, "status")
	if metadata, ok := content["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
		delete(metadata, "resourceVersion")
		delete(metadata, "uid")
		delete(metadata, "managedFields")
	}
	dropNulls(content)
}

func dropNulls(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, member := range v {
			if member == nil {
				delete(v, key)
				continue
			}
			dropNulls(member)
		}
	case []any:
		for _, member := range v {
			dropNulls(member)
		}
	}
}

// contains reports whether live has everything that want sets. Lists of named members are matched by name, so that an
// injected sidecar or a defaulted port is no drift; other lists must be of equal length.
func contains(want, live any) bool {
	switch w := want.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok {
			return len(w) == 0 && live == nil
		}
		for key, member := range w {
			if !contains(member, l[key]) {
				return false
			}
		}
		return true
	case []any:
		l, ok := live.([]any)
		if !ok {
			return len(w) == 0 && live == nil
		}
		return listContains(w, l)
	default:
		return equality.Semantic.DeepEqual(want, live) || fmt.Sprint(want) == fmt.Sprint(live)
	}
}

func listContains(want, live []any) bool {
	byName, named := names(live)
	if !named {
		if len(want) != len(live) {
			return false
		}
		for i := range want {
			if !contains(want[i], live[i]) {
				return false
			}
		}
		return true
	}
	for _, member := range want {
		m, ok := member.(map[string]any)
		if !ok {
			return false
		}
		name, _ := m["name"].(string)
		found, ok := byName[name]
		if !ok || !contains(m, found) {
			return false
		}
	}
	return true
}

// names indexes a list of maps by their unique `name`. It returns false for any other list.
func names(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, member := range list {
		m, ok := member.(map[string]any)
		if !ok {
			return nil, false
		}
		name, ok := m["name"].(string)
		if !ok {
			return nil, false
		}
		if _, twice := out[name]; twice {
			return nil, false
		}
		out[name] = m
	}
	return out, len(list) > 0
}

func extract(list client.ObjectList) ([]client.Object, error) {
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	out := make([]client.Object, 0, len(items))
	for _, item := range items {
		if obj, ok := item.(client.Object); ok {
			out = append(out, obj)
		}
	}
	return out, nil
}
