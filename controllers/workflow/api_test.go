// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

// apiCase is a specification, and what the API server says of it: "" means that it takes it.
type apiCase struct{ name, spec, says string }

// many returns a list of n entries, of which %d is the number.
func many(n int, entry string) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(entry, i))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// with returns a specification of one step and more.
func with(more string) string { return "{steps: [{name: a, type: transform}], " + more + "}" }

// step returns a specification whose step has more.
func step(more string) string { return "{steps: [{name: a, type: transform, " + more + "}]}" }

// trigger returns a specification with a trigger.
func trigger(more string) string { return with("triggers: [{name: t, " + more + "}]") }

// connection returns a specification with a connection.
func connection(more string) string { return with("connections: [{name: c, " + more + "}]") }

func hook(more string) string {
	return trigger("type: Webhook, webhook: {path: orders, " + more + "}")
}

func onEvent(more string) string {
	return trigger("type: Event, event: {source: kubernetes, name: Pod, " + more + "}")
}

func scheduled(more string) string {
	return trigger(`type: Scheduled, scheduled: {cron: "@daily", ` + more + "}")
}

const stepEntry = "{name: s%d, type: transform}"

var long = strings.Repeat("x", 16385)

// workflowCases have an accept and a reject case for each rule of the Workflow's schema.
var workflowCases = []apiCase{
	{"least", with(""), ""},
	{"no step", "{steps: []}", "spec.steps"},
	{"a hundred steps", "{steps: " + many(100, stepEntry) + "}", ""},
	{"101 steps", "{steps: " + many(101, stepEntry) + "}", "spec.steps"},
	{"a hundred with handlers", "{steps: " + many(98, stepEntry) + ", onSuccess: [{name: b, type: wait}], always: [{name: c, type: wait}]}", ""},
	{"101 with handlers", "{steps: " + many(99, stepEntry) + ", onFailure: [{name: b, type: wait}], always: [{name: c, type: wait}]}", "at most 100 steps, its handlers included"},
	{"17 handlers", with("always: " + many(17, stepEntry)), "spec.always"},
	{"a step twice", "{steps: [{name: a, type: wait}, {name: a, type: wait}]}", "Duplicate value"},
	{"a step's name", "{steps: [{name: A, type: wait}]}", "spec.steps[0].name"},
	{"a long name", "{steps: [{name: " + strings.Repeat("a", 64) + ", type: wait}]}", "spec.steps[0].name"},
	{"a step without a type", "{steps: [{name: a}]}", "spec.steps[0].type"},
	{"an empty type", `{steps: [{name: a, type: ""}]}`, "spec.steps[0].type"},
	{"needs", step("needs: [b]"), ""},
	{"a step that needs itself", step("needs: [b, a]"), "a step cannot need itself"},
	{"a need twice", step("needs: [b, b]"), "Duplicate value"},
	{"when", step("when: 'true'"), ""},
	{"a long expression", step("when: " + long), "spec.steps[0].when"},
	{"a step's timeout", step("timeout: 720h"), ""},
	{"a step without time", step("timeout: 0s"), "timeout must be more than 0s and at most 720h"},
	{"a step for ever", step("timeout: 721h"), "timeout must be more than 0s and at most 720h"},
	{"onError", step("onError: Continue"), ""},
	{"another onError", step("onError: Ignore"), "spec.steps[0].onError"},
	{"forEach", step(`forEach: {items: [1, "${{ x }}"], parallelism: 100}`), ""},
	{"forEach of nothing", step(`forEach: {parallelism: 1}`), "spec.steps[0].forEach.items"},
	{"forEach at once", step(`forEach: {items: [1], parallelism: 101}`), "spec.steps[0].forEach.parallelism"},
	{"forEach never", step(`forEach: {items: [1], parallelism: 0}`), "spec.steps[0].forEach.parallelism"},
	{"retry", step("retry: {attempts: 20, delay: 1s, maxDelay: 1m, factor: 10, jitterPercent: 0}"), ""},
	{"retry without a bound", step("retry: {}"), "spec.steps[0].retry.attempts"},
	{"too many attempts", step("retry: {attempts: 21}"), "spec.steps[0].retry.attempts"},
	{"a small factor", step("retry: {attempts: 2, factor: 0}"), "spec.steps[0].retry.factor"},
	{"a large factor", step("retry: {attempts: 2, factor: 11}"), "spec.steps[0].retry.factor"},
	{"more than all jitter", step("retry: {attempts: 2, jitterPercent: 101}"), "spec.steps[0].retry.jitterPercent"},
	{"64 outputs", step("outputs: " + outputs(64)), ""},
	{"65 outputs", step("outputs: " + outputs(65)), "spec.steps[0].outputs"},
	{"64 outputs of a run", with("outputs: " + outputs(64)), ""},
	{"65 outputs of a run", with("outputs: " + outputs(65)), "spec.outputs"},
	{"inputs", with("inputs: [{name: A_1, type: array, default: [1], description: x}]"), ""},
	{"65 inputs", with("inputs: " + many(65, "{name: a%d}")), "spec.inputs"},
	{"an input twice", with("inputs: [{name: a}, {name: a}]"), "Duplicate value"},
	{"an input's name", with("inputs: [{name: a-b}]"), "spec.inputs[0].name"},
	{"an input's type", with("inputs: [{name: a, type: int}]"), "spec.inputs[0].type"},
	{"a long description", with("inputs: [{name: a, description: " + strings.Repeat("x", 1025) + "}]"), "spec.inputs[0].description"},
	{"a Platform's name", with(`platformRef: {name: ""}`), "spec.platformRef.name"},
	{"timeout", with("timeout: 720h"), ""},
	{"no time", with("timeout: 0s"), "timeout must be more than 0s and at most 720h"},
	{"for ever", with("timeout: 721h"), "timeout must be more than 0s and at most 720h"},
	{"concurrency", with("concurrency: {max: 10000, policy: CancelPrevious, key: inputs.a}"), ""},
	{"no run at a time", with("concurrency: {max: 0}"), "spec.concurrency.max"},
	{"too many at a time", with("concurrency: {max: 10001}"), "spec.concurrency.max"},
	{"another policy", with("concurrency: {max: 1, policy: Wait}"), "spec.concurrency.policy"},
	{"a long key", with("concurrency: {max: 1, key: " + long + "}"), "spec.concurrency.key"},
	{"history", with("history: {successful: 0, failed: 10000, ttl: 1m}"), ""},
	{"a negative history", with("history: {successful: -1}"), "spec.history.successful"},
	{"too much history", with("history: {failed: 10001}"), "spec.history.failed"},
	{"history of no time", with("history: {ttl: 1s}"), "ttl must be from 1m to 87600h"},
	{"history for ever", with("history: {ttl: 87601h}"), "ttl must be from 1m to 87600h"},
	{"a Secret", connection("ref: {name: x}"), ""},
	{"a Platform", connection("ref: {kind: Platform, name: x}, backend: kafka"), ""},
	{"a Platform without a backend", connection("ref: {kind: Platform, name: x}"), "backend must be set when ref.kind is Platform, and only then"},
	{"a Secret with a backend", connection("ref: {name: x}, backend: kafka"), "backend must be set when ref.kind is Platform, and only then"},
	{"another backend", connection("ref: {kind: Platform, name: x}, backend: oracle"), "spec.connections[0].backend"},
	{"another kind", connection("ref: {kind: ConfigMap, name: x}"), "spec.connections[0].ref.kind"},
	{"nothing named", connection("ref: {}"), "spec.connections[0].ref.name"},
	{"a connection's name", with("connections: [{name: A, ref: {name: x}}]"), "spec.connections[0].name"},
	{"a connection twice", with("connections: [{name: a, ref: {name: x}}, {name: a, ref: {name: x}}]"), "Duplicate value"},
	{"33 connections", with("connections: " + many(33, "{name: c%d, ref: {name: x}}")), "spec.connections"},
}

