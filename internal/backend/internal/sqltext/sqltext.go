// SPDX-License-Identifier: Apache-2.0

// Package sqltext checks pieces of SQL from users before they become part of a statement: identifiers, types
// and expressions, for which data definition has no parameters.
package sqltext

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	word       = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)(\s*\()?`)
)

// maxIdentifier is ClickHouse's practical limit; PostgreSQL's is 63.
const maxIdentifier = 127

// Identifier refuses anything outside [A-Za-z_][A-Za-z0-9_]* or longer than limit bytes (0: 127); what names it
// in the error. ErrInvalid.
func Identifier(what, name string, limit int) error {
	if limit == 0 {
		limit = maxIdentifier
	}
	switch {
	case name == "":
		return fmt.Errorf("%s is empty: %w", what, backend.ErrInvalid)
	case len(name) > limit:
		return fmt.Errorf("%s %q has %d characters, at most %d are allowed: %w", what, name, len(name), limit, backend.ErrInvalid)
	case !identifier.MatchString(name):
		return fmt.Errorf("%s %q must be a letter or '_' followed by letters, digits and '_': %w", what, name, backend.ErrInvalid)
	}
	return nil
}

// Expression refuses text that could escape its place in a statement or start another one: unbalanced brackets
// or quotes, comments, ';', backslashes and '$', a comma outside brackets (unless list), and the forbidden
// words outside quotes, ignoring case. A forbidden word in upper case is forbidden anywhere, "F(" only as a
// function, "F*(" as the start of a function's name. ErrInvalid.
func Expression(what, text string, list bool, forbidden ...string) error {
	bare, err := strip(text, list)
	if err != nil {
		return fmt.Errorf("%s %q: %w: %w", what, text, backend.ErrInvalid, err)
	}
	for _, match := range word.FindAllStringSubmatch(bare, -1) {
		name := strings.ToUpper(match[1])
		if slices.ContainsFunc(forbidden, func(f string) bool { return forbids(f, name, match[2] != "") }) {
			return fmt.Errorf("%s %q: %s is not allowed: %w", what, text, match[1], backend.ErrInvalid)
		}
	}
	return nil
}

func forbids(forbidden, name string, called bool) bool {
	function, isFunction := strings.CutSuffix(forbidden, "(")
	if !isFunction {
		return name == forbidden
	}
	if prefix, isPrefix := strings.CutSuffix(function, "*"); isPrefix {
		return called && strings.HasPrefix(name, prefix)
	}
	return called && name == function
}

var closing = map[rune]rune{'(': ')', '[': ']', '{': '}'}

// strip returns the text without its quoted parts.
func strip(text string, list bool) (string, error) {
	var bare strings.Builder
	var open []rune
	var quote rune
	previous := rune(0)
	named := false // a quoted name has just ended
	for _, c := range text {
		switch {
		case c < ' ' && c != '\t' && c != '\n', c == '\\', c == '$':
			return "", fmt.Errorf("character %q is not allowed", c)
		case quote != 0:
			if c == quote {
				quote, named = 0, c != '\''
			}
			previous = 0
			continue
		case c == '(' && named:
			return "", fmt.Errorf("a quoted function name is not allowed")
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case closing[c] != 0:
			open = append(open, closing[c])
		case c == ')' || c == ']' || c == '}':
			if len(open) == 0 || open[len(open)-1] != c {
				return "", fmt.Errorf("unbalanced %q", c)
			}
			open = open[:len(open)-1]
		case c == ';', c == '#', previous == '-' && c == '-', previous == '/' && c == '*':
			return "", fmt.Errorf("%q is not allowed", c)
		case c == ',' && len(open) == 0 && !list:
			return "", fmt.Errorf("',' is not allowed outside brackets")
		}
		named = named && (c == ' ' || c == '\t' || c == '\n')
		bare.WriteRune(c)
		previous = c
	}
	if quote != 0 {
		return "", fmt.Errorf("unbalanced %q", quote)
	}
	if len(open) > 0 {
		return "", fmt.Errorf("%q is missing", open[len(open)-1])
	}
	return bare.String(), nil
}

var spaces = regexp.MustCompile(`\s+`)

// Normalize makes spacing outside quotes uniform: one space between two words, none elsewhere. Texts that
// differ only in spacing become equal.
func Normalize(text string) string {
	var out strings.Builder
	for i, part := range splitQuoted(text) {
		if i%2 == 1 {
			out.WriteString(part)
			continue
		}
		part = spaces.ReplaceAllString(part, " ")
		for j, c := range part {
			if c == ' ' && !(j > 0 && isWord(part[j-1]) && j+1 < len(part) && isWord(part[j+1])) {
				// A space between a word and a quoted part does not matter for a comparison.
				continue
			}
			out.WriteRune(c)
		}
	}
	return out.String()
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// splitQuoted splits the text into parts: the even ones bare, the odd ones quoted.
func splitQuoted(text string) []string {
	var parts []string
	start := 0
	var quote byte
	for i := range len(text) {
		c := text[i]
		switch {
		case quote == 0 && (c == '\'' || c == '"' || c == '`'):
			parts = append(parts, text[start:i])
			start, quote = i, c
		case quote != 0 && c == quote:
			parts = append(parts, text[start:i+1])
			start, quote = i+1, 0
		}
	}
	return append(parts, text[start:])
}
