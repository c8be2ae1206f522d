// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// FuzzInterpolation: any string is rejected or rendered, and a string without ${{ is unchanged.
func FuzzInterpolation(f *testing.F) {
	for _, seed := range []string{"", "a", "${{", "${{ 1 }}", "a${{ '}}' }}b", "$${{ x", "${{ {'a': {}} }}", "${{ \"\\\"}}\" }}", "}}${{`}}`", "$$${{1}}", "${{}}", "${{ r'\\' }}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data, err := json.Marshal(map[string]string{"value": text})
		if err != nil {
			return
		}
		var back map[string]string
		if json.Unmarshal(data, &back) != nil || back["value"] != text {
			return // not a valid JSON string
		}
		p, err := definition.Compile(&definition.Workflow{Steps: []definition.StepSpec{{Name: "a", Type: "transform", With: data}}})
		if err != nil {
			if !strings.Contains(text, "${{") {
				t.Fatalf("%q was rejected: %v", text, err)
			}
			return
		}
		config, err := p.Step(0).Config(&definition.Scope{})
		if err == nil && !strings.Contains(text, "${{") && config["value"] != text {
			t.Fatalf("%q became %q", text, config["value"])
		}
	})
}

// FuzzCompile: Compile returns a program or problems for any JSON.
func FuzzCompile(f *testing.F) {
	f.Add(`{}`)
	f.Add(`{"steps":[{"name":"a","type":"wait","with":null,"forEach":{"items":[]},"retry":{"attempts":0}}]}`)
	f.Add(`{"steps":[{"name":"a","type":"transform","needs":["b"]},{"name":"b","needs":["a","a"]},{"name":"a"}],"always":[{"name":""}]}`)
	f.Add(`{"steps":[{"name":"a","type":"http","with":{"url":["${{"],"headers":{"":"${{ 1 }}"}},"outputs":{"x":"${{ result.map(r, steps) }}"}}],"triggers":[{"type":"Event","event":{}},{"type":"Webhook"}]}`)
	f.Add(`{"inputs":[{"name":"a","type":"x","default":1e999}],"steps":[{"name":"a","type":"sql","with":[1],"when":"steps.a"}],"concurrency":{"key":"steps"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		w := &definition.Workflow{}
		if json.Unmarshal([]byte(text), w) != nil {
			return
		}
		p, err := definition.Compile(w)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		for i := range p.Len() {
			_, _ = p.Step(i).Config(&definition.Scope{}) // must not panic
			_, _ = p.Step(i).When(&definition.Scope{})
		}
	})
}
