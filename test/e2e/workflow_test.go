// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	amqp "github.com/rabbitmq/amqp091-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// flows calls the quickstart's Workflow service as an administrator.
type flows struct {
	*cluster
	address, token string
	// began distinguishes the runs of this test from those of an earlier one on the same cluster, and makes its keys
	// unique.
	began time.Time
}

// workflows runs Workflow on the quickstart's Platform, and logs in there with a token of its Vault.
func (c *cluster) workflows() *flows {
	c.t.Helper()
	c.unlimited()
	c.runsWorkflow()
	return &flows{cluster: c, address: "http://" + c.service("main-workflow", 8080) + "/api/v1", token: c.administrator(), began: time.Now()}
}

// call sends a request, and reads the data of its response.
func (f *flows) call(method, path string, body, data any, headers ...string) (status int) {
	f.t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		f.Expect(err).NotTo(HaveOccurred())
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(f.ctx, method, f.address+path, reader)
	f.Expect(err).NotTo(HaveOccurred())
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+f.token)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	f.Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	answer := struct {
		Data  any             `json:"data"`
		Error json.RawMessage `json:"error"`
	}{Data: data}
	text, err := io.ReadAll(response.Body)
	f.Expect(err).NotTo(HaveOccurred())
	if data != nil {
		f.Expect(response.StatusCode).To(BeNumerically("<", 300), "%s %s: %s", method, path, text)
		f.Expect(json.Unmarshal(text, &answer)).To(Succeed(), string(text))
	}
	return response.StatusCode
}

// run is a run as returned by the service.
type run struct {
	ID         string
	Phase      string
	Step       string
	Error      string
	Generation int64
	Attempt    int
	RerunFrom  string
	Trigger    struct{ Type, Name string }
	StartedAt  time.Time
	FinishedAt time.Time
	Outputs    map[string]any
}

// define applies a Workflow and waits until it is Ready.
func (f *flows) define(name, spec string) {
	f.t.Helper()
	w := &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	f.Expect(client.IgnoreNotFound(f.client.Delete(f.ctx, w))).To(Succeed())
	f.Eventually(func() error { return client.IgnoreNotFound(f.client.Get(f.ctx, client.ObjectKeyFromObject(w), w)) }, patience, often).Should(Succeed())
	fresh := &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	f.Expect(yaml.UnmarshalStrict([]byte(spec), &fresh.Spec)).To(Succeed(), spec)
	f.Eventually(func() error { return f.client.Create(f.ctx, fresh) }, patience, often).Should(Succeed())
	f.after(func(c *cluster) { _ = c.client.Delete(c.ctx, fresh) })
	f.ready(name)
}

func (f *flows) ready(name string) *workflowv1alpha1.Workflow {
	f.t.Helper()
	var w workflowv1alpha1.Workflow
	f.Eventually(func(g Gomega) {
		g.Expect(f.client.Get(f.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &w)).To(Succeed())
		condition := meta.FindStatusCondition(w.Status.Conditions, common.ConditionReady)
		g.Expect(condition).NotTo(BeNil())
		g.Expect(condition.ObservedGeneration).To(Equal(w.Generation))
		g.Expect(condition.Status).To(Equal(metav1.ConditionTrue), "%s: %s", condition.Reason, condition.Message)
	}, patience, often).Should(Succeed())
	return &w
}

func (f *flows) start(workflow string, inputs map[string]any) string {
	f.t.Helper()
	var r run
	f.call(http.MethodPost, "/workflows/"+workflow+"/runs", map[string]any{"inputs": inputs}, &r)
	return r.ID
}

// ended waits for the end of a run.
func (f *flows) ended(id, phase string) run {
	f.t.Helper()
	var r run
	f.Eventually(func() string {
		r = run{}
		f.call(http.MethodGet, "/runs/"+id, nil, &r)
		return r.Phase
	}, patience, 20*time.Millisecond).Should(BeElementOf("Succeeded", "Failed", "Cancelled", "TimedOut"))
	f.Expect(r.Phase).To(Equal(phase), r.Error)
	return r
}

