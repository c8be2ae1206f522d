// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

type inner struct {
	Name string `json:"name" jsonschema:"required,pattern=^[a-z]+$"`
	Size int    `json:"size,omitempty" jsonschema:"default=3"`
}

type sample struct {
	Topic  string                          `json:"topic" jsonschema:"required,minLength=1,description=Where to\\, and what"`
	Wait   config.Duration                 `json:"wait,omitempty" jsonschema:"default=1.5s"`
	Level  string                          `json:"level,omitempty" jsonschema:"enum=low,enum=high,default=low"`
	Items  []inner                         `json:"items,omitempty"`
	One    *inner                          `json:"one,omitempty"`
	When   schema.CELBool                  `json:"when,omitempty"`
	Fields map[schema.FieldPath]schema.CEL `json:"fields,omitempty"`
	Moves  map[schema.FieldPath]string     `json:"moves,omitempty"`
	Any    map[string]any                  `json:"any,omitempty"`
	Raw    json.RawMessage                 `json:"raw,omitempty"`
	Match  schema.Regexp                   `json:"match,omitempty"`
}

func TestDecode(t *testing.T) {
	for in, want := range map[string]sample{
		`{"topic":"a"}`: {Topic: "a", Wait: config.Duration(1500 * time.Millisecond), Level: "low"},
		`{"topic":"a","wait":"2m","level":"high","items":[{"name":"x"}],"one":{"name":"y","size":9}}`: {
			Topic: "a", Wait: config.Duration(2 * time.Minute), Level: "high", Items: []inner{{"x", 3}}, One: &inner{"y", 9}},
		`{"topic":"a","when":"this.a > 1","fields":{"a.b":"1"},"any":{"x":[1]},"raw":{"y":2},"match":"^a"}`: {
			Topic: "a", Wait: config.Duration(1500 * time.Millisecond), Level: "low", When: "this.a > 1", Match: "^a",
			Fields: map[schema.FieldPath]schema.CEL{"a.b": "1"}, Any: map[string]any{"x": []any{1.0}}, Raw: json.RawMessage(`{"y":2}`)},
	} {
		got, err := schema.Decode(&sample{}, json.RawMessage(in), "config")
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: got %+v, %v, want %+v", in, got, err, &want)
		}
	}
}

func TestDecodeNamesTheField(t *testing.T) {
	for in, want := range map[string]string{
		``:                                       "config.topic: is required",
		`{"topic":""}`:                           "config.topic: want at least 1 characters",
		`{"topic":"a","level":"mid"}`:            "config.level: want one of low, high",
		`{"topic":"a","wait":5}`:                 "config.wait: want string, got number",
		`{"topic":"a","wait":"5"}`:               "config.wait: want a number with a unit",
		`{"topic":"a","items":[{}]}`:             "config.items[0].name: is required",
		`{"topic":"a","items":[{"name":"A"}]}`:   "config.items[0].name: does not match pattern ^[a-z]+$",
		`{"topic":"a","items":[{"nam":"a"}]}`:    "config.items[0].nam: is not a known field",
		`{"topic":"a","x":1}`:                    "config.x: is not a known field",
		`{"topic":"a","when":"1"}`:               "config.when: want bool, got int",
		`{"topic":"a","fields":{"a.b":"this."}}`: `config.fields["a.b"]: 1:6: a name is missing`,
		`{"topic":"a","fields":{"a.":"1"}}`:      `config.fields["a."]: field path has an empty name`,
		`{"topic":"a","moves":{"a":1}}`:          "config.moves.a: want string, got number",
		`{"topic":"a","match":"("}`:              "config.match: error parsing regexp",
		`{"topic":`:                              "config: is not valid JSON",
		`[]`:                                     "config: want object, got array",
	} {
		_, err := schema.Decode(&sample{}, json.RawMessage(in), "config")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}

func TestSchemaIsInlined(t *testing.T) {
	document, err := schema.Of(&sample{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"$ref"`, `"$id"`, `"$schema"`, `"$defs"`} {
		if strings.Contains(string(document), key) {
			t.Errorf("the schema has %s: %s", key, document)
		}
	}
	if !strings.Contains(string(document), `"additionalProperties":false`) || !strings.Contains(string(document), "Where to, and what") {
		t.Errorf("got %s", document)
	}
}
