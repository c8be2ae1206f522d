// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// parse parses the spec of a workflow from YAML. If it declares no connections, parse adds those of the tests.
func parse(t testing.TB, text string) *definition.Workflow {
	t.Helper()
	var spec map[string]any
	err := yaml.Unmarshal([]byte(text), &spec)
	connections, _ := spec["connections"].([]any)
	for _, c := range connections { // only the name is part of a definition
		if fields, ok := c.(map[string]any); ok {
			delete(fields, "ref")
			delete(fields, "backend")
		}
	}
	data, errWrite := yaml.Marshal(spec)
	w := &definition.Workflow{}
	if err = errors.Join(err, errWrite, yaml.UnmarshalStrict(data, w)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if w.Connections == nil {
		w.Connections = []definition.ConnectionRef{{Name: "db"}, {Name: "k"}, {Name: "kafka"}}
	}
	return w
}

func compile(t testing.TB, text string) *definition.Program {
	t.Helper()
	p, err := definition.Compile(parse(t, text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// found returns the problems of a workflow, one line each.
func found(w *definition.Workflow) []string {
	_, err := definition.Compile(w)
	var problems *definition.Problems
	if !errors.As(err, &problems) {
		return nil
	}
	lines := make([]string, len(problems.List))
	for i, p := range problems.List {
		lines[i] = p.Path + ": " + p.Message
	}
	return lines
}

const one = "steps: [{name: a, type: transform, with: {value: 1}}]\n"

// step returns a workflow of two steps and one with the given fields.
func step(fields string) string {
	return "inputs: [{name: 'n', type: integer}, {name: s}, {name: o, type: object}, {name: l, type: array}, {name: b, type: boolean}, {name: f, type: number}]\n" +
		"steps:\n- {name: a, type: transform, with: {value: 1}}\n- {name: b, needs: [a], type: transform, with: {value: 1}}\n- " + fields
}

func with(kind, with string) string {
	return step(fmt.Sprintf("{name: c, needs: [b], type: %s, with: %s}", kind, with))
}

func trigger(fields string) string { return one + "triggers: [" + fields + "]" }

func TestCompileRules(t *testing.T) {
	for _, c := range []struct{ name, accept, reject, want string }{
		{"name", step(`{name: c-1, type: transform, with: {value: 1}}`), step(`{name: C, type: transform, with: {value: 1}}`), "spec.steps[2].name: want a lower-case letter"},
		{"unique", step(`{name: c, type: transform, with: {value: 1}}`), step(`{name: b, type: transform, with: {value: 1}}`), "spec.steps[2].name: b is already the name of spec.steps[1]"},
		{"needs", with("transform", "{value: 1}"), step(`{name: c, needs: [a, x], type: transform, with: {value: 1}}`), `spec.steps[2].needs[1]: there is no step "x"`},
		{"needs twice", with("transform", "{value: 1}"), step(`{name: c, needs: [a, a], type: transform, with: {value: 1}}`), "spec.steps[2].needs[1]: a is listed twice"},
		{"itself", with("transform", "{value: 1}"), step(`{name: c, needs: [c], type: transform, with: {value: 1}}`), "spec.steps[2].needs: a cycle: c -> c"},
		{"type", with("transform", "{value: 1}"), with("transfrm", "{value: 1}"), `spec.steps[2].type: there is no step type "transfrm"`},
		{"when", step(`{name: c, when: inputs.n > 1, type: transform, with: {value: 1}}`), step(`{name: c, when: inputs.n + 1, type: transform, with: {value: 1}}`), "spec.steps[2].when: want a bool, got int"},
		{"when syntax", step(`{name: c, when: inputs.b, type: transform, with: {value: 1}}`), step(`{name: c, when: "inputs.b &&", type: transform, with: {value: 1}}`), "spec.steps[2].when: 1:"},
		{"input", with("transform", "{value: '${{ inputs.n }}'}"), with("transform", "{value: '${{ inputs.x }}'}"), "spec.steps[2].with.value: 1:"},
		{"forward", with("transform", "{value: '${{ steps.a.output }}'}"), step(`{name: c, type: transform, with: {value: "${{ steps.a.output }}"}}`), "spec.steps[2].with.value: step a does not come before c"},
		{"unknown step", with("transform", "{value: '${{ steps.a.output }}'}"), with("transform", "{value: '${{ steps.x.output }}'}"), "spec.steps[2].with.value: 1:"},
		{"all steps", with("transform", "{value: '${{ has(steps.a.output.x) }}'}"), with("transform", "{value: '${{ dyn(steps).a }}'}"), "spec.steps[2].with.value: steps can only be used with the name of a step"},
		{"item", step(`{name: c, forEach: {items: [1]}, type: transform, with: {value: "${{ item }}"}}`), with("transform", "{value: '${{ item }}'}"), "spec.steps[2].with.value: item and index"},
		{"loop variable", with("transform", "{value: '${{ inputs.l.map(item, item) }}'}"), with("transform", "{value: '${{ inputs.l.map(x, item) }}'}"), "spec.steps[2].with.value: item and index"},
		{"result", step(`{name: c, type: transform, with: {value: 1}, outputs: {x: "${{ result.x }}"}}`), with("transform", "{value: '${{ result }}'}"), "spec.steps[2].with.value: result"},
		{"not closed", with("transform", "{value: '$${{ text'}"), with("transform", "{value: '${{ inputs.n'}"), "spec.steps[2].with.value: ${{ is not closed by }}"},
		{"unknown field", with("wait", "{for: 1s}"), with("wait", "{four: 1s}"), "spec.steps[2].with.four: is not a known field"},
		{"unknown field with an expression", with("transform", "{value: {four: '${{ inputs.s }}'}}"), with("wait", "{for: 1s, four: '${{ inputs.s }}'}"), "spec.steps[2].with.four: is not a known field"},
		{"required field", with("sql", "{connection: db, query: select 1}"), with("sql", "{connection: db}"), "spec.steps[2].with.query: is required"},
		{"literal type", with("http", "{url: 'http://x', maxResponseBytes: 5}"), with("http", "{url: 'http://x', maxResponseBytes: five}"), "spec.steps[2].with.maxResponseBytes: want integer, got string"},
		{"choice", with("http", "{url: 'http://x', method: GET}"), with("http", "{url: 'http://x', method: GOT}"), "spec.steps[2].with.method: want one of GET"},
		{"duration", with("wait", "{for: 1h30m}"), with("wait", "{for: soon}"), "spec.steps[2].with.for: want a duration"},
		{"expression type", with("http", "{url: '${{ inputs.s }}'}"), with("http", "{url: '${{ inputs.n }}'}"), "spec.steps[2].with.url: want string, the expression returns integer"},
		{"object", with("http", "{url: 'http://x', headers: '${{ inputs.o }}'}"), with("http", "{url: 'http://x', headers: '${{ inputs.l }}'}"), "spec.steps[2].with.headers: want object, the expression returns array"},
		{"text", with("http", "{url: 'http://x/${{ inputs.n }}'}"), with("sql", "{connection: db, query: q, maxRows: '1${{ inputs.n }}'}"), "spec.steps[2].with.maxRows: want integer, got string"},
		{"self call", "name: w\nsteps: [{name: a, type: workflow, with: {name: other}}]", "name: w\nsteps: [{name: a, type: workflow, with: {name: w}}]", "spec.steps[0].with.name: workflow w calls itself"},
		{"items", step(`{name: c, forEach: {items: "${{ inputs.l }}"}, type: transform, with: {value: 1}}`), step(`{name: c, forEach: {items: "${{ inputs.n }}"}, type: transform, with: {value: 1}}`), "spec.steps[2].forEach.items: want a list"},
		{"parallelism", step(`{name: c, forEach: {items: [1], parallelism: 100}, type: transform, with: {value: 1}}`), step(`{name: c, forEach: {items: [1], parallelism: 101}, type: transform, with: {value: 1}}`), "spec.steps[2].forEach.parallelism: want 1 to 100"},
		{"attempts", step(`{name: c, retry: {attempts: 20}, type: transform, with: {value: 1}}`), step(`{name: c, retry: {attempts: 21}, type: transform, with: {value: 1}}`), "spec.steps[2].retry.attempts: want 1 to 20"},
		{"factor", step(`{name: c, retry: {attempts: 2, factor: 1.5}, type: transform, with: {value: 1}}`), step(`{name: c, retry: {attempts: 2, factor: 0.5}, type: transform, with: {value: 1}}`), "spec.steps[2].retry.factor: want 1 to 10"},
		{"jitter", step(`{name: c, retry: {attempts: 2, jitterPercent: 100}, type: transform, with: {value: 1}}`), step(`{name: c, retry: {attempts: 2, jitterPercent: 101}, type: transform, with: {value: 1}}`), "spec.steps[2].retry.jitterPercent: want 0 to 100"},
		{"step timeout", step(`{name: c, timeout: 1m, type: transform, with: {value: 1}}`), step(`{name: c, timeout: -1m, type: transform, with: {value: 1}}`), "spec.steps[2].timeout: want 0s to"},
		{"onError", step(`{name: c, onError: Continue, type: transform, with: {value: 1}}`), step(`{name: c, onError: Ignore, type: transform, with: {value: 1}}`), "spec.steps[2].onError: want Fail or Continue"},
		{"timeout", one + "timeout: 1h", one + "timeout: 1000h", "spec.timeout: want 0s to"},
		{"concurrency", one + "concurrency: {max: 1, policy: Skip}", one + "concurrency: {max: 0, policy: Skip}", "spec.concurrency.max: want 1 to"},
		{"policy", one + "concurrency: {max: 1, policy: Queue}", one + "concurrency: {max: 1, policy: Drop}", "spec.concurrency.policy: want one of Queue"},
		{"key", one + "concurrency: {max: 1, key: trigger.name}", one + "concurrency: {max: 1, key: steps.a.status}", "spec.concurrency.key: steps are not available here"},
		{"key type", one + "concurrency: {max: 1, key: trigger.name}", one + "concurrency: {max: 1, key: '1'}", "spec.concurrency.key: want a string, got int"},
		{"input default", one + "inputs: [{name: x, type: integer, default: 3}]", one + "inputs: [{name: x, type: integer, default: a}]", "spec.inputs[0].default: want a whole number"},
		{"required default", one + "inputs: [{name: x, required: true}]", one + "inputs: [{name: x, required: true, default: a}]", "spec.inputs[0].default: a required input cannot have a default"},
		{"input type", one + "inputs: [{name: x, type: object}]", one + "inputs: [{name: x, type: map}]", "spec.inputs[0].type: want one of"},
		{"history", one + "history: {successful: 0}", one + "history: {successful: -1}", "spec.history.successful: want 0 to"},
		{"outputs", one + "outputs: {x: '${{ steps.a.output }}'}", one + "outputs: {x: '${{ steps.b.output }}'}", "spec.outputs.x: 1:"},
		{"handler", one + "always: [{name: z, type: transform, with: {value: '${{ steps.a.status }}'}}]", one + "always: [{name: z, needs: [a], type: transform, with: {value: 1}}]", "spec.always[0].needs[0]: there is no step \"a\" among the handlers of always"},
		{"trigger type", trigger("{name: m, type: Manual}"), trigger("{name: m, type: Magic}"), "spec.triggers[0].type: want one of Manual"},
		{"settings", trigger("{name: m, type: API, api: {idempotencyKeyHeader: Idempotency-Key}}"), trigger("{name: m, type: Manual, api: {}}"), "spec.triggers[0].api: is only valid for triggers of type API"},
		{"header", trigger("{name: m, type: API, api: {idempotencyKeyHeader: X-Key}}"), trigger("{name: m, type: API, api: {idempotencyKeyHeader: 'a b'}}"), "spec.triggers[0].api.idempotencyKeyHeader: want the name of a header"},
		{"cron", trigger("{name: m, type: Scheduled, scheduled: {cron: '*/5 * * * *'}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: '* * * * * *'}}"), "spec.triggers[0].scheduled.cron: want five fields"},
		{"cron zone", trigger("{name: m, type: Scheduled, scheduled: {cron: '@hourly', timeZone: Asia/Tokyo}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: 'TZ=Asia/Tokyo 0 * * * *'}}"), "spec.triggers[0].scheduled.cron: set the time zone in field timeZone"},
		{"zone", trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', timeZone: Europe/Berlin}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', timeZone: Europe/Bonn}}"), "spec.triggers[0].scheduled.timeZone: there is no time zone"},
		{"never", trigger("{name: m, type: Scheduled, scheduled: {cron: '0 0 29 2 *'}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: '0 0 30 2 *'}}"), "spec.triggers[0].scheduled.cron: there is no such date"},
		{"missed", trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', missed: RunAll}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', missed: All}}"), "spec.triggers[0].scheduled.missed: want one of Skip"},
		{"deadline", trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', startingDeadline: 1m}}"), trigger("{name: m, type: Scheduled, scheduled: {cron: '@daily', startingDeadline: -1m}}"), "spec.triggers[0].scheduled.startingDeadline: want 0s to"},
		{"webhook", trigger("{name: m, type: Webhook, webhook: {path: a/b-1}}"), trigger("{name: m, type: Webhook, webhook: {path: ../b}}"), "spec.triggers[0].webhook.path: want lower-case letters"},
		{"same path", trigger("{name: m, type: Webhook, webhook: {path: a}}, {name: o, type: Webhook, webhook: {path: b}}"), trigger("{name: m, type: Webhook, webhook: {path: a}}, {name: o, type: Webhook, webhook: {path: a}}"), "spec.triggers[1].webhook.path: is already the path of spec.triggers[0]"},
		{"respond", trigger("{name: m, type: Webhook, webhook: {path: a, respond: WaitForResult}}"), trigger("{name: m, type: Webhook, webhook: {path: a, respond: Later}}"), "spec.triggers[0].webhook.respond: want one of Accepted"},
		{"payload", trigger("{name: m, type: Webhook, webhook: {path: a, maxPayloadBytes: 1000}}"), trigger("{name: m, type: Webhook, webhook: {path: a, maxPayloadBytes: 10000000}}"), "spec.triggers[0].webhook.maxPayloadBytes: want 1 to"},
		{"secret", trigger("{name: m, type: Webhook, webhook: {path: a, auth: {hmacSecretRef: {name: k}}}}"), trigger("{name: m, type: Webhook, webhook: {path: a, auth: {hmacSecretRef: {name: ''}}}}"), "spec.triggers[0].webhook.auth.hmacSecretRef.name: is required"},
		{"declared connection", trigger("{name: m, type: Event, event: {source: kafka, connectionRef: {name: k}, name: t}}"), trigger("{name: m, type: Event, event: {source: kafka, connectionRef: {name: x}, name: t}}"), "spec.triggers[0].event.connectionRef.name: x is not declared in spec.connections; there are db, k, kafka"},
		{"connection of a step", with("sql", "{connection: db, query: q}"), with("sql", "{connection: x, query: q}"), "spec.steps[2].with.connection: x is not declared"},
		{"no connections", "connections: [{name: db}]\n" + with("sql", "{connection: db, query: q}"), "connections: []\n" + with("sql", "{connection: db, query: q}"), "spec.steps[2].with.connection: db is not declared: add it to spec.connections"},
		{"kind of event", trigger("{name: m, type: Event, event: {source: kubernetes, name: Job}}"), trigger("{name: m, type: Event, event: {source: kubernetes, name: Secret}}"), "spec.triggers[0].event.name: source kubernetes supports the kinds Deployment"},
		{"filter", trigger("{name: m, type: Event, event: {source: kafka, connectionRef: {name: k}, name: t, filter: trigger.body.x == 1}}"), trigger("{name: m, type: Event, event: {source: kafka, connectionRef: {name: k}, name: t, filter: trigger.name}}"), "spec.triggers[0].event.filter: want a bool, got string"},
		{"dedupe", trigger("{name: m, type: Event, event: {source: kubernetes, name: Pod, dedupeKey: string(trigger.body.x)}}"), trigger("{name: m, type: Event, event: {source: kubernetes, name: Pod, dedupeKey: run.id}}"), "spec.triggers[0].event.dedupeKey: only trigger is available here"},
		{"connection", trigger("{name: m, type: Event, event: {source: rabbitmq, connectionRef: {name: k}, name: q}}"), trigger("{name: m, type: Event, event: {source: rabbitmq, name: q}}"), "spec.triggers[0].event.connectionRef.name: is required"},
		{"trigger inputs", one + "inputs: [{name: x}]\ntriggers: [{name: m, type: Manual, inputs: {x: '${{ trigger.name }}'}}]", trigger("{name: m, type: Manual, inputs: {x: 1}}"), "spec.triggers[0].inputs.x: unknown input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(parse(t, c.accept)); got != nil {
				t.Errorf("accept: %s", got)
			}
			got := found(parse(t, c.reject))
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got %q, want one that starts with %q", got, c.want)
			}
		})
	}
}