// of lists the runs of a workflow that this test has started, the newest first.
func (f *flows) of(workflow string) []run {
	f.t.Helper()
	var page struct{ Items []run }
	f.call(http.MethodGet, "/workflows/"+workflow+"/runs", nil, &page)
	return slices.DeleteFunc(page.Items, func(r run) bool { return r.StartedAt.Before(f.began) })
}

const one = "\nsteps: [{name: a, type: transform, with: {value: 1}}]\n"

// TestWorkflows runs the examples of Workflow's documentation on the cluster.
func TestWorkflows(t *testing.T) {
	f := connect(t).workflows()
	for name, test := range map[string]func(*flows){
		"triggers": triggers, "chain": chain, "fan-out": fanOut, "approval": approval, "rerun": rerun, "pipeline": pipelines,
		"children": children, "resources": resources, "refusals": refusals,
	} {
		t.Run(name, func(t *testing.T) {
			c := *f.cluster
			c.WithT, c.t, c.ctx = NewWithT(t), t, t.Context()
			test(&flows{cluster: &c, address: f.address, token: f.token, began: f.began})
		})
	}
}

// triggers starts a run by each type of trigger.
func triggers(f *flows) {
	f.define("e2e-manual", "triggers: [{name: hand, type: Manual}]"+one)
	r := f.ended(f.start("e2e-manual", nil), "Succeeded")
	f.Expect(r.Trigger.Type).To(Equal("Manual"))

	f.define("e2e-api", "triggers: [{name: rest, type: API, api: {idempotencyKeyHeader: X-Order}}]"+one)
	var first, again run
	start, order := map[string]any{"trigger": "rest"}, fmt.Sprint(f.began.UnixNano())
	f.call(http.MethodPost, "/workflows/e2e-api/runs", start, &first, "X-Order", order)
	f.call(http.MethodPost, "/workflows/e2e-api/runs", start, &again, "X-Order", order)
	f.Expect(again.ID).To(Equal(first.ID), "one key, one run")
	f.ended(first.ID, "Succeeded")

	f.define("e2e-scheduled", `triggers: [{name: minute, type: Scheduled, scheduled: {cron: "* * * * *", timeZone: Europe/Berlin}}]`+one)
	w := f.ready("e2e-scheduled")
	f.Expect(w.Status.Next).NotTo(BeNil())
	webhook(f)
	messages(f)
	records(f)
	changes(f)
	f.Eventually(func() int { return len(f.of("e2e-scheduled")) }, patience, often).Should(BeNumerically(">=", 1))
	r = f.of("e2e-scheduled")[0]
	f.Expect([]string{r.Trigger.Type, r.Trigger.Name}).To(Equal([]string{"Scheduled", "minute"}))
}

// webhook calls with a valid signature, an invalid one, and the valid one again.
func webhook(f *flows) {
	const key = "e2e-key-of-the-webhook"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "e2e-webhook", Namespace: namespace}, StringData: map[string]string{"hmac": key}}
	_ = f.client.Delete(f.ctx, secret)
	f.Expect(f.client.Create(f.ctx, secret)).To(Succeed())
	f.define("e2e-webhook", `inputs: [{name: who}]
triggers: [{name: hook, type: Webhook, webhook: {path: e2e/hook, respond: WaitForResult, auth: {hmacSecretRef: {name: e2e-webhook}}}, inputs: {who: "${{ trigger.body.who }}"}}]
steps: [{name: a, type: transform, with: {value: "hello ${{ inputs.who }}"}}]
outputs: {said: "${{ steps.a.output }}"}`)
	body, now := map[string]string{"who": "ada"}, strconv.FormatInt(time.Now().Unix(), 10)
	text, err := json.Marshal(body)
	f.Expect(err).NotTo(HaveOccurred())
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s", now, text)
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	var answer struct{ Outputs map[string]any }
	f.call(http.MethodPost, "/webhooks/e2e/hook", body, &answer, "Authorization", "", "X-Timestamp", now, "X-Signature-256", signature)
	f.Expect(answer.Outputs).To(HaveKeyWithValue("said", "hello ada"))
	f.Expect(f.call(http.MethodPost, "/webhooks/e2e/hook", body, nil, "Authorization", "", "X-Timestamp", now, "X-Signature-256", signature)).To(Equal(http.StatusConflict), "replayed")
	f.Expect(f.call(http.MethodPost, "/webhooks/e2e/hook", map[string]string{"who": "eve"}, nil, "Authorization", "", "X-Timestamp", now, "X-Signature-256", signature)).To(Equal(http.StatusUnauthorized))
	f.Expect(f.of("e2e-webhook")).To(HaveLen(1))
	f.Eventually(func(g Gomega) {
		status := f.ready("e2e-webhook").Status
		g.Expect(status.Triggers).To(HaveLen(1))
		g.Expect(status.Triggers[0].Rejected).To(BeNumerically(">=", 1))
		g.Expect(status.Triggers[0].URL).To(HaveSuffix("/api/v1/webhooks/e2e/hook"))
	}, patience, often).Should(Succeed())
}

