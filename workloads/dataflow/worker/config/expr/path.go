// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"strings"
)

// ParsePath splits a field path at its dots: `a.b`, `items.0.id`; `\.` is a dot
// within a name and `\\` a backslash.
func ParsePath(text string) ([]string, error) {
	if text == "" {
		return nil, errors.New("field path is empty")
	}
	var parts []string
	var part strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			if i++; i == len(text) || (text[i] != '.' && text[i] != '\\') {
				return nil, errors.New(`field path: a backslash stands only before a dot or a backslash`)
			}
			part.WriteByte(text[i])
		case '.':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	parts = append(parts, part.String())
	for _, name := range parts {
		if name == "" {
			return nil, errors.New("field path has an empty name between its dots")
		}
	}
	return parts, nil
}
