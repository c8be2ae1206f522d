// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

var update = flag.Bool("update", false, "write the golden file instead of comparing with it")

// TestSample compiles a workflow with every step type, evaluates all of it, and compares the result with the golden file.
func TestSample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "sample.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, string(text))
	in := scope()
	if in.Inputs, err = p.Inputs(map[string]any{"customer": "ACME"}); err != nil {
		t.Fatal(err)
	}
	in.Steps, in.InItem, in.Item = map[string]definition.StepResult{}, true, "eu"
	used := map[string]bool{}
	steps := make([]map[string]any, 0, p.Len())
	for i := range p.Len() {
		s := p.Step(i)
		used[s.Type()] = true
		in.Steps[s.Name()] = definition.StepResult{Status: "Succeeded", Output: map[string]any{"note": s.Name()}, Attempts: 1}
		if s.Name() == "score" {
			in.Steps["score"] = definition.StepResult{Status: "Succeeded", Output: int64(12)}
		}
		config, err := s.Config(in)
		if err != nil {
			t.Fatal(s.Name(), err)
		}
		when, err := s.When(in)
		if err != nil {
			t.Fatal(s.Name(), err)
		}
		steps = append(steps, map[string]any{
			"name": s.Name(), "type": s.Type(), "role": s.Role(), "needs": s.Needs(), "dependents": s.Dependents(), "config": config, "when": when,
			"timeout": s.Timeout().String(), "onError": s.OnError(), "retry": s.Retry(),
		})
	}
	for _, kind := range definition.StepTypes() {
		if !used[kind] {
			t.Errorf("the sample has no step of type %s", kind)
		}
	}
	next, _ := p.Next("night", time.Date(2026, 3, 27, 12, 0, 0, 0, time.UTC))
	outputs, err := p.Outputs(in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, map[string]any{"hash": p.Hash(), "steps": steps, "next": next, "outputs": outputs, "inputs": in.Inputs})
}

func golden(t *testing.T, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", "sample.golden.json")
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; got\n%s", file, got)
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestDocumentation compiles every example of the documentation of the language.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "..", "docs", "workflow-language.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(page, -1)
	if len(blocks) < 4 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		compile(t, string(block[1]))
	}
	for _, kind := range definition.StepTypes() {
		if !bytes.Contains(page, []byte("| `"+kind+"` |")) {
			t.Errorf("the page does not document step type %s", kind)
		}
	}
}

// TestSchemasDescribeEveryField: every field of a schema has a description, for pages and forms generated from it.
func TestSchemasDescribeEveryField(t *testing.T) {
	for _, kind := range definition.StepTypes() {
		data, ok := definition.StepSchema(kind)
		var about struct {
			Description string
			Properties  map[string]struct{ Description string }
		}
		if err := json.Unmarshal(data, &about); err != nil || !ok || about.Description == "" {
			t.Errorf("%s: %v", kind, err)
		}
		for name, field := range about.Properties {
			if field.Description == "" {
				t.Errorf("%s.%s has no description", kind, name)
			}
		}
	}
	if _, ok := definition.StepSchema("../workflow"); ok {
		t.Error("an unknown type has a schema")
	}
}
