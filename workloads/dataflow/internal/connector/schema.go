// SPDX-License-Identifier: Apache-2.0

package connector

import (
	"encoding/json"
	"fmt"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// Schema returns the JSON Schema, draft 2020-12, inlined, of a Config.
func Schema(cfg any) (json.RawMessage, error) { return schema.Of(cfg) }

// Decode reads a component's config into a new value of the Spec's Config type, with the schema's defaults
// applied. Errors name each invalid field (config.table: is required) and wrap backend.ErrInvalid.
func Decode(spec Spec, raw json.RawMessage) (any, error) {
	if spec.Config == nil {
		return nil, fmt.Errorf("%s %q has no Config type: %w", spec.Kind, spec.Type, backend.ErrInvalid)
	}
	cfg, err := schema.Decode(spec.Config, raw, "config")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, backend.ErrInvalid)
	}
	return cfg, nil
}
