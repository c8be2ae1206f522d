// SPDX-License-Identifier: Apache-2.0

package script

import "go.starlark.net/starlark"

func Predeclared() starlark.StringDict { return predeclared() }

func HasCost(kind, method string) bool { return methods[kind][method] != nil }

// RoundTrip converts a value to Starlark and back.
func RoundTrip(v any, limit int) (any, error) {
	m := &meter{memory: 1 << 30}
	in, err := m.toStarlark(v, "value", 0)
	if err != nil {
		return nil, err
	}
	c := converter{left: limit}
	return c.fromStarlark(in, "value", 0)
}
