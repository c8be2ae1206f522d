// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/itechsmart/operator/workloads/internal/schema"
)

const typeWorkflowStep = "workflow"

// schemaFiles are the JSON Schemas of each type's `with`, one file per type. They are the contract with the executors, which check
// values further.
//
//go:embed schemas/*.json
var schemaFiles embed.FS

// stepTypes returns the schemas of all types by name.
var stepTypes = sync.OnceValues(func() (map[string]*schema.Schema, error) {
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, fmt.Errorf("step types: %w", err)
	}
	out := map[string]*schema.Schema{}
	for _, file := range files {
		data, err := schemaFiles.ReadFile(path.Join("schemas", file.Name()))
		if err != nil {
			return nil, fmt.Errorf("step types: %w", err)
		}
		name := strings.TrimSuffix(file.Name(), ".json")
		if out[name], err = schema.Compile(data, formats); err != nil {
			return nil, fmt.Errorf("step type %s: %w", name, err)
		}
	}
	return out, nil
})

// formats are the formats of strings in the schemas.
var formats = map[string]func(string) error{
	"go-duration": func(text string) error {
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return errors.New("want a duration, such as 30s or 1h30m")
		}
		return nil
	},
}

// StepTypes returns the names of all types, in order.
func StepTypes() []string {
	all, err := stepTypes()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(all))
}

// StepSchema returns the JSON Schema of a type's `with`, or false for an unknown type.
func StepSchema(name string) (json.RawMessage, bool) {
	data, err := schemaFiles.ReadFile(path.Join("schemas", name+".json"))
	return data, err == nil
}

// withCheck checks the parts of `with` that are known at compile time against a schema: literals, and the types of expressions.
type withCheck struct {
	problems *Problems
	open     map[string]bool // paths whose value is only known at run time
}

func (w *withCheck) check(s *schema.Schema, at string, with *template) {
	tree := w.known(s.Document(), at, with)
	for _, found := range s.CheckTree(tree, at) {
		if !w.open[found.Path] {
			w.problems.add(found.Path, "%s", found.Message)
		}
	}
}

// known returns the tree with placeholders for expressions, whose types it checks against the schema.
func (w *withCheck) known(document any, at string, t *template) any {
	switch {
	case t.broken: // already reported
		w.open[at] = true
	case t.fixed:
		return t.literal
	case t.whole != nil:
		w.open[at] = true
		if want := wanted(document); len(want) > 0 && !canReturn(t.whole.result, want) {
			w.problems.add(at, "want %s, the expression returns %s", strings.Join(want, " or "), typeWord(t.whole.result))
		}
	case t.pieces != nil:
		w.open[at] = true
		if want := wanted(document); len(want) > 0 && !slices.Contains(want, "string") {
			w.problems.add(at, "want %s, got string", strings.Join(want, " or "))
		}
	case t.fields != nil:
		out := make(map[string]any, len(t.fields))
		for _, name := range slices.Sorted(maps.Keys(t.fields)) {
			field := below(document, "properties", name)
			out[name] = w.known(field, join(at, name), t.fields[name])
			if field == nil {
				delete(w.open, join(at, name)) // whatever its value, the schema may not have the field
			}
		}
		return out
	case t.items != nil:
		out := make([]any, len(t.items))
		for i, item := range t.items {
			out[i] = w.known(below(document, "items", ""), fmt.Sprintf("%s[%d]", at, i), item)
		}
		return out
	}
	return opening + closing
}

// below returns the schema of a field or of items, or nil if there is none.
func below(document any, keyword, name string) any {
	object, ok := document.(map[string]any)
	if !ok {
		return nil
	}
	if name == "" {
		return object[keyword]
	}
	properties, _ := object[keyword].(map[string]any)
	return properties[name]
}

// wanted returns the JSON types that a schema allows, or none for any type.
func wanted(document any) []string {
	object, _ := document.(map[string]any)
	if one, ok := object["type"].(string); ok {
		return []string{one}
	}
	return nil
}

// canReturn reports whether an expression of a type can return one of the JSON types.
func canReturn(got *types.Type, want []string) bool {
	if got.Kind() == types.DynKind {
		return true
	}
	kind, known := jsonTypes[got.Kind()]
	return known && (slices.Contains(want, kind) || kind == "integer" && slices.Contains(want, "number"))
}

// jsonTypes maps CEL types to JSON types.
var jsonTypes = map[types.Kind]string{
	types.BoolKind: "boolean", types.IntKind: "integer", types.UintKind: "integer", types.DoubleKind: "number", types.StringKind: "string",
	types.TimestampKind: "string", types.DurationKind: "string", types.ListKind: "array", types.MapKind: "object", types.StructKind: "object",
	types.NullTypeKind: "null",
}

func typeWord(got *types.Type) string {
	if kind, known := jsonTypes[got.Kind()]; known {
		return kind
	}
	return got.String()
}
