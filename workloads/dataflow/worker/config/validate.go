// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
	"github.com/itechsmart/operator/workloads/internal/schema"
)

// Bounds that keep one pipeline from taking a worker's memory.
const (
	maxBatchCount  = 1_000_000
	maxBatchBytes  = 256 << 20
	maxRecordBytes = 256 << 20
)

// Validate checks a configuration by the built-in catalogue, and returns everything that is invalid, in the order of the file. It
// connects to nothing.
func Validate(p *Pipeline) []FieldError { return builtIn(p, ValidateWith) }

// ValidateWith is Validate with another catalogue.
func ValidateWith(p *Pipeline, catalogue *Catalogue) []FieldError {
	v := &validator{pipeline: p, catalogue: catalogue}
	v.specification()
	v.connections()
	return v.found
}

// ValidateSpec is Validate without p.Connections: what can be checked before they are known.
func ValidateSpec(p *Pipeline) []FieldError {
	return builtIn(p, func(p *Pipeline, catalogue *Catalogue) []FieldError {
		v := &validator{pipeline: p, catalogue: catalogue}
		v.specification()
		return v.found
	})
}

// ValidateConnections checks that p.Connections has what the components of a valid specification need.
func ValidateConnections(p *Pipeline) []FieldError {
	return builtIn(p, func(p *Pipeline, catalogue *Catalogue) []FieldError {
		v := &validator{pipeline: p, catalogue: catalogue}
		v.connections()
		v.circle()
		return v.found
	})
}

func builtIn(p *Pipeline, validate func(*Pipeline, *Catalogue) []FieldError) []FieldError {
	catalogue, err := LoadCatalogue()
	if err != nil {
		return []FieldError{{Message: err.Error()}}
	}
	return validate(p, catalogue)
}

func (v *validator) specification() {
	v.general()
	v.components()
	v.transforms()
	v.deadLetter()
	v.circle()
	v.tests()
}

// connections checks the connection of each component whose type is known.
func (v *validator) connections() {
	p := v.pipeline
	for i := range p.Sources {
		v.connection(fmt.Sprintf("sources[%d]", i), KindSource, p.Sources[i].Type, p.Sources[i].Connection)
	}
	for i := range p.Sinks {
		v.connection(fmt.Sprintf("sinks[%d]", i), KindSink, p.Sinks[i].Type, p.Sinks[i].Connection)
	}
	if p.DeadLetter != nil {
		v.connection("deadLetter", KindSink, p.DeadLetter.Type, p.DeadLetter.Connection)
	}
}

type validator struct {
	pipeline  *Pipeline
	catalogue *Catalogue
	found     []FieldError
}

