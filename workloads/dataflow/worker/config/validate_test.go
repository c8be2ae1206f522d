// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// catalogue stands for the real one, which changes as connectors come.
var catalogue = &config.Catalogue{
	Connectors: []config.ConnectorInfo{
		{Type: "queue", Kind: "source", Binding: "kafka", Codec: "json", Schema: json.RawMessage(`{"type":"object","additionalProperties":false,
			"required":["topic"],"properties":{"topic":{"type":"string","minLength":1},"partitions":{"type":"integer","minimum":1}}}`)},
		{Type: "queue", Kind: "sink", Binding: "kafka", Codec: "json", Schema: json.RawMessage(`{"type":"object","required":["topic"],"properties":{"topic":{"type":"string"}}}`)},
		{Type: "drop", Kind: "sink", Schema: json.RawMessage(`{"type":"object","additionalProperties":false}`)},
		{Type: "http", Kind: "sink", Binding: "http", BindingOptional: true, Codec: "json", Schema: json.RawMessage(`{"type":"object"}`)},
	},
	Transforms: []config.TransformInfo{
		{Type: "filter", Schema: json.RawMessage(`{"type":"object","additionalProperties":false}`)},
		{Type: "map", Schema: json.RawMessage(`{"type":"object","properties":{"expression":{"type":"string","format":"cel"},"fields":{"type":"object","additionalProperties":{"type":"string","format":"cel"}}}}`)},
		{Type: "route", Schema: json.RawMessage(`{"type":"object","properties":{"routes":{"type":"array","items":{"type":"object","properties":{"when":{"type":"string","format":"cel-bool"}}}}}}`)},
	},
	Codecs: []config.CodecInfo{{Format: "json", Schema: json.RawMessage(`{"type":"object","additionalProperties":false}`)}},
}

