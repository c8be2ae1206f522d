// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"encoding/json"
	"errors"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
)

// specification is the specification of a Workflow in a request, with the resource's fields.
type specification map[string]json.RawMessage

// read decodes the specification, and rejects unknown fields. Its errors do not quote the text.
func (s specification) read() (*workflowv1.WorkflowSpec, error) {
	data, err := json.Marshal(map[string]json.RawMessage(s))
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	spec := &workflowv1.WorkflowSpec{}
	err = decoder.Decode(spec)
	if err == nil {
		return spec, nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := "body.spec"
		if wrong.Field != "" {
			field += "." + wrong.Field
		}
		return nil, api.Because(api.Invalid(field, "has the wrong type"), err)
	}
	return nil, api.Because(api.Invalid("body.spec", "has an unknown field, or an invalid duration; valid are for example 30s and 1h30m"), err)
}