// messages starts one run for each message of a RabbitMQ queue that matches the filter.
func messages(f *flows) {
	b := f.binding("rabbitmq")
	admin, err := rabbitmq.New(b)
	f.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // it never fails
	f.Expect(admin.EnsureQueue(f.ctx, rabbitmq.Queue{Name: "e2e-orders", Durable: true, Type: "quorum"})).To(Succeed())
	f.define("e2e-rabbitmq", `inputs: [{name: id, type: integer}]
connections: [{name: mq, ref: {kind: Platform, name: main}, backend: rabbitmq}]
triggers:
- {name: orders, type: Event, event: {source: rabbitmq, connectionRef: {name: mq}, name: e2e-orders, filter: trigger.body.paid, dedupeKey: string(trigger.body.id)}, inputs: {id: "${{ trigger.body.id }}"}}`+one)
	conn, err := rabbitmq.Dial(f.ctx, b)
	f.Expect(err).NotTo(HaveOccurred())
	defer conn.Close()
	channel, err := conn.Channel()
	f.Expect(err).NotTo(HaveOccurred())
	id := f.began.UnixMilli()
	for _, text := range []string{
		fmt.Sprintf(`{"id":%d,"paid":true}`, id), fmt.Sprintf(`{"id":%d,"paid":false}`, id+1), fmt.Sprintf(`{"id":%d,"paid":true}`, id), `no JSON`,
		fmt.Sprintf(`{"id":%d,"paid":true}`, id+2),
	} {
		f.Expect(channel.PublishWithContext(f.ctx, "", "e2e-orders", true, false, amqp.Publishing{Body: []byte(text), ContentType: "application/json"})).To(Succeed())
	}
	f.Eventually(func() int { return len(f.of("e2e-rabbitmq")) }, patience, often).Should(Equal(2))
	f.Eventually(func() int64 { return f.ready("e2e-rabbitmq").Status.Triggers[0].Rejected }, patience, often).Should(BeNumerically(">=", 1), "the text that is not JSON")
	f.Expect(f.of("e2e-rabbitmq")).To(HaveLen(2))
}

// records starts runs for records of a Kafka topic that a Pipeline writes.
func records(f *flows) {
	f.remove("e2e-records")
	f.create(&dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-records"},
		Spec: dataflowv1alpha1.PipelineSpec{
			DeletionPolicy: common.DeletionDelete,
			Sources:        []dataflowv1alpha1.Source{{Name: "in", Type: "generate", Config: raw(`{"rate":20}`)}},
			Sinks:          []dataflowv1alpha1.Sink{{Name: "out", Type: "kafka", Config: raw(`{"topic":"e2e-records","partitions":1}`)}},
		},
	})
	f.cluster.ready("e2e-records", dataflowv1alpha1.PhaseRunning)
	f.define("e2e-kafka", fmt.Sprintf(`connections: [{name: bus, ref: {kind: Platform, name: main}, backend: kafka}]
triggers: [{name: bus, type: Event, event: {source: kafka, connectionRef: {name: bus}, name: e2e-records, filter: trigger.body.sequence %% 40 == 0, dedupeKey: "'%d-' + string(trigger.body.sequence / 40 %% 3)"}}]`, f.began.UnixNano())+one)
	f.Eventually(func() int { return len(f.of("e2e-kafka")) }, patience, often).Should(Equal(3))
	f.remove("e2e-records")
}