func outputs(n int) string {
	return strings.NewReplacer("[", "{", "]", "}").Replace(many(n, "o%d: 1"))
}

// triggerCases are the cases of triggers.
var triggerCases = []apiCase{
	{"by hand", trigger("type: Manual"), ""},
	{"another trigger", trigger("type: Mail"), "spec.triggers[0].type"},
	{"a trigger's name", with("triggers: [{name: A, type: Manual}]"), "spec.triggers[0].name"},
	{"a trigger twice", with("triggers: [{name: a, type: Manual}, {name: a, type: API}]"), "Duplicate value"},
	{"33 triggers", with("triggers: " + many(33, "{name: t%d, type: Manual}")), "spec.triggers"},
	{"65 inputs of a trigger", trigger("type: Manual, inputs: " + outputs(65)), "spec.triggers[0].inputs"},
	{"scheduled", scheduled("timeZone: Europe/Berlin, startingDeadline: 720h, missed: RunAll"), ""},
	{"scheduled without a line", trigger("type: Scheduled"), "scheduled must be set when type is Scheduled, and only then"},
	{"a line by hand", trigger(`type: Manual, scheduled: {cron: "@daily"}`), "scheduled must be set when type is Scheduled, and only then"},
	{"an empty line", trigger(`type: Scheduled, scheduled: {cron: ""}`), "spec.triggers[0].scheduled.cron"},
	{"a long line", trigger(`type: Scheduled, scheduled: {cron: ` + strings.Repeat("x", 257) + `}`), "spec.triggers[0].scheduled.cron"},
	{"a long zone", scheduled("timeZone: " + strings.Repeat("x", 65)), "spec.triggers[0].scheduled.timeZone"},
	{"no deadline", scheduled("startingDeadline: 0s"), "startingDeadline must be more than 0s and at most 720h"},
	{"a late deadline", scheduled("startingDeadline: 721h"), "startingDeadline must be more than 0s and at most 720h"},
	{"another missed", scheduled("missed: Some"), "spec.triggers[0].scheduled.missed"},
	{"a webhook", hook("auth: {hmacSecretRef: {kind: VaultSecret, name: x, key: k}}, respond: WaitForResult, maxPayloadBytes: 8388608"), ""},
	{"a webhook without a path", trigger("type: Webhook"), "webhook must be set when type is Webhook, and only then"},
	{"a path by hand", trigger("type: Manual, webhook: {path: a}"), "webhook must be set when type is Webhook, and only then"},
	{"a path", trigger("type: Webhook, webhook: {path: a/b.c/d_e}"), ""},
	{"a path upwards", trigger("type: Webhook, webhook: {path: a/../b}"), "spec.triggers[0].webhook.path"},
	{"an absolute path", trigger("type: Webhook, webhook: {path: /a}"), "spec.triggers[0].webhook.path"},
	{"a long path", trigger("type: Webhook, webhook: {path: " + strings.Repeat("a", 129) + "}"), "spec.triggers[0].webhook.path"},
	{"another answer", hook("respond: Never"), "spec.triggers[0].webhook.respond"},
	{"no payload", hook("maxPayloadBytes: 0"), "spec.triggers[0].webhook.maxPayloadBytes"},
	{"a large payload", hook("maxPayloadBytes: 8388609"), "spec.triggers[0].webhook.maxPayloadBytes"},
	{"an unsigned proof", hook("auth: {}"), "spec.triggers[0].webhook.auth.hmacSecretRef"},
	{"a key of a Platform", hook("auth: {hmacSecretRef: {kind: Platform, name: x}}"), "spec.triggers[0].webhook.auth.hmacSecretRef.kind"},
	{"a key of nothing", hook("auth: {hmacSecretRef: {}}"), "spec.triggers[0].webhook.auth.hmacSecretRef.name"},
	{"a key's name", hook("auth: {hmacSecretRef: {name: x, key: a/b}}"), "spec.triggers[0].webhook.auth.hmacSecretRef.key"},
	{"an event", onEvent("filter: 'true', dedupeKey: '\"a\"'"), ""},
	{"an event without a source", trigger("type: Event"), "event must be set when type is Event, and only then"},
	{"a source by hand", trigger("type: Manual, event: {source: kubernetes, name: Pod}"), "event must be set when type is Event, and only then"},
	{"another source", trigger("type: Event, event: {source: nats, name: a, connectionRef: {name: c}}"), "spec.triggers[0].event.source"},
	{"a queue", trigger("type: Event, event: {source: rabbitmq, name: a, connectionRef: {name: c}}"), ""},
	{"a queue of nobody", trigger("type: Event, event: {source: rabbitmq, name: a}"), "connectionRef must be set for rabbitmq and kafka, and only then"},
	{"events by a connection", onEvent("connectionRef: {name: c}"), "connectionRef must be set for rabbitmq and kafka, and only then"},
	{"a connection of no name", trigger(`type: Event, event: {source: kafka, name: a, connectionRef: {name: ""}}`), "spec.triggers[0].event.connectionRef.name"},
	{"a topic of no name", trigger("type: Event, event: {source: kafka, connectionRef: {name: c}}"), "spec.triggers[0].event.name"},
	{"a long topic", trigger("type: Event, event: {source: kafka, connectionRef: {name: c}, name: " + strings.Repeat("a", 250) + "}"), "spec.triggers[0].event.name"},
	{"a long filter", onEvent("filter: " + long), "spec.triggers[0].event.filter"},
	{"a long dedupeKey", onEvent("dedupeKey: " + long), "spec.triggers[0].event.dedupeKey"},
	{"a large message", onEvent("maxPayloadBytes: 8388609"), "spec.triggers[0].event.maxPayloadBytes"},
	{"an API", trigger("type: API, api: {idempotencyKeyHeader: X-Key}"), ""},
	{"an API with defaults", trigger("type: API"), ""},
	{"an API by hand", trigger("type: Manual, api: {}"), "api may be set only when type is API"},
	{"a header", trigger(`type: API, api: {idempotencyKeyHeader: "a b"}`), "spec.triggers[0].api.idempotencyKeyHeader"},
}

