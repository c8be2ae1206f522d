// SPDX-License-Identifier: Apache-2.0

// Package catalogue describes all connectors, transforms and codecs that are linked into the worker.
package catalogue

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Build returns the catalogue, sorted by name. It fails if a type is listed twice or its schema does not
// compile.
func Build() (*config.Catalogue, error) {
	out := &config.Catalogue{}
	seen := map[string]bool{}
	add := func(name string, cfg any) (json.RawMessage, error) {
		if seen[name] {
			return nil, fmt.Errorf("%s is listed twice", name)
		}
		seen[name] = true
		return schemaOf(name, cfg)
	}
	for _, spec := range connectors.All() {
		document, err := add(string(spec.Kind)+" "+spec.Type, spec.Config)
		if err != nil {
			return nil, err
		}
		out.Connectors = append(out.Connectors, config.ConnectorInfo{
			Type: spec.Type, Kind: string(spec.Kind), Summary: spec.Summary, Binding: spec.Binding,
			BindingOptional: spec.BindingOptional, Overlaps: spec.Overlaps, Codec: spec.Codec, Schema: document,
		})
	}
	for _, spec := range transform.All() {
		document, err := add("transform "+spec.Type, spec.Config)
		if err != nil {
			return nil, err
		}
		out.Transforms = append(out.Transforms, config.TransformInfo{Type: spec.Type, Summary: spec.Summary, Schema: document})
	}
	for _, spec := range codec.List() {
		document, err := add("codec "+spec.Format, spec.Options)
		if err != nil {
			return nil, err
		}
		out.Codecs = append(out.Codecs, config.CodecInfo{Format: spec.Format, Summary: spec.Summary, Schema: document})
	}
	sort.Slice(out.Connectors, func(i, j int) bool {
		a, b := out.Connectors[i], out.Connectors[j]
		return a.Type < b.Type || a.Type == b.Type && a.Kind > b.Kind // source before sink
	})
	sort.Slice(out.Transforms, func(i, j int) bool { return out.Transforms[i].Type < out.Transforms[j].Type })
	sort.Slice(out.Codecs, func(i, j int) bool { return out.Codecs[i].Format < out.Codecs[j].Format })
	return out, nil
}

// JSON returns the catalogue as written to catalogue.json.
func JSON() ([]byte, error) {
	built, err := Build()
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(built, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode catalogue: %w", err)
	}
	return append(data, '\n'), nil
}

func schemaOf(name string, cfg any) (json.RawMessage, error) {
	document, err := schema.Of(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := config.CompileSchema(document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return document, nil
}
