// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"strings"
)

// maxGlob limits a pattern, maxStars the wildcards in it: matching takes time in proportion to the pattern's length times
// the path's.
const (
	maxGlob  = 512
	maxStars = 16
)

// glob is a compiled pattern over paths of segments that "/" separates: "*" is any run of characters within a segment,
// "**" alone in a segment any number of segments, including none. "{{principal.id}}" and "{{principal.name}}" are the
// caller's, taken literally.
type glob struct {
	parts []part
	// segments is the compiled form of a pattern without variables.
	segments [][]part
}

type partKind uint8

const (
	literal partKind = iota
	separator
	star
	doubleStar
	variable
)

// part is a piece of a pattern; text is a literal or the name of a variable.
type part struct {
	kind partKind
	text string
}

// CheckPath returns what is wrong with the path of a rule.
func CheckPath(pattern string) error {
	_, err := compileGlob(pattern)
	return err
}

func compileGlob(pattern string) (*glob, error) {
	if pattern == "" {
		return nil, errors.New("is empty")
	}
	if len(pattern) > maxGlob {
		return nil, fmt.Errorf("is longer than %d bytes", maxGlob)
	}
	if strings.Count(pattern, "*") > maxStars {
		return nil, fmt.Errorf("has more than %d wildcards", maxStars)
	}
	g, templated := &glob{}, false
	for i, segment := range strings.Split(pattern, "/") {
		if segment == "" {
			return nil, errors.New("has an empty segment")
		}
		if i > 0 {
			g.parts = append(g.parts, part{kind: separator})
		}
		if segment == "**" {
			g.parts = append(g.parts, part{kind: doubleStar})
			continue
		}
		parts, variables, err := compileSegment(segment)
		if err != nil {
			return nil, err
		}
		templated = templated || variables
		g.parts = append(g.parts, parts...)
	}
	if !templated {
		g.segments = split(g.parts)
	}
	return g, nil
}

func compileSegment(text string) (parts []part, templated bool, err error) {
	if strings.Contains(text, "**") {
		return nil, false, errors.New(`has "**" next to other characters in a segment`)
	}
	for text != "" {
		i := strings.IndexAny(text, "*{}")
		if i < 0 {
			return append(parts, part{literal, text}), templated, nil
		}
		if i > 0 {
			parts = append(parts, part{literal, text[:i]})
			text = text[i:]
		}
		if text[0] == '*' {
			parts, text = append(parts, part{kind: star}), text[1:]
			continue
		}
		inner, rest, found := strings.Cut(text, "}}")
		name, opened := strings.CutPrefix(inner, "{{")
		name = strings.TrimSpace(name)
		if !found || !opened || (name != "principal.id" && name != "principal.name") {
			return nil, false, errors.New("has braces that are neither {{principal.id}} nor {{principal.name}}")
		}
		parts, text, templated = append(parts, part{variable, name}), rest, true
	}
	return parts, templated, nil
}

// split groups parts without variables by segment.
func split(parts []part) [][]part {
	segments := [][]part{nil}
	for _, p := range parts {
		if p.kind == separator {
			segments = append(segments, nil)
			continue
		}
		last := len(segments) - 1
		segments[last] = append(segments[last], p)
	}
	return segments
}

// match reports whether a path, split at "/", matches. A principal without the variable's value matches nothing.
func (g *glob) match(path []string, principal *Principal) bool {
	segments := g.segments
	if segments == nil {
		parts, ok := g.expand(principal)
		if !ok {
			return false
		}
		segments = split(parts)
	}
	return matchSegments(segments, path)
}

// expand inserts the principal's values, whose wildcards are literal. A "/" in them separates segments.
func (g *glob) expand(principal *Principal) ([]part, bool) {
	out := make([]part, 0, len(g.parts)+2)
	for _, p := range g.parts {
		if p.kind != variable {
			out = append(out, p)
			continue
		}
		value := ""
		if principal != nil {
			value = principal.ID
			if p.text == "principal.name" {
				value = principal.Name
			}
		}
		if value == "" {
			return nil, false
		}
		for i, text := range strings.Split(value, "/") {
			if i > 0 {
				out = append(out, part{kind: separator})
			}
			out = append(out, part{literal, text})
		}
	}
	return out, true
}

// matchSegments lets the last "**" consume one more segment whenever what follows it does not match.
func matchSegments(pattern [][]part, path []string) bool {
	p, i, again, resume := 0, 0, -1, 0
	for i < len(path) {
		switch {
		case p < len(pattern) && isDoubleStar(pattern[p]):
			p++
			again, resume = p, i
		case p < len(pattern) && matchSegment(pattern[p], path[i]):
			p++
			i++
		case again >= 0:
			resume++
			p, i = again, resume
		default:
			return false
		}
	}
	for p < len(pattern) && isDoubleStar(pattern[p]) {
		p++
	}
	return p == len(pattern)
}

func isDoubleStar(segment []part) bool { return len(segment) == 1 && segment[0].kind == doubleStar }

// matchSegment does the same with "*" and characters. Nothing matches an empty segment.
func matchSegment(parts []part, text string) bool {
	if text == "" {
		return false
	}
	p, i, again, resume := 0, 0, -1, 0
	for {
		switch {
		case p == len(parts) && i == len(text):
			return true
		case p < len(parts) && parts[p].kind == star:
			p++
			again, resume = p, i
		case p < len(parts) && strings.HasPrefix(text[i:], parts[p].text):
			i += len(parts[p].text)
			p++
		case again < 0 || resume == len(text):
			return false
		default:
			resume++
			p, i = again, resume
		}
	}
}
