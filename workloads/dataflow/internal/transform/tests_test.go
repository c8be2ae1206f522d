// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

func raws(values ...string) []json.RawMessage {
	var out []json.RawMessage
	for _, value := range values {
		out = append(out, json.RawMessage(value))
	}
	return out
}

func TestRunTests(t *testing.T) {
	steps := []config.Transform{step("filter", "this.n > 0", ""), step("set", "", `{"expressions":{"double":"this.n * 2"}}`)}
	for name, c := range map[string]struct {
		test config.Test
		want []string
	}{
		"pass":     {config.Test{Input: raws(`{"n":1}`, `{"n":0}`), Expect: raws(` {"double": 2.0, "n": 1}`)}, nil},
		"errors":   {config.Test{Input: raws(`{"n":"x"}`, `{"n":1}`), Expect: raws(`{"n":1,"double":2}`), ExpectErrors: 1}, nil},
		"value":    {config.Test{Input: raws(`{"n":1}`), Expect: raws(`{"n":1,"double":3}`)}, []string{`test "t": record 0: double: expected 3, got 2; the whole record: {"n":1,"double":2}`}},
		"missing":  {config.Test{Input: raws(`{"n":1}`), Expect: raws(`{"n":1,"double":2,"x":{"y":1}}`)}, []string{`record 0: x: expected {"y":1}, got no such field`}},
		"extra":    {config.Test{Input: raws(`{"n":1,"x":[1]}`), Expect: raws(`{"n":1,"double":2}`)}, []string{`record 0: x: expected no such field, got [1]`}},
		"nested":   {config.Test{Input: raws(`{"n":1,"x":[1,{"a":true}]}`), Expect: raws(`{"n":1,"double":2,"x":[1,{"a":"true"}]}`)}, []string{`record 0: x[1].a: expected "true", got true`}},
		"fewer":    {config.Test{Input: raws(`{"n":0}`), Expect: raws(`{"n":1}`)}, []string{`record 0: expected {"n":1}, got no record`}},
		"more":     {config.Test{Input: raws(`{"n":1}`)}, []string{`record 0: expected no record, got {"n":1,"double":2}`}},
		"failures": {config.Test{Input: raws(`{"n":"x"}`)}, []string{`want 0 failed records, got 1; input[0] in transform filter: expression: 1:8: a value has the wrong type`}},
		"not JSON": {config.Test{Input: raws(`{"n":1}`), Expect: raws(`{`)}, []string{`record 0: expect is not valid JSON`}},
	} {
		c.test.Name = "t"
		got := transform.RunTests(&config.Pipeline{Transforms: steps, Tests: []config.Test{c.test}})
		if len(got) != len(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i].Error(), c.want[i]) {
				t.Errorf("%s: got %v, want %v", name, got[i], c.want[i])
			}
		}
	}
	broken := &config.Pipeline{Transforms: []config.Transform{step("nope", "", "")}, Tests: []config.Test{{Name: "t", Input: raws(`1`)}}}
	if got := transform.RunTests(broken); len(got) != 1 || !strings.Contains(got[0].Error(), `test "t": transforms[0].type`) {
		t.Errorf("got %v", got)
	}
}