func (v *validator) add(path, format string, args ...any) {
	v.found = append(v.found, FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) general() {
	p := v.pipeline
	if p.Name == "" {
		v.add("name", "is required")
	}
	v.oneOf("delivery", string(p.Delivery), true, string(AtLeastOnce), string(AtMostOnce))
	v.within("batching.count", int64(p.Batching.Count), 0, maxBatchCount)
	v.within("batching.bytes", p.Batching.Bytes, 0, maxBatchBytes)
	v.within("maxRecordBytes", p.MaxRecordBytes, 0, maxRecordBytes)
	if p.Batching.Period < 0 {
		v.add("batching.period", "want zero or more")
	}
	if len(p.Sources) == 0 {
		v.add("sources", "want at least one")
	}
	if len(p.Sinks) == 0 {
		v.add("sinks", "want at least one")
	}
}

func (v *validator) within(path string, value, low, high int64) {
	if value < low || value > high {
		v.add(path, "want %d to %d, got %d", low, high, value)
	}
}

func (v *validator) oneOf(path, value string, emptyToo bool, choices ...string) {
	if value == "" && emptyToo {
		return
	}
	for _, choice := range choices {
		if value == choice {
			return
		}
	}
	v.add(path, "%q is not one of %s", value, strings.Join(choices, ", "))
}

func (v *validator) onError(path string, policy OnError) {
	v.oneOf(path, string(policy), true, string(OnErrorFail), string(OnErrorDrop), string(OnErrorDeadLetter))
	if policy == OnErrorDeadLetter && v.pipeline.DeadLetter == nil {
		v.add(path, "DeadLetter needs the pipeline's deadLetter")
	}
}

// names reports a missing or repeated name.
func (v *validator) names(path, name string, seen map[string]string, required bool) {
	switch first, taken := seen[name]; {
	case name == "" && required:
		v.add(path+".name", "is required")
	case name != "" && taken:
		v.add(path+".name", "%q is the name of %s already", name, first)
	default:
		seen[name] = path
	}
}

func (v *validator) components() {
	seen := map[string]string{}
	for i := range v.pipeline.Sources {
		s, path := &v.pipeline.Sources[i], fmt.Sprintf("sources[%d]", i)
		v.names(path, s.Name, seen, true)
		v.component(path, KindSource, s.Type, s.Config, s.Codec)
	}
	seen = map[string]string{}
	for i := range v.pipeline.Sinks {
		path := fmt.Sprintf("sinks[%d]", i)
		v.names(path, v.pipeline.Sinks[i].Name, seen, true)
		v.sink(path, &v.pipeline.Sinks[i])
		v.onError(path+".onError", v.pipeline.Sinks[i].OnError)
	}
}

func (v *validator) sink(path string, s *Sink) {
	v.component(path, KindSink, s.Type, s.Config, s.Codec)
	if s.Retry.Initial < 0 || s.Retry.Max < 0 || s.Retry.MaxAttempts < 0 {
		v.add(path+".retry", "want no negative value")
	}
	if s.Retry.Max > 0 && s.Retry.Initial > s.Retry.Max {
		v.add(path+".retry.initial", "is longer than max")
	}
}

func (v *validator) component(path, kind, name string, cfg json.RawMessage, codec *Codec) {
	info, ok := v.catalogue.Connector(kind, name)
	if !ok {
		v.unknown(path+".type", kind, name, v.connectorNames(kind))
		return
	}
	v.schema(info.Schema, cfg, path+".config")
	if codec == nil {
		return
	}
	if info.Codec == "" {
		v.add(path+".codec", "the %s %q takes no codec", kind, name)
		return
	}
	format, ok := v.catalogue.Codec(codec.Format)
	if !ok {
		v.unknown(path+".codec.format", "codec", codec.Format, v.codecNames())
		return
	}
	v.schema(format.Schema, codec.Options, path+".codec.options")
}

// connection checks presence and type; a Binding without a type is taken as it is.
func (v *validator) connection(path, kind, typ, name string) {
	info, ok := v.catalogue.Connector(kind, typ)
	if !ok {
		return
	}
	path += ".connection"
	switch {
	case name == "" && info.Binding != "" && !info.BindingOptional:
		v.add(path, "the %s %q needs a connection of type %s", info.Kind, info.Type, info.Binding)
	case name != "" && info.Binding == "":
		v.add(path, "the %s %q takes no connection", info.Kind, info.Type)
	case name != "":
		binding, ok := v.pipeline.Connections[name]
		if !ok {
			v.add(path, "there is no connection %q", name)
		} else if got := strings.TrimSpace(binding["type"]); got != "" && got != info.Binding {
			v.add(path, "connection %q is of type %s, want %s", name, got, info.Binding)
		}
	}
}

// schemas caches compiled schemas by their text: catalogues do not change.
var schemas sync.Map // string → *Schema

func (v *validator) schema(document, value json.RawMessage, path string) {
	cached, ok := schemas.Load(string(document))
	if !ok {
		compiled, err := CompileSchema(document)
		if err != nil {
			v.add(path, "%v", err)
			return
		}
		schemas.Store(string(document), compiled)
		cached = compiled
	}
	v.found = append(v.found, cached.(*Schema).Check(value, path)...)
}

func (v *validator) transforms() {
	seen := map[string]string{}
	for i := range v.pipeline.Transforms {
		t, path := &v.pipeline.Transforms[i], fmt.Sprintf("transforms[%d]", i)
		v.names(path, t.Name, seen, false)
		v.onError(path+".onError", t.OnError)
		if t.When != "" {
			if _, err := expr.Compile(t.When, expr.Bool); err != nil {
				v.add(path+".when", "%v", err)
			}
		}
		info, ok := v.catalogue.Transform(t.Type)
		if !ok {
			v.unknown(path+".type", "transform", t.Type, v.transformNames())
			continue
		}
		if t.Type == "filter" && t.When == "" {
			v.add(path+".when", "is required: it is the filter's predicate")
		}
		v.schema(info.Schema, t.Config, path+".config")
		if t.Type == "route" {
			v.routes(path+".config", t.Config)
		}
	}
}

// routes checks that every route leads to a sink of this pipeline.
func (v *validator) routes(path string, raw json.RawMessage) {
	var cfg struct {
		Routes []struct {
			Sinks []string `json:"sinks"`
		} `json:"routes"`
		Default []string `json:"default"`
	}
	if json.Unmarshal(schema.OrEmpty(raw), &cfg) != nil {
		return // the schema has said so
	}
	known := map[string]bool{}
	names := make([]string, 0, len(v.pipeline.Sinks))
	for i := range v.pipeline.Sinks {
		known[v.pipeline.Sinks[i].Name] = true
		names = append(names, v.pipeline.Sinks[i].Name)
	}
	check := func(path string, sinks []string) {
		for i, sink := range sinks {
			if !known[sink] {
				v.unknown(fmt.Sprintf("%s[%d]", path, i), "sink", sink, names)
			}
		}
	}
	for i, route := range cfg.Routes {
		check(fmt.Sprintf("%s.routes[%d].sinks", path, i), route.Sinks)
	}
	check(path+".default", cfg.Default)
}

func (v *validator) deadLetter() {
	sink := v.pipeline.DeadLetter
	if sink == nil {
		return
	}
	v.sink("deadLetter", sink)
	if sink.OnError == OnErrorDeadLetter {
		v.add("deadLetter.onError", "a dead letter cannot have a dead letter")
	}
}

// circle refuses a dead-letter sink that feeds a source of the same pipeline.
func (v *validator) circle() {
	sink := v.pipeline.DeadLetter
	if sink == nil {
		return
	}
	target := place(sink.Type, sink.Connection, sink.Config)
	if target == "" {
		return
	}
	for i := range v.pipeline.Sources {
		source := &v.pipeline.Sources[i]
		if place(source.Type, source.Connection, source.Config) == target {
			v.add("deadLetter.config", "is what sources[%d] reads: dead letters would come back", i)
		}
	}
}

// place identifies where a component reads or writes, as far as names tell; "": it cannot be told.
func place(kind, connection string, raw json.RawMessage) string {
	var cfg map[string]any
	if json.Unmarshal(schema.OrEmpty(raw), &cfg) != nil {
		return ""
	}
	var parts []string
	for _, key := range []string{"topic", "database", "schema", "table", "collection", "queue", "stream", "channel", "bucket", "prefix", "path", "url", "index", "subject"} {
		if text, ok := cfg[key].(string); ok {
			parts = append(parts, key+"="+text)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return kind + "|" + connection + "|" + strings.Join(parts, "|")
}

func (v *validator) tests() {
	seen := map[string]string{}
	for i := range v.pipeline.Tests {
		test, path := &v.pipeline.Tests[i], fmt.Sprintf("tests[%d]", i)
		v.names(path, test.Name, seen, true)
		if len(test.Input) == 0 {
			v.add(path+".input", "want at least one record")
		}
		if test.ExpectErrors < 0 {
			v.add(path+".expectErrors", "want zero or more")
		}
	}
}

func (v *validator) connectorNames(kind string) []string {
	var names []string
	for _, info := range v.catalogue.Connectors {
		if info.Kind == kind {
			names = append(names, info.Type)
		}
	}
	return names
}

func (v *validator) transformNames() []string {
	var names []string
	for _, info := range v.catalogue.Transforms {
		names = append(names, info.Type)
	}
	return names
}

func (v *validator) codecNames() []string {
	var names []string
	for _, info := range v.catalogue.Codecs {
		names = append(names, info.Format)
	}
	return names
}

// unknown reports a name that nothing has, with the one that was probably meant.
func (v *validator) unknown(path, kind, name string, known []string) {
	if name == "" {
		v.add(path, "is required")
		return
	}
	message := fmt.Sprintf("there is no %s %q", kind, name)
	if meant := nearest(name, known); meant != "" {
		message += fmt.Sprintf("; did you mean %q?", meant)
	}
	v.add(path, "%s", message)
}

// nearest returns the known name with the fewest edits, when those are few for its length.
func nearest(name string, known []string) string {
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	best, fewest := "", max(2, len(name)/3)+1
	for _, candidate := range sorted {
		if edits := distance(strings.ToLower(name), strings.ToLower(candidate)); edits < fewest {
			best, fewest = candidate, edits
		}
	}
	return best
}

// distance returns the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
