// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// mega is a string of five MiB.
var mega = strings.Repeat("0123456789abcde\n", 5<<16)

func large(context.Context, Call) (Result, error) {
	return Result{Output: map[string]any{"text": mega, "n": 7}}, nil
}

// withBucket returns a harness with a bucket and outputs of up to 8 MiB.
func withBucket(t *testing.T, s *script) (*harness, *s3.Fake) {
	t.Helper()
	bucket := s3.NewFake()
	return launch(t, Options{Executor: s, Bucket: bucket, Store: store.Options{MaxOutput: 8 << 20}}), bucket
}

// chain passes a large output through three steps.
const chain = `{"steps":[{"name":"a","type":"x","outputs":{"again":"${{ result.text }}"}},
	{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output }}"}},
	{"name":"c","type":"x","needs":["b"],"with":{"value":"${{ steps.b.output.text + steps.a.outputs.again }}"}},
	{"name":"d","type":"x","needs":["c"],"with":{"value":"${{ string(size(steps.c.output)) + steps.a.status }}"}}],
	"outputs":{"size":"${{ size(steps.c.output) }}","n":"${{ steps.b.output.n }}"}}`

func TestLargeOutputs(t *testing.T) {
	bucket := s3.NewFake()
	r := launch(t, Options{Executor: (&script{}).on("a", large), Bucket: bucket, Store: store.Options{MaxOutput: 11 << 20}})
	id := r.start(chain, nil)
	r.wait(id, store.Succeeded)
	steps := r.steps(id)
	if want := fmt.Sprintf(`"%dSucceeded"`, 2*len(mega)); string(steps["d"].Output) != want {
		t.Errorf("output of the last step = %.80s, want %s", steps["d"].Output, want)
	}
	for _, name := range []string{"a", "b", "c"} {
		if n := len(steps[name].Output); n > 1024 {
			t.Errorf("%d bytes of the output of %s are in the database", n, name)
		}
	}
	if got := len(bucket.Keys()); got != 4 { // three outputs and the named ones of a
		t.Errorf("%d objects: %q", got, bucket.Keys())
	}
	// b reads one, c two and d one: using only a status reads nothing, and nothing is read twice.
	if got := bucket.Calls("Get"); got != 4 {
		t.Errorf("objects were read %d times, want 4", got)
	}
	outputs, err := r.Outputs(t.Context(), id)
	if err == nil || outputs != nil {
		t.Errorf("outputs from values larger than maxOutputBytes: %.80v, %v", outputs, err)
	}
}

func TestForgedReferencesAreRefused(t *testing.T) {
	forged := map[string]any{"$object": map[string]any{"key": "a/b", "bytes": int64(1), "sha256": ""}}
	gives := func(context.Context, Call) (Result, error) { return Result{Output: forged}, nil }
	within := func(context.Context, Call) (Result, error) { return Result{Output: []any{forged}}, nil }
	r, bucket := withBucket(t, (&script{}).on("forged", gives).on("ask", ask).on("within", within))
	for what, spec := range map[string]string{
		"an output":       `{"steps":[{"name":"forged","type":"x","retry":{"attempts":3,"delay":"1ms"}}]}`,
		"named outputs":   `{"steps":[{"name":"within","type":"x","outputs":{"x":"${{ result[0] }}"},"retry":{"attempts":3,"delay":"1ms"}}]}`,
		"an item's":       `{"steps":[{"name":"forged","type":"x","forEach":{"items":[1]},"retry":{"attempts":3,"delay":"1ms"}}]}`,
		"a written value": `{"steps":[{"name":"a","type":"x","with":{"value":{"$object":1}},"retry":{"attempts":3,"delay":"1ms"}}]}`,
	} {
		run := r.wait(r.start(spec, nil), store.Failed)
		if !strings.Contains(run.Error, payloads.ErrReserved.Error()) {
			t.Errorf("%s: the run failed with %q", what, run.Error)
		}
	}
	program := parse(t, `{"inputs":[{"name":"o","type":"object"}],"steps":[{"name":"a","type":"x"}]}`)
	for what, start := range map[string]Start{
		"a body":   {Workflow: "w", Program: program, Trigger: definition.TriggerInfo{Body: forged}},
		"an input": {Workflow: "w", Program: program, Inputs: map[string]any{"o": forged}},
	} {
		if _, _, err := r.Start(t.Context(), start); !errors.Is(err, backend.ErrInvalid) || !errors.Is(err, payloads.ErrReserved) {
			t.Errorf("%s: %v", what, err)
		}
	}
	id := r.start(`{"steps":[{"name":"ask","type":"x"}]}`, nil)
	r.wait(id, store.Waiting)
	if err := r.Resume(t.Context(), id, "ask", -1, forged); !errors.Is(err, backend.ErrInvalid) || !errors.Is(err, payloads.ErrReserved) {
		t.Errorf("data: %v", err)
	}
	// Nested in a value it is plain data.
	id = r.start(`{"steps":[{"name":"within","type":"x"},{"name":"b","type":"x","needs":["within"],
		"with":{"value":"${{ steps.within.output[0][\"$object\"].key }}"}}]}`, nil)
	r.wait(id, store.Succeeded)
	if got := string(r.steps(id)["b"].Output); got != `"a/b"` || bucket.Total() != 0 {
		t.Errorf("value = %s, with %d calls of the bucket", got, bucket.Total())
	}
}

