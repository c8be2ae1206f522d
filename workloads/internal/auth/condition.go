// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// Limits of one condition and of one evaluation of it.
const (
	maxConditionLength = 4 << 10 // characters
	maxConditionDepth  = 50
	maxConditionCost   = 20_000 // CEL cost units, a few milliseconds
)

// environment is built once: it is the same for all conditions.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("principal.kind", cel.StringType),
		cel.Variable("principal.id", cel.StringType),
		cel.Variable("principal.name", cel.StringType),
		cel.Variable("path", cel.StringType),
		cel.Variable("verb", cel.StringType),
		cel.Variable("request.ip", cel.StringType),
		cel.Variable("request.time", cel.TimestampType),
		cel.ParserExpressionSizeLimit(maxConditionLength),
		cel.ExpressionNestingDepthLimit(maxConditionDepth),
		cel.DefaultUTCTimeZone(true),
		ext.Strings(), ext.Sets(), ext.Network(),
	)
})

// condition is a compiled CEL expression.
type condition struct{ program cel.Program }

// CheckCondition validates a condition. An empty one always holds.
func CheckCondition(source string) error {
	if strings.TrimSpace(source) == "" {
		return nil
	}
	_, err := compileCondition(source)
	return err
}

func compileCondition(source string) (*condition, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	checked, err := celguard.Compile(env, source)
	if err != nil {
		return nil, err
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("want bool, got %s", checked.OutputType())
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxConditionCost))
	if err != nil {
		return nil, errors.New("a constant part of the expression fails")
	}
	return &condition{program}, nil
}

func (c *condition) eval(about *call) (bool, error) {
	ip := ""
	if about.request.IP.IsValid() {
		ip = about.request.IP.Unmap().WithZone("").String()
	}
	result, _, err := c.program.Eval(map[string]any{
		"principal.kind": string(about.principal.Kind),
		"principal.id":   about.principal.ID,
		"principal.name": about.principal.Name,
		"path":           about.path,
		"verb":           about.verb,
		"request.ip":     ip,
		"request.time":   about.request.Time,
	})
	if err != nil {
		return false, err
	}
	met, ok := result.Value().(bool)
	if !ok {
		return false, fmt.Errorf("gives %s", result.Type().TypeName())
	}
	return met, nil
}