func valid() *config.Pipeline {
	return &config.Pipeline{
		Name: "p", Delivery: config.AtLeastOnce,
		Sources:     []config.Source{{Name: "in", Type: "queue", Connection: "k", Config: json.RawMessage(`{"topic":"orders"}`)}},
		Transforms:  []config.Transform{{Name: "f", Type: "filter", When: "this.a > 1"}},
		Sinks:       []config.Sink{{Name: "out", Type: "drop"}},
		Connections: map[string]map[string]string{"k": {"type": "kafka"}, "h": {}},
		Tests:       []config.Test{{Name: "t", Input: []json.RawMessage{json.RawMessage(`{"a":2}`)}}},
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Pipeline)
		want   string // "path: message"; "": valid
	}{
		"valid":              {func(*config.Pipeline) {}, ""},
		"no name":            {func(p *config.Pipeline) { p.Name = "" }, "name: is required"},
		"delivery":           {func(p *config.Pipeline) { p.Delivery = "Once" }, `delivery: "Once" is not one of AtLeastOnce, AtMostOnce`},
		"batch":              {func(p *config.Pipeline) { p.Batching.Count = -1 }, "batching.count: want 0 to 1000000, got -1"},
		"no source":          {func(p *config.Pipeline) { p.Sources = nil }, "sources: want at least one"},
		"no sink":            {func(p *config.Pipeline) { p.Sinks = nil }, "sinks: want at least one"},
		"unnamed sink":       {func(p *config.Pipeline) { p.Sinks[0].Name = "" }, "sinks[0].name: is required"},
		"same names":         {func(p *config.Pipeline) { p.Sinks = append(p.Sinks, p.Sinks[0]) }, `sinks[1].name: "out" is the name of sinks[0] already`},
		"unknown source":     {func(p *config.Pipeline) { p.Sources[0].Type = "quue" }, `sources[0].type: there is no source "quue"; did you mean "queue"?`},
		"sink as source":     {func(p *config.Pipeline) { p.Sources[0].Type = "drop" }, `sources[0].type: there is no source "drop"`},
		"unknown transform":  {func(p *config.Pipeline) { p.Transforms[0].Type = "filtre" }, `transforms[0].type: there is no transform "filtre"; did you mean "filter"?`},
		"no type":            {func(p *config.Pipeline) { p.Transforms[0].Type = "" }, "transforms[0].type: is required"},
		"missing field":      {func(p *config.Pipeline) { p.Sources[0].Config = nil }, "sources[0].config.topic: is required"},
		"unknown field":      {func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`{"topic":"a","topics":1}`) }, "sources[0].config.topics: is not a known field"},
		"wrong type":         {func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`{"topic":"a","partitions":"3"}`) }, "sources[0].config.partitions: want integer, got string"},
		"out of range":       {func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`{"topic":"a","partitions":0}`) }, "sources[0].config.partitions: want at least 1"},
		"config not JSON":    {func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`{`) }, "sources[0].config: is not valid JSON"},
		"config no object":   {func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`[]`) }, "sources[0].config: want object, got array"},
		"no connection":      {func(p *config.Pipeline) { p.Sources[0].Connection = "" }, `sources[0].connection: the source "queue" needs a connection of type kafka`},
		"unknown connection": {func(p *config.Pipeline) { p.Sources[0].Connection = "x" }, `sources[0].connection: there is no connection "x"`},
		"other connection":   {func(p *config.Pipeline) { p.Connections["k"]["type"] = "redis" }, `sources[0].connection: connection "k" is of type redis, want kafka`},
		"needless one":       {func(p *config.Pipeline) { p.Sinks[0].Connection = "k" }, `sinks[0].connection: the sink "drop" takes no connection`},
		"optional one":       {func(p *config.Pipeline) { p.Sinks[0].Type = "http" }, ""},
		"optional and given": {func(p *config.Pipeline) { p.Sinks[0].Type, p.Sinks[0].Connection = "http", "h" }, ""},
		"codec":              {func(p *config.Pipeline) { p.Sources[0].Codec = &config.Codec{Format: "jsno"} }, `sources[0].codec.format: there is no codec "jsno"; did you mean "json"?`},
		"codec options": {func(p *config.Pipeline) {
			p.Sources[0].Codec = &config.Codec{Format: "json", Options: json.RawMessage(`{"x":1}`)}
		}, "sources[0].codec.options.x: is not a known field"},
		"needless codec":   {func(p *config.Pipeline) { p.Sinks[0].Codec = &config.Codec{Format: "json"} }, `sinks[0].codec: the sink "drop" takes no codec`},
		"when is a string": {func(p *config.Pipeline) { p.Transforms[0].When = "'a'" }, "transforms[0].when: want bool, got string"},
		"when is no CEL":   {func(p *config.Pipeline) { p.Transforms[0].When = "this.a >" }, "transforms[0].when: 1:9: the expression is incomplete"},
		"filter, no when":  {func(p *config.Pipeline) { p.Transforms[0].When = "" }, "transforms[0].when: is required"},
		"CEL in config": {func(p *config.Pipeline) {
			p.Transforms[0] = config.Transform{Type: "map", Config: json.RawMessage(`{"fields":{"a.b":"this.x +"}}`)}
		}, `transforms[0].config.fields["a.b"]: 1:9: the expression is incomplete`},
		"onError":           {func(p *config.Pipeline) { p.Transforms[0].OnError = "Ignore" }, `transforms[0].onError: "Ignore" is not one of Fail, Drop, DeadLetter`},
		"no dead letter":    {func(p *config.Pipeline) { p.Transforms[0].OnError = config.OnErrorDeadLetter }, "transforms[0].onError: DeadLetter needs the pipeline's deadLetter"},
		"sink, dead letter": {func(p *config.Pipeline) { p.Sinks[0].OnError = config.OnErrorDeadLetter }, "sinks[0].onError: DeadLetter needs"},
		"circle": {func(p *config.Pipeline) {
			p.DeadLetter = &config.Sink{Type: "queue", Connection: "k", Config: json.RawMessage(`{"topic":"orders"}`)}
		}, "deadLetter.config: is what sources[0] reads"},
		"dead letter": {func(p *config.Pipeline) {
			p.DeadLetter = &config.Sink{Type: "queue", Connection: "k", Config: json.RawMessage(`{"topic":"dead"}`)}
		}, ""},
		"route":         {route(`{"routes":[{"when":"true","sinks":["uot"]}]}`), `transforms[0].config.routes[0].sinks[0]: there is no sink "uot"; did you mean "out"?`},
		"route default": {route(`{"routes":[{"when":"true","sinks":["out"]}],"default":["zzzzzz"]}`), `transforms[0].config.default[0]: there is no sink "zzzzzz"`},
		"route when":    {route(`{"routes":[{"when":"1 + 1","sinks":["out"]}]}`), "transforms[0].config.routes[0].when: want bool, got int"},
		"retry":         {func(p *config.Pipeline) { p.Sinks[0].Retry.Initial, p.Sinks[0].Retry.Max = 2, 1 }, "sinks[0].retry.initial: is longer than max"},
		"unnamed test":  {func(p *config.Pipeline) { p.Tests[0].Name = "" }, "tests[0].name: is required"},
		"empty test":    {func(p *config.Pipeline) { p.Tests[0].Input = nil }, "tests[0].input: want at least one record"},
	} {
		p := valid()
		c.change(p)
		found := config.ValidateWith(p, catalogue)
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%s: got %v, want none", name, found)
		case c.want != "" && (len(found) != 1 || !strings.HasPrefix(found[0].Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, found, c.want)
		}
	}
}