// ask waits for data.
func ask(_ context.Context, c Call) (Result, error) {
	if c.Resume == nil {
		return Result{Wait: &Wait{Event: true}}, nil
	}
	return Result{Output: c.Resume.Data}, nil
}

// two has a large output, and a step that reads it after a wait and so from the database.
const two = `{"steps":[{"name":"a","type":"x"},{"name":"ask","type":"x","needs":["a"]},
	{"name":"b","type":"x","needs":["ask"],"with":{"value":"${{ size(steps.a.output.text) }}"},"retry":{"attempts":3,"delay":"1ms"}}]}`

func TestTamperedObjects(t *testing.T) {
	r, bucket := withBucket(t, (&script{}).on("a", large).on("ask", ask))
	other := r.start(`{"steps":[{"name":"a","type":"x"}]}`, nil)
	r.wait(other, store.Succeeded)
	write := func(data string) func(string, string) error {
		return func(_, key string) error { return bucket.Put(t.Context(), key, []byte(data)) }
	}
	for what, spoil := range map[string]func(id, key string) error{
		"altered": func(_, key string) error {
			data, err := bucket.Get(t.Context(), key, 8<<20)
			data[len(data)-10] = '8'
			return errors.Join(err, bucket.Put(t.Context(), key, data))
		},
		"shortened": write(`{"text":"short"}`),
		"longer":    write(strings.Repeat(" ", 8<<20)),
		"deleted":   func(_, key string) error { return bucket.Delete(t.Context(), key) },
		"another run's object": func(id, _ string) error {
			_, err := r.pool.Exec(t.Context(), `UPDATE steps SET output = (SELECT output FROM steps WHERE run = $2 AND step = 0) WHERE run = $1 AND step = 0`, id, other)
			return err
		},
	} {
		known := bucket.Keys()
		id := r.start(two, nil)
		r.wait(id, store.Waiting)
		keys := slices.DeleteFunc(bucket.Keys(), func(key string) bool { return slices.Contains(known, key) })
		if err := errors.Join(spoil(id, keys[0]), r.Resume(t.Context(), id, "ask", -1, nil)); err != nil {
			t.Fatal(err)
		}
		run := r.wait(id, store.Failed)
		if n := r.count(id, "StepRetried", "b"); n > 0 || !strings.Contains(run.Error, "object storage") || strings.Contains(run.Error, id) {
			t.Errorf("%s: the run failed after %d retries with %q", what, n, run.Error)
		}
	}
}

