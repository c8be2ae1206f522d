// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"encoding/json"
	"errors"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
)

// specification is a specification as it comes: its fields are the resource's.
type specification map[string]json.RawMessage

// read takes the fields that there are, and no others. What it says of a wrong one holds nothing of the text.
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
		return nil, api.Because(api.Invalid(field, "it is of the wrong type"), err)
	}
	return nil, api.Because(api.Invalid("body.spec", "a field of it is not known, or a duration is none, such as 30s or 1h30m"), err)
}