func parse(t *testing.T, kind, spec, namespace string) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("{spec: "+spec+"}"), &out.Object); err != nil {
		t.Fatalf("%v: %s", err, spec)
	}
	out.SetGroupVersionKind(workflowv1alpha1.GroupVersion.WithKind(kind))
	out.SetNamespace(namespace)
	out.SetName("a")
	return out
}

func check(t *testing.T, err error, says string) {
	t.Helper()
	g := NewWithT(t)
	if says == "" {
		g.Expect(err).NotTo(HaveOccurred())
		return
	}
	g.Expect(err).To(MatchError(ContainSubstring(says)))
}

func TestWorkflowSchema(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for _, test := range append(workflowCases, triggerCases...) {
		t.Run(test.name, func(t *testing.T) {
			check(t, c.Create(t.Context(), parse(t, "Workflow", test.spec, namespace), client.DryRunAll), test.says)
		})
	}
}

func TestWorkflowDefaults(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	live := parse(t, "Workflow", "{steps: [{name: a, type: transform, retry: {attempts: 2}, forEach: {items: []}}], inputs: [{name: a}], concurrency: {max: 1}, triggers: ["+
		`{name: s, type: Scheduled, scheduled: {cron: "@daily"}}, {name: h, type: Webhook, webhook: {path: a, auth: {hmacSecretRef: {name: x}}}}]}`, namespace)
	if err := c.Create(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	of := &workflowv1alpha1.Workflow{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(live), of); err != nil {
		t.Fatal(err)
	}
	g, s := NewWithT(t), &of.Spec
	g.Expect([]time.Duration{s.Timeout.Duration, s.History.TTL.Duration, s.Steps[0].Retry.Delay.Duration, s.Steps[0].Retry.MaxDelay.Duration}).
		To(Equal([]time.Duration{time.Hour, 168 * time.Hour, time.Second, 5 * time.Minute}))
	g.Expect([]int32{*s.History.Successful, *s.History.Failed, s.Steps[0].Retry.Factor, *s.Steps[0].Retry.JitterPercent, s.Steps[0].ForEach.Parallelism}).
		To(Equal([]int32{10, 10, 2, 20, 10}))
	hook := s.Triggers[1].Webhook
	g.Expect([]string{s.Inputs[0].Type, s.Steps[0].OnError, s.Concurrency.Policy, s.Triggers[0].Scheduled.TimeZone, s.Triggers[0].Scheduled.Missed, hook.Respond,
		string(hook.Auth.HMACSecretRef.Kind), hook.Auth.HMACSecretRef.Key}).To(Equal([]string{"string", "Fail", "Queue", "UTC", "RunOnce", "Accepted", "Secret", "hmac"}))
	g.Expect(hook.MaxPayloadBytes).To(Equal(int64(1 << 20)))
}

const rerun = `rerun: {run: 01234567-89ab-cdef-0123-456789abcdef, fromStep: a}`

func TestRunSchema(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for _, test := range []apiCase{
		{"least", "{workflowRef: {name: w}}", ""},
		{"no Workflow", "{}", "spec.workflowRef"},
		{"a Workflow of no name", `{workflowRef: {name: ""}}`, "spec.workflowRef.name"},
		{"inputs", "{workflowRef: {name: w}, inputs: {a: 1, b: [x]}}", ""},
		{"inputs that are none", "{workflowRef: {name: w}, inputs: [1]}", "spec.inputs"},
		{"again", "{workflowRef: {name: w}, " + rerun + "}", ""},
		{"again with inputs", "{workflowRef: {name: w}, inputs: {a: 1}, " + rerun + "}", "inputs and rerun exclude each other"},
		{"again of no run", "{workflowRef: {name: w}, rerun: {run: x, fromStep: a}}", "spec.rerun.run"},
		{"again from nowhere", "{workflowRef: {name: w}, rerun: {run: 01234567-89ab-cdef-0123-456789abcdef}}", "spec.rerun.fromStep"},
		{"kept", "{workflowRef: {name: w}, ttlAfterFinished: 0s}", ""},
		{"kept for ever", "{workflowRef: {name: w}, ttlAfterFinished: 8761h}", "ttlAfterFinished must be from 0s to 8760h"},
		{"kept less than not", "{workflowRef: {name: w}, ttlAfterFinished: -1s}", "ttlAfterFinished must be from 0s to 8760h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			check(t, c.Create(t.Context(), parse(t, "WorkflowRun", test.spec, namespace), client.DryRunAll), test.says)
		})
	}
}