// TestBucketDown: outcomes and steps wait for it, and starts that need it are refused.
func TestBucketDown(t *testing.T) {
	r, bucket := withBucket(t, (&script{}).on("a", large).on("ask", ask))
	away := fmt.Errorf("no answer: %w", backend.ErrUnavailable)
	bucket.Fail("Put", away)
	id := r.start(two, nil)
	r.g.Eventually(func() int { return bucket.Calls("Put") }, long).Should(BeNumerically(">=", 3))
	begin := Start{Workflow: "w", Program: parse(t, two), Trigger: definition.TriggerInfo{Body: mega}}
	if _, _, err := r.Start(t.Context(), begin); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("start with a body that cannot be stored: %v", err)
	}
	r.wait(id, store.Running)
	bucket.Fail("Put", nil)
	r.wait(id, store.Waiting)
	bucket.Fail("Get", away)
	if err := r.Resume(t.Context(), id, "ask", -1, nil); err != nil {
		t.Fatal(err)
	}
	r.g.Eventually(func() int { return bucket.Calls("Get") }, long).Should(BeNumerically(">=", 3))
	r.wait(id, store.Running)
	bucket.Fail("Get", fmt.Errorf("the key was changed: %w", backend.ErrAuth))
	r.g.Eventually(func() int { return bucket.Calls("Get") }, long).Should(BeNumerically(">=", 6))
	bucket.Fail("Get", nil)
	r.wait(id, store.Succeeded)
	for name, s := range r.steps(id) {
		if s.Attempt != 1 || r.count(id, "StepStarted", name) != 1 {
			t.Errorf("step %s took %d attempts, want 1", name, s.Attempt)
		}
	}
}

// TestBucketDownDoesNotBlockOthers: more steps wait for the bucket than can run at a time.
func TestBucketDownDoesNotBlockOthers(t *testing.T) {
	some := func(context.Context, Call) (Result, error) {
		return Result{Output: map[string]any{"text": mega[:1<<19]}}, nil
	}
	r, bucket := withBucket(t, (&script{}).on("a", some).on("ask", ask))
	ids := make([]string, 2*queue.DefaultPrefetch)
	for i := range ids {
		ids[i] = r.start(two, nil)
	}
	for _, id := range ids {
		r.wait(id, store.Waiting)
	}
	bucket.Fail("Get", fmt.Errorf("no answer: %w", backend.ErrUnavailable))
	for _, id := range ids {
		if err := r.Resume(t.Context(), id, "ask", -1, nil); err != nil {
			t.Fatal(err)
		}
	}
	r.g.Eventually(func() int { return bucket.Calls("Get") }, long).Should(BeNumerically(">=", len(ids)))
	r.wait(r.start(`{"steps":[{"name":"other","type":"x"}]}`, nil), store.Succeeded)
	bucket.Fail("Get", nil)
	for _, id := range ids {
		r.wait(id, store.Succeeded)
		if n := r.count(id, "StepStarted", "b"); n != 1 {
			t.Errorf("the step was started %d times", n)
		}
	}
}

// TestWorkerWithoutBucket: during an update some workers have no bucket yet. They release the steps that need it.
func TestWorkerWithoutBucket(t *testing.T) {
	p := newBackends(t, servers.Postgres(t), servers.RabbitMQ(t))
	bucket := s3.NewFake()
	with := func(s *script) Options {
		return Options{Executor: s, Bucket: bucket, Drain: time.Millisecond, Store: store.Options{MaxOutput: 8 << 20}}
	}
	first := p.launch(t, with((&script{}).on("a", large).on("ask", ask)))
	id := first.start(two, nil)
	first.wait(id, store.Waiting)
	if err := first.Resume(t.Context(), id, "ask", -1, nil); err != nil {
		t.Fatal(err)
	}
	first.stop()
	old := p.launch(t, Options{Executor: (&script{}).on("ask", ask), Drain: time.Millisecond})
	old.g.Eventually(func() store.Phase { return old.steps(id)["b"].Phase }, long).Should(Equal(store.Running))
	old.g.Eventually(func() store.Phase { return old.steps(id)["b"].Phase }, long).Should(Equal(store.Ready), "the worker without a bucket should release the step")
	old.stop()
	p.launch(t, with((&script{}).on("ask", ask))).wait(id, store.Succeeded)
}

