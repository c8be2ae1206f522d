// SPDX-License-Identifier: Apache-2.0

package apply

import "testing"

func TestContains(t *testing.T) {
	type object = map[string]any
	type list = []any
	for name, test := range map[string]struct {
		want, live any
		equal      bool
	}{
		"same":                          {object{"a": "1"}, object{"a": "1"}, true},
		"defaulted field":               {object{"a": "1"}, object{"a": "1", "b": "2"}, true},
		"other value":                   {object{"a": "1"}, object{"a": "2"}, false},
		"missing field":                 {object{"a": "1"}, object{}, false},
		"numbers of two kinds":          {object{"a": int64(1)}, object{"a": float64(1)}, true},
		"injected sidecar":              {list{object{"name": "a"}}, list{object{"name": "a"}, object{"name": "b"}}, true},
		"named member changed":          {list{object{"name": "a", "x": "1"}}, list{object{"name": "a", "x": "2"}}, false},
		"named member missing":          {list{object{"name": "a"}}, list{object{"name": "b"}}, false},
		"plain list longer":             {list{"a"}, list{"a", "b"}, false},
		"plain list reordered":          {list{"a", "b"}, list{"b", "a"}, false},
		"empty and absent are the same": {object{"a": object{}, "b": list{}}, object{}, true},
		"names that repeat are no key":  {list{object{"name": "a"}}, list{object{"name": "a"}, object{"name": "a"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := contains(test.want, test.live); got != test.equal {
				t.Errorf("contains(%v, %v) = %t", test.want, test.live, got)
			}
		})
	}
}

func TestCleanDropsWhatTheServerOwns(t *testing.T) {
	content := map[string]any{
		"status":   map[string]any{"x": 1},
		"metadata": map[string]any{"name": "n", "uid": "u", "creationTimestamp": nil},
		"spec":     map[string]any{"a": nil, "b": []any{map[string]any{"c": nil, "d": "e"}}},
	}
	clean(content)
	want := map[string]any{
		"metadata": map[string]any{"name": "n"},
		"spec":     map[string]any{"b": []any{map[string]any{"d": "e"}}},
	}
	if !contains(want, content) || !contains(content, want) {
		t.Errorf("clean gave %v", content)
	}
}
