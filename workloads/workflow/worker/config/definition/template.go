// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/itechsmart/operator/workloads/internal/schema"
)

const (
	opening = "${{"
	closing = "}}"
)

// template is a JSON value whose strings may contain expressions.
type template struct {
	literal any // without expressions
	whole   *expression
	pieces  []piece // of a string
	fields  map[string]*template
	items   []*template
	fixed   bool
	broken  bool // it contains an invalid part
}

// piece is a part of a string: text or an expression.
type piece struct {
	text string
	expr *expression
}

// split splits a string into literal parts and expressions in ${{ }}; $${{ is a literal ${{.
func split(text string) (out []struct {
	text string
	expr bool
}, err error) {
	type part = struct {
		text string
		expr bool
	}
	literal := strings.Builder{}
	for text != "" {
		at := strings.Index(text, opening)
		if at < 0 {
			literal.WriteString(text)
			break
		}
		if at > 0 && text[at-1] == '$' {
			literal.WriteString(text[:at-1] + opening)
			text = text[at+len(opening):]
			continue
		}
		literal.WriteString(text[:at])
		end := endOf(text[at+len(opening):])
		if end < 0 {
			return nil, fmt.Errorf("%s is not closed by %s", opening, closing)
		}
		if literal.Len() > 0 {
			out = append(out, part{text: literal.String()})
			literal.Reset()
		}
		out = append(out, part{text: text[at+len(opening) : at+len(opening)+end], expr: true})
		text = text[at+len(opening)+end+len(closing):]
	}
	if literal.Len() > 0 {
		out = append(out, part{text: literal.String()})
	}
	return out, nil
}

// endOf returns the index of the }} that closes an expression, outside its strings and braces.
func endOf(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '\'', '`':
			end := quoted(text[i:])
			if end < 0 {
				return -1
			}
			i += end
		case '{':
			depth++
		case '}':
			if depth == 0 {
				if strings.HasPrefix(text[i:], closing) {
					return i
				}
				return -1
			}
			depth--
		}
	}
	return -1
}

// quoted returns the index of the quote that closes a string, or -1.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i
		}
	}
	return -1
}

// compiler compiles the templates and expressions of one workflow.
type compiler struct {
	env      *cel.Env
	problems *Problems
	kinds    map[string]*schema.Schema // of steps
}

// template compiles a JSON value. allowed checks each expression.
func (c *compiler) template(path string, data json.RawMessage, allowed func(*expression) error) *template {
	tree, err := Decode(data)
	if err != nil {
		c.problems.add(path, "%s", err)
		return &template{fixed: true, broken: true}
	}
	return c.tree(path, tree, allowed)
}

func (c *compiler) tree(path string, tree any, allowed func(*expression) error) *template {
	switch v := tree.(type) {
	case string:
		return c.text(path, v, allowed)
	case map[string]any:
		out := &template{fields: map[string]*template{}, fixed: true}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out.fields[name] = c.tree(join(path, name), v[name], allowed)
			out.fixed = out.fixed && out.fields[name].fixed && !out.fields[name].broken
			v[name] = out.fields[name].literal // $${{ has become ${{
		}
		out.literal = v
		return out
	case []any:
		out := &template{items: make([]*template, len(v)), fixed: true}
		for i, item := range v {
			out.items[i] = c.tree(path+"["+strconv.Itoa(i)+"]", item, allowed)
			out.fixed = out.fixed && out.items[i].fixed && !out.items[i].broken
			v[i] = out.items[i].literal
		}
		out.literal = v
		return out
	}
	return &template{literal: tree, fixed: true}
}

func (c *compiler) text(path, text string, allowed func(*expression) error) *template {
	parts, err := split(text)
	if err != nil {
		c.problems.add(path, "%s", err)
		return &template{fixed: true, broken: true}
	}
	out := &template{}
	for _, part := range parts {
		if !part.expr {
			out.pieces = append(out.pieces, piece{text: part.text})
			continue
		}
		e := c.expression(path, part.text, allowed)
		if e == nil {
			out.broken = true
			continue
		}
		out.pieces = append(out.pieces, piece{expr: e})
	}
	switch {
	case out.broken:
		return &template{fixed: true, broken: true}
	case len(out.pieces) == 0:
		return &template{literal: "", fixed: true}
	case len(out.pieces) == 1 && out.pieces[0].expr == nil:
		return &template{literal: out.pieces[0].text, fixed: true}
	case len(out.pieces) == 1:
		out.whole = out.pieces[0].expr
	}
	return out
}

// expression compiles an expression. It returns nil, and adds a problem, if it is invalid.
func (c *compiler) expression(path, source string, allowed func(*expression) error) *expression {
	e, err := parseExpression(c.env, source)
	if err == nil {
		err = allowed(e)
	}
	if err != nil {
		c.problems.add(path, "%s", err)
		return nil
	}
	return e
}

// join appends a field's name or an index to a path.
func join(path, name string) string { return schema.JoinPath(path, name) }

// render evaluates a template. Literal parts are shared and must not be modified.
func (t *template) render(scope *Scope) (any, error) {
	switch {
	case t.fixed:
		return t.literal, nil
	case t.whole != nil:
		return t.whole.eval(scope)
	case t.fields != nil:
		return renderFields(t.fields, scope)
	case t.items != nil:
		out := make([]any, len(t.items))
		for i, item := range t.items {
			value, err := item.render(scope)
			if err != nil {
				return nil, &FieldError{strconv.Itoa(i), err}
			}
			out[i] = value
		}
		return out, nil
	}
	text := strings.Builder{}
	for _, p := range t.pieces {
		if p.expr == nil {
			text.WriteString(p.text)
			continue
		}
		value, err := p.expr.eval(scope)
		if err != nil {
			return nil, err
		}
		written, err := asText(value)
		if err != nil {
			return nil, err
		}
		text.WriteString(written)
	}
	return text.String(), nil
}

// renderFields evaluates templates by name. Of several errors it returns the first by name, so that the error is deterministic.
func renderFields(templates map[string]*template, scope *Scope) (map[string]any, error) {
	out := make(map[string]any, len(templates))
	var failed *FieldError
	for name, t := range templates {
		value, err := t.render(scope)
		if err != nil && (failed == nil || name < failed.Field) {
			failed = &FieldError{name, err}
		}
		out[name] = value
	}
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

// asText returns a value for interpolation: strings unchanged, others as JSON.
func asText(value any) (string, error) {
	if text, ok := value.(string); ok {
		return text, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return "", errors.New("the value is not JSON")
	}
	return string(data), nil
}

// FieldError is an error within a field.
type FieldError struct {
	Field string
	Err   error
}

// Error returns the error with its complete path.
func (e *FieldError) Error() string {
	path := e.Field
	inner := e.Err
	for {
		next, ok := inner.(*FieldError) //nolint:errorlint // only the direct chain of fields
		if !ok {
			return path + ": " + inner.Error()
		}
		path, inner = join(path, next.Field), next.Err
	}
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }
