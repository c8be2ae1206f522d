// SPDX-License-Identifier: Apache-2.0

package celguard_test

import (
	"strings"
	"testing"

	"cel.dev/cel-go/cel"

	"github.com/itechsmart/operator/workloads/internal/celguard"
)

// eval evaluates an expression with the given x.
func eval(t *testing.T, source string, x any, options ...cel.ProgramOption) (any, string) {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("x", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	checked, issues := env.Compile(source)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := env.Program(checked, append(options, cel.CustomDecoratorV2(celguard.MixNumbers))...)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := program.Eval(map[string]any{"x": x})
	if err != nil {
		return nil, celguard.Explain(err, checked.NativeRep().SourceInfo(), map[string]bool{"spelled": true})
	}
	return value.Value(), ""
}

func TestNumbersMix(t *testing.T) {
	for source, want := range map[string]any{"x * 1.5": 3.0, "1.5 + x": 3.5, "x - 0.5": 1.5, "x / 4.0": 0.5, "x / 2": int64(1)} {
		if got, wrong := eval(t, source, int64(2)); got != want {
			t.Errorf("%s: got %v %s, want %v", source, got, wrong, want)
		}
	}
}

func TestErrorsQuoteNoValue(t *testing.T) {
	const secret = "secret-value"
	for _, c := range []struct {
		source, want string
		options      []cel.ProgramOption
	}{
		{source: "{'a': 1}[x]", want: "there is no such field"},
		{source: "{'a': 1}.spelled", want: "there is no field spelled"},
		{source: "int(x)", want: "a value cannot be converted"},
		{source: "x + 1", want: "1:3: a value has the wrong type for this operation"},
		{source: "1 / (size(x) - 12)", want: "division by zero"},
		{source: "[1][size(x)]", want: "index out of bounds"},
		{source: "[1, 2, 3].all(i, i < size(x))", want: "the evaluation takes too long", options: []cel.ProgramOption{cel.CostLimit(3)}},
	} {
		if _, got := eval(t, c.source, secret, c.options...); !strings.Contains(got, c.want) || strings.Contains(got, secret) {
			t.Errorf("%s: got %q, want %q", c.source, got, c.want)
		}
	}
}

func TestLinear(t *testing.T) {
	if !celguard.Linear("startsWith") || !celguard.Linear("_&&_") || celguard.Linear("split") || celguard.Linear("join") {
		t.Error("startsWith and && are linear in their arguments, split and join need not be")
	}
}
