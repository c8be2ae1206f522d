// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// explain words an evaluation's error without any content of the record: CEL's own
// messages quote values, so only what is known to be harmless is passed on.
func (p *Program) explain(err error) error {
	text := err.Error()
	message := "evaluation failed"
	switch {
	case strings.HasPrefix(text, "no such key"):
		message = "there is no such field"
		if name := strings.TrimPrefix(text, "no such key: "); p.names[name] {
			message = "there is no field " + name
		}
	case strings.HasPrefix(text, "no such overload"):
		message = "a value has the wrong type for this operation"
	case strings.HasPrefix(text, "index out of bounds"):
		message = "index out of bounds"
	case strings.Contains(text, "cost limit exceeded"):
		message = "the evaluation takes too long"
	case strings.Contains(text, "memory limit exceeded"):
		message = "the evaluation takes too much memory"
	case text == "division by zero", text == "modulus by zero", strings.HasSuffix(text, "overflow"):
		message = text
	case strings.HasPrefix(text, "unsupported conversion"), strings.HasPrefix(text, "type conversion error"),
		strings.HasPrefix(text, "strconv."), strings.HasPrefix(text, "parsing "):
		message = "a value cannot be converted"
	}
	var at *types.Err
	if errors.As(err, &at) && at.NodeID() != 0 {
		message = located(p.info.GetStartLocation(at.NodeID()), message)
	}
	return errors.New("expression: " + message)
}

var _ cel.Activation = (*bindings)(nil)
