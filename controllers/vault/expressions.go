// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// environment returns the CEL environment of the Vault service: the same variables and libraries.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	const (
		longest = 4 << 10
		deepest = 50
	)
	return cel.NewEnv(
		cel.Variable("principal.kind", cel.StringType), cel.Variable("principal.id", cel.StringType), cel.Variable("principal.name", cel.StringType),
		cel.Variable("path", cel.StringType), cel.Variable("verb", cel.StringType),
		cel.Variable("request.ip", cel.StringType), cel.Variable("request.time", cel.TimestampType),
		cel.ParserExpressionSizeLimit(longest), cel.ExpressionNestingDepthLimit(deepest),
		cel.DefaultUTCTimeZone(true), ext.Strings(), ext.Sets(), ext.Network(),
	)
})

// compile returns what is wrong with a condition. An empty one is always true.
func compile(when string) error {
	if strings.TrimSpace(when) == "" {
		return nil
	}
	env, err := environment()
	if err != nil {
		return fmt.Errorf("prepare CEL: %w", err)
	}
	checked, issues := env.Compile(when)
	if issues.Err() != nil {
		const most = 3
		var parts []string
		for _, issue := range issues.Errors() {
			if len(parts) == most {
				break
			}
			parts = append(parts, fmt.Sprintf("%d:%d: %s", issue.Location.Line(), issue.Location.Column()+1, issue.Message))
		}
		return errors.New(strings.Join(parts, "; "))
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return fmt.Errorf("gives %s, want bool", checked.OutputType())
	}
	return nil
}