func TestRunSchemaOnUpdate(t *testing.T) {
	c, _ := ctrltest.Env(t)
	const stays = "a run stays what it was started as"
	for _, test := range []struct{ name, before, after, says string }{
		{"cancelled", "{workflowRef: {name: w}}", "{workflowRef: {name: w}, cancel: true}", ""},
		{"kept for another time", "{workflowRef: {name: w}}", "{workflowRef: {name: w}, ttlAfterFinished: 1h}", ""},
		{"taken back", "{workflowRef: {name: w}, cancel: true}", "{workflowRef: {name: w}, cancel: false}", "a run that was cancelled stays so"},
		{"left out", "{workflowRef: {name: w}, cancel: true}", "{workflowRef: {name: w}}", "a run that was cancelled stays so"},
		{"another Workflow", "{workflowRef: {name: w}}", "{workflowRef: {name: v}}", stays},
		{"inputs afterwards", "{workflowRef: {name: w}}", "{workflowRef: {name: w}, inputs: {a: 1}}", stays},
		{"again afterwards", "{workflowRef: {name: w}}", "{workflowRef: {name: w}, " + rerun + "}", stays},
		{"again from elsewhere", "{workflowRef: {name: w}, " + rerun + "}", "{workflowRef: {name: w}, " + strings.Replace(rerun, "fromStep: a", "fromStep: b", 1) + "}", stays},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := ctrltest.Namespace(t)
			run := parse(t, "WorkflowRun", test.before, namespace)
			if err := c.Create(t.Context(), run); err != nil {
				t.Fatal(err)
			}
			after := parse(t, "WorkflowRun", test.after, namespace)
			after.SetResourceVersion(run.GetResourceVersion())
			check(t, c.Update(t.Context(), after, client.DryRunAll), test.says)
		})
	}
}

// TestServiceStatusIsValid: what the service writes passes the schema of status.
func TestServiceStatusIsValid(t *testing.T) {
	w := newCell(t)
	of := w.workflow(least("a"))
	w.serve(of)
	run := w.run("a", "r")
	w.Expect(w.tell(run, map[string]any{"phase": "Paused"})).To(MatchError(ContainSubstring("status.phase")))
	now := metav1.Now().UTC().Format(time.RFC3339)
	w.Expect(w.tell(run, map[string]any{"phase": "Running", "run": "x", "step": "a", "startedAt": now, "workflowGeneration": 1})).To(Succeed())
}
