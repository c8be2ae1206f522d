// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// maxRendered limits what a template writes, and maxWork what its functions produce on the way. The language has neither
// recursion nor loops over numbers, so that both together bound time and memory.
const (
	maxRendered = 1 << 20
	maxWork     = 8 << 20
	maxNested   = 3 // ranges
)

var errTooLong = fmt.Errorf("it makes more than %d bytes", maxRendered)

// content is the data of a template.
type content struct {
	Value, Path, Type, Version string
	Data                       map[string]string
}

// render returns the keys of a core Secret from a value. Errors name the key and never quote the value.
func render(s *vaultv1alpha1.Secret, value vault.Value, version int64) (map[string][]byte, error) {
	if s.Spec.Destination == nil || len(s.Spec.Destination.Template) == 0 {
		out := make(map[string][]byte, len(value))
		maps.Copy(out, value)
		return out, nil
	}
	seen := content{Path: s.StorePath(), Type: string(s.Spec.Type), Version: fmt.Sprint(version), Data: map[string]string{}}
	for field, data := range value {
		seen.Data[field] = string(data)
	}
	seen.Value = seen.Data[vault.MainField(string(s.Spec.Type))]
	out := map[string][]byte{}
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Spec.Destination.Template)) {
		data, err := execute(string(s.Spec.Destination.Template[key]), seen)
		if err != nil {
			return nil, fmt.Errorf("spec.destination.template[%s]: %s", key, conceal(err, value))
		}
		if size += len(data); size > maxRendered {
			return nil, fmt.Errorf("spec.destination.template: %w", errTooLong)
		}
		out[key] = data
	}
	return out, nil
}

// conceal removes the value's fields from an error's message.
func conceal(err error, value vault.Value) string {
	text := err.Error()
	for _, data := range value {
		if len(data) > 0 {
			text = strings.ReplaceAll(text, string(data), "***")
		}
	}
	return text
}

func execute(text string, seen content) ([]byte, error) {
	t, err := parseTemplate(text)
	if err != nil || t.Tree == nil {
		return nil, err
	}
	var out limited
	if err := t.Execute(&out, seen); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// parseTemplate refuses a template that cannot be executed, whatever the value is.
func parseTemplate(text string) (*template.Template, error) {
	work := &work{}
	t, err := template.New("template").Option("missingkey=error").Funcs(work.functions()).Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("define and block are not allowed")
	}
	if t.Tree == nil {
		return t, nil
	}
	return t, allowed(t.Root, 0)
}

// allowed refuses what could run for long: other templates, and loops over anything except for a field.
func allowed(node parse.Node, depth int) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := allowed(child, depth); err != nil {
				return err
			}
		}
	case *parse.TemplateNode:
		return errors.New("template is not allowed")
	case *parse.IfNode:
		return branches(&n.BranchNode, depth)
	case *parse.WithNode:
		return branches(&n.BranchNode, depth)
	case *parse.RangeNode:
		if depth+1 > maxNested {
			return fmt.Errorf("range is nested more than %d times", maxNested)
		}
		if !overField(n.Pipe) {
			return errors.New("range is allowed over .Data only")
		}
		return branches(&n.BranchNode, depth+1)
	}
	return nil
}

func branches(n *parse.BranchNode, depth int) error {
	if err := allowed(n.List, depth); err != nil {
		return err
	}
	return allowed(n.ElseList, depth)
}

func overField(pipe *parse.PipeNode) bool {
	if len(pipe.Cmds) != 1 || len(pipe.Cmds[0].Args) != 1 {
		return false
	}
	switch arg := pipe.Cmds[0].Args[0].(type) {
	case *parse.FieldNode:
		return len(arg.Ident) == 1 && arg.Ident[0] == "Data"
	case *parse.VariableNode:
		return len(arg.Ident) == 2 && arg.Ident[0] == "$" && arg.Ident[1] == "Data"
	}
	return false
}

// limited is a buffer with a maximum length.
type limited struct{ bytes.Buffer }

func (l *limited) Write(data []byte) (int, error) {
	if l.Len()+len(data) > maxRendered {
		return 0, errTooLong
	}
	return l.Buffer.Write(data)
}

// work counts the bytes that functions produce.
type work struct{ bytes int }

func (w *work) count(text string) (string, error) {
	if w.bytes += len(text); w.bytes > maxWork {
		return "", fmt.Errorf("its functions make more than %d bytes", maxWork)
	}
	return text, nil
}

// functions returns all functions of a template except for the comparisons, index, len and slice of text/template. None
// reads files, the environment or the network.
func (w *work) functions() template.FuncMap {
	text := func(f func(string) string) func(string) (string, error) {
		return func(s string) (string, error) { return w.count(f(s)) }
	}
	refused := func(...any) (string, error) { return "", errors.New("this function is not allowed") }
	return template.FuncMap{
		"b64enc":     text(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		"upper":      text(strings.ToUpper),
		"lower":      text(strings.ToLower),
		"trim":       text(strings.TrimSpace),
		"urlquery":   text(url.QueryEscape),
		"urlpath":    text(url.PathEscape),
		"trimPrefix": func(prefix, s string) (string, error) { return w.count(strings.TrimPrefix(s, prefix)) },
		"trimSuffix": func(suffix, s string) (string, error) { return w.count(strings.TrimSuffix(s, suffix)) },
		"replace":    w.replace,
		"b64dec": func(s string) (string, error) {
			data, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return "", errors.New("not base64")
			}
			return w.count(string(data))
		},
		"toJson": func(v any) (string, error) {
			data, err := json.Marshal(v)
			if err != nil {
				return "", errors.New("cannot be written as JSON")
			}
			return w.count(string(data))
		},
		"default": func(fallback, s string) (string, error) {
			if s == "" {
				s = fallback
			}
			return w.count(s)
		},
		// These built-in functions can double their results without limit.
		"print": refused, "println": refused, "printf": refused, "html": refused, "js": refused, "call": refused,
	}
}

// replace checks the length of the result before it is produced.
func (w *work) replace(old, by, s string) (string, error) {
	if old == "" {
		return "", errors.New("replace: the text to replace is empty")
	}
	if n := strings.Count(s, old); len(s)+n*len(by) > maxRendered {
		return "", errTooLong
	}
	return w.count(strings.ReplaceAll(s, old, by))
}
