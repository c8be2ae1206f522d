// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// BenchmarkCompile compiles a chain of 100 steps, each with when, two expressions and an output.
func BenchmarkCompile(b *testing.B) {
	var text strings.Builder
	text.WriteString("inputs: [{name: id, type: integer}]\nsteps:\n- {name: s0, type: transform, with: {value: 1}}\n")
	for i := 1; i < 100; i++ {
		fmt.Fprintf(&text, `- {name: s%d, needs: [s%d], when: 'steps.s%d.status == "Succeeded"', type: http, with: {url: "http://x/${{ inputs.id }}", body: "${{ steps.s%d.output }}"}, outputs: {x: "${{ result.x }}"}}`+"\n", i, i-1, i-1, i-1)
	}
	w := parse(b, text.String())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := definition.Compile(w); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	p := compile(b, step(`{name: c, needs: [b], when: 'steps.a.status == "Succeeded" && inputs.n > 5', type: http,
  with: {url: "http://x/${{ inputs.n }}", headers: {x: "${{ run.id }}"}, body: {id: "${{ steps.a.output.id }}", static: [1, 2, {a: b}]}}, outputs: {id: "${{ result.id }}"}}`))
	s, in := p.Find("c"), scope()
	result := map[string]any{"id": int64(3)}
	for name, run := range map[string]func() error{
		"when":    func() error { _, err := s.When(in); return err },
		"with":    func() error { _, err := s.Config(in); return err },
		"outputs": func() error { _, err := s.Outputs(in, result); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