// changes starts a run when a Job of the namespace is added.
func changes(f *flows) {
	f.define("e2e-kubernetes", `triggers:
- {name: done, type: Event, event: {source: kubernetes, name: Job, filter: 'trigger.body.type == "Added" && trigger.body.object.metadata.name.startsWith("wf-")'}}`+one)
	f.define("e2e-job", fmt.Sprintf(`triggers: [{name: hand, type: Manual}]
steps: [{name: job, type: job, with: {image: %q, command: [/bin/sh, -c, "echo from a Pod"], timeout: 2m}}]
outputs: {said: "${{ steps.job.output.logs }}", code: "${{ steps.job.output.exitCode }}"}`, f.postgresImage()))
	r := f.ended(f.start("e2e-job", nil), "Succeeded")
	f.Expect(r.Outputs["said"]).To(ContainSubstring("from a Pod"))
	f.Expect(r.Outputs["code"]).To(Equal(0.0))
	f.Eventually(func() int { return len(f.of("e2e-kubernetes")) }, patience, often).Should(Equal(1))
}

// postgresImage returns an image of the cluster that has a shell.
func (c *cluster) postgresImage() string {
	c.t.Helper()
	var pod corev1.Pod
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: "main-postgresql-0"}, &pod)).To(Succeed())
	return pod.Spec.Containers[0].Image
}

// chain runs a hundred steps, one after the other.
func chain(f *flows) {
	var steps strings.Builder
	for i := range 100 {
		value, needs := "1", ""
		if i > 0 {
			value, needs = fmt.Sprintf(`"${{ steps.s%d.output + 1 }}"`, i-1), fmt.Sprintf("needs: [s%d], ", i-1)
		}
		fmt.Fprintf(&steps, "- {name: s%d, %stype: transform, with: {value: %s}}\n", i, needs, value)
	}
	f.define("e2e-chain", "triggers: [{name: hand, type: Manual}]\nsteps:\n"+steps.String()+`outputs: {last: "${{ steps.s99.output }}"}`)
	r := f.ended(f.start("e2e-chain", nil), "Succeeded")
	f.Expect(r.Outputs).To(HaveKeyWithValue("last", 100.0))
	f.t.Logf("100 steps in %s", r.FinishedAt.Sub(r.StartedAt))
}

// fanOut runs ten steps of ten items each.
func fanOut(f *flows) {
	var steps strings.Builder
	var names []string
	for i := range 10 {
		fmt.Fprintf(&steps, `- {name: f%d, type: transform, forEach: {items: "${{ inputs.list }}"}, with: {value: "${{ item * %d }}"}}`+"\n", i, i+1)
		names = append(names, fmt.Sprintf("f%d", i))
	}
	f.define("e2e-fan", "inputs: [{name: list, type: array}]\ntriggers: [{name: hand, type: Manual}]\nsteps:\n"+steps.String()+
		"- {name: sum, needs: ["+strings.Join(names, ", ")+"], type: script, with: {source: \"def main(steps):\\n  total = 0\\n  for s in steps.values():\\n    for n in s['output']: total += n\\n  return total\"}}\n"+
		`outputs: {sum: "${{ steps.sum.output.result }}"}`)
	r := f.ended(f.start("e2e-fan", map[string]any{"list": []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}), "Succeeded")
	f.Expect(r.Outputs).To(HaveKeyWithValue("sum", 3025.0))
	f.t.Logf("10 x 10 items in %s", r.FinishedAt.Sub(r.StartedAt))
}

// approval waits for a decision over REST.
func approval(f *flows) {
	f.define("e2e-approval", `triggers: [{name: hand, type: Manual}]
steps: [{name: ask, type: approval, with: {approvers: [admin], message: "Ship?"}}, {name: ship, needs: [ask], type: transform, with: {value: "${{ steps.ask.output.by }}"}}]
outputs: {by: "${{ steps.ship.output }}"}`)
	for decision, phase := range map[string]string{"approve": "Succeeded", "reject": "Failed"} {
		id := f.start("e2e-approval", nil)
		f.Eventually(func() string {
			var r run
			f.call(http.MethodGet, "/runs/"+id, nil, &r)
			return r.Phase + " " + r.Step
		}, patience, often).Should(Equal("Waiting ask"))
		f.call(http.MethodPost, "/runs/"+id+"/steps/ask/decision", map[string]string{"decision": decision}, &run{})
		f.ended(id, phase)
	}
}