func TestReportsCyclesAndOtherProblems(t *testing.T) {
	got := found(parse(t, `
steps:
- {name: a, needs: [c], type: transform, with: {value: 1}}
- {name: b, needs: [a], type: transform, with: {value: 1}}
- {name: c, needs: [b], type: transform, with: {value: 1}}
- {name: d, when: "1", type: transform, with: {value: 1}}
- {name: e, type: wait, with: {for: 1}}
`))
	want := []string{"spec.steps[0].needs: a cycle: a -> c -> b -> a", "spec.steps[3].when: want a bool, got int", "spec.steps[4].with.for: want string, got number"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestSizes(t *testing.T) {
	steps := func(n int, when string) *definition.Workflow {
		w := &definition.Workflow{}
		for i := range n {
			w.Steps = append(w.Steps, definition.StepSpec{Name: fmt.Sprintf("s%d", i), Type: "transform", When: when, With: json.RawMessage(`{"value": 1}`)})
		}
		return w
	}
	if got := found(steps(100, "")); got != nil {
		t.Error(got)
	}
	if got := found(steps(101, "")); len(got) != 1 || !strings.HasPrefix(got[0], "spec.steps: 101 steps") {
		t.Error(got)
	}
	if got := found(steps(0, "")); len(got) != 1 || got[0] != "spec.steps: want at least one step" {
		t.Error(got)
	}
	got := found(steps(100, "1"))
	if len(got) != 50 || !strings.HasPrefix(got[0], "spec.steps[0].when") || !strings.HasPrefix(got[49], "spec.steps[49].when") {
		t.Error("want the first fifty problems in order, got", len(got))
	}
}

func TestOrderIsTopologicalForRandomGraphs(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		n := 1 + random.IntN(30)
		w := &definition.Workflow{}
		for i := range n {
			s := definition.StepSpec{Name: fmt.Sprintf("s%d", i), Type: "transform", With: json.RawMessage(`{"value": 1}`)}
			for j := range n {
				if random.IntN(n*2) == 0 && (seed%2 == 0 || j < i) {
					s.Needs = append(s.Needs, fmt.Sprintf("s%d", j))
				}
			}
			w.Steps = append(w.Steps, s)
		}
		random.Shuffle(n, func(i, j int) { w.Steps[i], w.Steps[j] = w.Steps[j], w.Steps[i] })
		p, err := definition.Compile(w)
		if err != nil {
			if seed%2 == 1 {
				t.Fatalf("seed %d has no cycle: %v", seed, err)
			}
			continue
		}
		edges := 0
		for i := range p.Len() {
			for _, need := range p.Step(i).Needs() {
				if edges++; need >= i {
					t.Fatalf("seed %d: step %d needs %d", seed, i, need)
				}
			}
			edges -= len(p.Step(i).Dependents())
		}
		if p.Len() != n || edges != 0 {
			t.Fatalf("seed %d: %d steps of %d, needs and dependents differ by %d", seed, p.Len(), n, edges)
		}
	}
}

func TestHashIsOfTheContent(t *testing.T) {
	a := compile(t, `steps: [{name: a, type: transform, with: {value: {x: 1, z: 2}}}]`)
	w := parse(t, one)
	w.Steps[0].With = json.RawMessage(` {"value": {"z":2, "x":1} }`)
	b, err := definition.Compile(w)
	if err != nil || a.Hash() != b.Hash() || a.Hash() == "" {
		t.Errorf("%v: %s, %s", err, a.Hash(), b.Hash())
	}
	if c := compile(t, `steps: [{name: a, type: transform, with: {value: {x: 1, z: 3}}}]`); c.Hash() == a.Hash() {
		t.Error("different content has the same hash")
	}
}
