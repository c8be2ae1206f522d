// SPDX-License-Identifier: Apache-2.0

package refs

import (
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// After a gap in the watch, the new list yields what was added, changed and deleted in the scope, and nothing of other scopes.
func TestReplaceTellsTheDifference(t *testing.T) {
	names, err := NewNames(&rest.Config{}, nil, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	list := func(namespace string, versions map[string]string) []any {
		var out []any
		for name, version := range versions {
			out = append(out, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u", ResourceVersion: version}})
		}
		return out
	}
	woken := map[string]int{}
	names.heard = append(names.heard, func(key client.ObjectKey) { woken[key.String()]++ })
	replace := func(scope int, versions map[string]string) {
		t.Helper()
		if err := names.scopes[scope].Replace(list(names.scopes[scope].namespace, versions), ""); err != nil {
			t.Fatal(err)
		}
	}
	replace(0, map[string]string{"same": "1", "changed": "1", "gone": "1"})
	select {
	case <-names.listed:
		t.Error("the names count as known before every namespace was listed")
	default:
	}
	replace(1, map[string]string{"same": "1"})
	<-names.listed
	if len(woken) != 0 {
		t.Errorf("the first lists woke %v", woken)
	}
	replace(0, map[string]string{"same": "1", "changed": "2", "come": "1"})
	if want := map[string]int{"a/changed": 1, "a/gone": 1, "a/come": 1}; !maps.Equal(woken, want) {
		t.Errorf("woke %v, want %v", woken, want)
	}
	for key, want := range map[client.ObjectKey]string{
		{Namespace: "a", Name: "same"}: "u/1", {Namespace: "a", Name: "changed"}: "u/2", {Namespace: "a", Name: "gone"}: "",
		{Namespace: "a", Name: "come"}: "u/1", {Namespace: "b", Name: "same"}: "u/1",
	} {
		if version, watched := names.Version(key); version != want || !watched {
			t.Errorf("%s is %q, watched %v, want %q", key, version, watched, want)
		}
	}
	replace(0, nil)
	if _, left := names.known["a"]; left || !slices.Equal(slices.Collect(maps.Keys(names.known)), []string{"b"}) {
		t.Errorf("an empty namespace is still known: %v", names.known)
	}
}