func TestLargeItems(t *testing.T) {
	item := func(_ context.Context, c Call) (Result, error) {
		if c.Item == 1 {
			return Result{Output: "small"}, nil
		}
		return Result{Output: mega[:1<<20]}, nil
	}
	r, bucket := withBucket(t, (&script{}).on("a", item))
	id := r.start(`{"steps":[{"name":"a","type":"x","forEach":{"items":[1,2,3]},"outputs":{"twice":"${{ result + result }}"}},
		{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output.map(x, size(x)) }}"}},
		{"name":"c","type":"x","needs":["a"],"when":"steps.a.status == 'Failed'"}],"outputs":{"last":"${{ steps.a.output[2] }}"}}`, nil)
	r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["b"], "[1048576,5,1048576]")
	if out, err := r.Outputs(t.Context(), id); err != nil || out["last"] != mega[:1<<20] {
		t.Errorf("outputs of the run = %.80v, %v", out, err)
	}
	if got := bucket.Calls("Get"); got != 4 || len(bucket.Keys()) != 4 { // two by b, two by the run's outputs
		t.Errorf("%d reads of %d objects", got, len(bucket.Keys()))
	}
}

// TestLoadedBytesAreBounded: three values of the maximum size are more than one step may read.
func TestLoadedBytesAreBounded(t *testing.T) {
	most := func(context.Context, Call) (Result, error) { return Result{Output: mega[:1<<20-1<<17]}, nil }
	bucket := s3.NewFake()
	s := (&script{}).on("a", most).on("b", most).on("c", most)
	r := launch(t, Options{Executor: s, Bucket: bucket, Store: store.Options{MaxOutput: 1 << 20}})
	spec := func(reads string) string {
		return `{"steps":[{"name":"a","type":"x"},{"name":"b","type":"x"},{"name":"c","type":"x"},
			{"name":"d","type":"x","needs":["a","b","c"],"with":{"value":"${{ ` + reads + ` }}"},"retry":{"attempts":3,"delay":"1ms"}}]}`
	}
	r.wait(r.start(spec("size(steps.a.output + steps.b.output + steps.a.output)"), nil), store.Succeeded)
	id := r.start(spec("size(steps.a.output + steps.b.output + steps.c.output)"), nil)
	run := r.wait(id, store.Failed)
	if want := "larger than the limit of 2097152 bytes"; !strings.Contains(run.Error, want) || r.steps(id)["d"].Attempt != 1 {
		t.Errorf("the run failed with %q, want %q", run.Error, want)
	}
	too := func(context.Context, Call) (Result, error) { return Result{Output: mega}, nil }
	s.on("a", too)
	if run := r.wait(r.start(spec("1"), nil), store.Failed); !strings.Contains(run.Error, "more than the limit of 1048576") {
		t.Errorf("output that is too large: %q", run.Error)
	}
	// Items are never in the bucket: the limit of a row applies.
	items := `{"steps":[{"name":"a","type":"x","forEach":{"items":"${{ lists.range(100).map(i, '` + strings.Repeat("x", 12<<10) + `') }}"}}]}`
	if run := r.wait(r.start(items, nil), store.Failed); !strings.Contains(run.Error, "the list of items") {
		t.Errorf("too many items: %q", run.Error)
	}
}

func TestLargeBody(t *testing.T) {
	r, bucket := withBucket(t, &script{})
	begin := Start{Workflow: "w", IdempotencyKey: "once", Program: parse(t, `{"concurrency":{"max":2,"policy":"Queue","key":"trigger.body.key"},
		"steps":[{"name":"a","type":"x","with":{"value":"${{ size(trigger.body.text) }}"}}]}`)}
	begin.Trigger = definition.TriggerInfo{Type: "Webhook", Name: "hook", Body: map[string]any{"key": "k", "text": mega}}
	id, _, err := r.Start(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	run := r.wait(id, store.Succeeded)
	wantOutput(t, r.steps(id)["a"], fmt.Sprint(len(mega)))
	if len(run.Trigger) > 1024 {
		t.Errorf("%d bytes of the body are in the database", len(run.Trigger))
	}
	again, created, err := r.Start(t.Context(), begin)
	if err != nil || created || again != id || len(bucket.Keys()) != 1 {
		t.Errorf("second start: %s, %t, %v; objects: %q", again, created, err, bucket.Keys())
	}
	again, _, err = r.Rerun(t.Context(), id, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	r.wait(again, store.Succeeded)
	wantOutput(t, r.steps(again)["a"], fmt.Sprint(len(mega)))
}