func route(cfg string) func(*config.Pipeline) {
	return func(p *config.Pipeline) {
		p.Transforms[0] = config.Transform{Type: "route", Config: json.RawMessage(cfg)}
	}
}

// TestBuiltInCatalogue checks what the controller relies on.
func TestBuiltInCatalogue(t *testing.T) {
	built, err := config.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Connectors) == 0 || len(built.Transforms) < 20 || len(built.Codecs) == 0 {
		t.Errorf("got %d connectors, %d transforms, %d codecs", len(built.Connectors), len(built.Transforms), len(built.Codecs))
	}
	for _, info := range built.Connectors {
		if info.Summary == "" {
			t.Errorf("%s %s has no summary", info.Kind, info.Type)
		}
		if _, err := config.CompileSchema(info.Schema); err != nil {
			t.Errorf("%s %s: %v", info.Kind, info.Type, err)
		}
		if got, ok := config.Connector(info.Kind, info.Type); !ok || got.Type != info.Type {
			t.Errorf("%s %s is not found", info.Kind, info.Type)
		}
	}
	for _, info := range built.Transforms {
		if _, err := config.CompileSchema(info.Schema); err != nil || info.Summary == "" {
			t.Errorf("%s: %v, summary %q", info.Type, err, info.Summary)
		}
	}
	p := valid()
	p.Sources[0].Type = "no such thing"
	if found := config.Validate(p); len(found) != 1 {
		t.Errorf("got %v", found)
	}
}

func TestDefaults(t *testing.T) {
	schema, err := config.CompileSchema(json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer","default":5},"o":{"type":"object","properties":{"x":{"default":true}}},
		"l":{"type":"array","items":{"type":"object","properties":{"y":{"default":"z"}}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		``:                     `{"a":5}`,
		`null`:                 `{"a":5}`,
		`{"a":1}`:              `{"a":1}`,
		`{"o":{}}`:             `{"a":5,"o":{"x":true}}`,
		`{"l":[{},{"y":"v"}]}`: `{"a":5,"l":[{"y":"z"},{"y":"v"}]}`,
	} {
		got, err := schema.Defaults(json.RawMessage(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
}
