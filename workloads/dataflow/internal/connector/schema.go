// SPDX-License-Identifier: Apache-2.0

package connector

import (
	"encoding/json"
	"fmt"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// Schema reflects a Config into its JSON Schema, draft 2020-12, inlined.
func Schema(cfg any) (json.RawMessage, error) { return schema.Of(cfg) }

// Decode reads a component's config into a new value of the Spec's Config type, after
// applying the schema's defaults. Errors name each field at fault (config.table: is
// required) and wrap backend.ErrInvalid.
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
