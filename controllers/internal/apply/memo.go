// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// childKey names a child in the memo.
type childKey struct {
	kind, namespace, name string
}

func keyOf(obj client.Object, gvk schema.GroupVersionKind) childKey {
	return childKey{kind: gvk.String(), namespace: obj.GetNamespace(), name: obj.GetName()}
}

// digest identifies a desired state together with the version of the live object that it is compared with, so that a pass
// that changes nothing compares two short values instead of two trees.
func digest(owner, desired, live client.Object, kept bool) (string, error) {
	data, err := json.Marshal(desired)
	if err != nil {
		return "", fmt.Errorf("render %s: %w", desired.GetName(), err)
	}
	sum := sha256.Sum256(fmt.Appendf(data, "%s %t %s %s", owner.GetUID(), kept, live.GetUID(), live.GetResourceVersion()))
	return string(sum[:]), nil
}
