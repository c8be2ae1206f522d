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

// schemaFiles hold what each type's `with` may hold, one file per type. Their executors are elsewhere: the contract is these
// fields. What a value must be beyond that is for the executor.
//
//go:embed schemas/*.json
var schemaFiles embed.FS

// stepTypes are all types there are, by name.
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

// formats of strings in the schemas.
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

// StepSchema returns the JSON Schema of a type's `with`; false for a type that there is not.
func StepSchema(name string) (json.RawMessage, bool) {
	data, err := schemaFiles.ReadFile(path.Join("schemas", name+".json"))
	return data, err == nil
}

// withCheck compares the parts of `with` that are known in advance with a schema: its literals, and the types of its expressions.
type withCheck struct {
	problems *Problems
	open     map[string]bool // paths whose value is known only when the step runs
}

func (w *withCheck) check(of *schema.Schema, at string, with *template) {
	tree := w.known(of.Document(), at, with)
	for _, found := range of.CheckTree(tree, at) {
		if !w.open[found.Path] {
			w.problems.add(found.Path, "%s", found.Message)
		}
	}
}

// known returns the tree with something in place of each expression, whose type is compared with the schema there.
func (w *withCheck) known(document any, at string, t *template) any {
	switch {
	case t.broken: // has been told
		w.open[at] = true
	case t.fixed:
		return t.literal
	case t.whole != nil:
		w.open[at] = true
		if want := wanted(document); len(want) > 0 && !gives(t.whole.gives, want) {
			w.problems.add(at, "want %s, the expression gives %s", strings.Join(want, " or "), typeWord(t.whole.gives))
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
				delete(w.open, join(at, name)) // whatever it gives, the schema may have no such field
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

// below returns the part of a schema that a field or an item is held to; nil: nothing is known of it.
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

// wanted returns the JSON types that a schema allows; none: any.
func wanted(document any) []string {
	object, _ := document.(map[string]any)
	if one, ok := object["type"].(string); ok {
		return []string{one}
	}
	return nil
}

// gives reports whether an expression of a type may give one of the JSON types.
func gives(got *types.Type, want []string) bool {
	if got.Kind() == types.DynKind {
		return true
	}
	kind, known := jsonTypes[got.Kind()]
	return known && (slices.Contains(want, kind) || kind == "integer" && slices.Contains(want, "number"))
}

// jsonTypes maps types of CEL to types of JSON.
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
