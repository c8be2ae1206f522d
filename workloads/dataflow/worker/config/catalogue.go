// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

//go:generate go run github.com/itechsmart/operator/workloads/dataflow/worker catalogue -o catalogue.json

//go:embed catalogue.json
var catalogueJSON []byte

// Catalogue tells everything about connectors, transforms and codecs that a
// controller or a user interface needs, so that neither links any of them.
type Catalogue struct {
	Connectors []ConnectorInfo `json:"connectors"`
	Transforms []TransformInfo `json:"transforms"`
	Codecs     []CodecInfo     `json:"codecs"`
}

// ConnectorInfo is one connector in one direction.
type ConnectorInfo struct {
	Type    string `json:"type"`
	Kind    string `json:"kind"` // source or sink
	Summary string `json:"summary"`
	// Binding is the type of connection that it needs: kafka, postgresql, …; "" for none.
	Binding         string `json:"binding,omitempty"`
	BindingOptional bool   `json:"bindingOptional,omitempty"`
	// Overlaps: several workers may read this source at once. Others are held to one replica.
	Overlaps bool `json:"overlaps,omitempty"`
	// Codec is the default format; "" when codecs do not apply.
	Codec  string          `json:"codec,omitempty"`
	Schema json.RawMessage `json:"schema"`
}

// TransformInfo is one transform type.
type TransformInfo struct {
	Type    string          `json:"type"`
	Summary string          `json:"summary"`
	Schema  json.RawMessage `json:"schema"`
}

// CodecInfo is one format; Schema is that of its options.
type CodecInfo struct {
	Format  string          `json:"format"`
	Summary string          `json:"summary"`
	Schema  json.RawMessage `json:"schema"`
}

// LoadCatalogue is the catalogue that was built into this binary.
var LoadCatalogue = sync.OnceValues(func() (*Catalogue, error) {
	catalogue := &Catalogue{}
	if err := json.Unmarshal(catalogueJSON, catalogue); err != nil {
		return nil, fmt.Errorf("embedded catalogue: %w", err)
	}
	return catalogue, nil
})

// Connector finds a connector by kind (source or sink) and type.
func (c *Catalogue) Connector(kind, name string) (*ConnectorInfo, bool) {
	for i := range c.Connectors {
		if c.Connectors[i].Kind == kind && c.Connectors[i].Type == name {
			return &c.Connectors[i], true
		}
	}
	return nil, false
}

// Transform finds a transform by type.
func (c *Catalogue) Transform(name string) (*TransformInfo, bool) {
	for i := range c.Transforms {
		if c.Transforms[i].Type == name {
			return &c.Transforms[i], true
		}
	}
	return nil, false
}

// Codec finds a codec by format.
func (c *Catalogue) Codec(format string) (*CodecInfo, bool) {
	for i := range c.Codecs {
		if c.Codecs[i].Format == format {
			return &c.Codecs[i], true
		}
	}
	return nil, false
}

// Kinds of connectors.
const (
	KindSource = "source"
	KindSink   = "sink"
)

// Connector finds a connector in the catalogue that was built in.
func Connector(kind, name string) (ConnectorInfo, bool) {
	catalogue, err := LoadCatalogue()
	if err != nil {
		return ConnectorInfo{}, false
	}
	info, ok := catalogue.Connector(kind, name)
	if !ok {
		return ConnectorInfo{}, false
	}
	return *info, true
}
