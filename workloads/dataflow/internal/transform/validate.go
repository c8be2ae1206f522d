// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// ValidateConfig configures the type validate.
type ValidateConfig struct {
	Schema map[string]any `json:"schema" jsonschema:"required,description=A JSON Schema (draft 2020-12) that every record must match; references to other documents are refused"`
}

type validation struct{ schema *config.Schema }

func validateSpec() Spec {
	return specOf("validate", "Checks records against a JSON Schema; onError decides about the others.", newValidate)
}

func newValidate(cfg ValidateConfig, _ Env) (any, error) {
	document, err := json.Marshal(cfg.Schema)
	if err != nil {
		return nil, errAt("schema", "%w", err)
	}
	compiled, err := config.CompileSchema(document)
	if err != nil {
		return nil, errAt("schema", "%w", err)
	}
	return &validation{schema: compiled}, nil
}

// maxShown is how many violations one error names.
const maxShown = 5

// Map does not change the record.
func (v *validation) Map(_ context.Context, r *record.Record) error {
	tree, err := r.Tree()
	if err != nil {
		return err
	}
	problems := v.schema.CheckTree(tree, "")
	if len(problems) == 0 {
		return nil
	}
	var out []error
	for i, problem := range problems {
		if i == maxShown {
			out = append(out, fmt.Errorf("and %d more", len(problems)-maxShown))
			break
		}
		if problem.Path == "" {
			problem.Path = "value"
		}
		out = append(out, problem)
	}
	return errors.Join(out...)
}
