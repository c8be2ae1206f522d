// SPDX-License-Identifier: Apache-2.0

// Package celguard holds what the CEL expressions of all products share: errors that quote no data, arithmetic on JSON's
// numbers, and which functions need a limit.
package celguard

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Explain returns an evaluation error's text without any of the data: CEL's own messages quote values, so only harmless
// parts are kept. names are those in the expression itself.
func Explain(err error, info *ast.SourceInfo, names map[string]bool) string {
	text := err.Error()
	message := "evaluation failed"
	switch {
	case strings.HasPrefix(text, "no such key"):
		message = "there is no such field"
		if name := strings.TrimPrefix(text, "no such key: "); names[name] {
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
		message = Located(info.GetStartLocation(at.NodeID()), message)
	}
	return message
}

// Located returns "line:column: message", or only the message without a location.
func Located(at common.Location, message string) string {
	if at == nil || at.Line() < 1 {
		return message
	}
	return fmt.Sprintf("%d:%d: %s", at.Line(), at.Column()+1, message)
}
