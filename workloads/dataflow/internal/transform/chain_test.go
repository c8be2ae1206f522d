// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

func batchOf(values ...string) *record.Batch {
	batch := &record.Batch{Position: "p"}
	for i, value := range values {
		r := record.New([]byte(value))
		r.Origin = fmt.Sprintf("t/0@%d", i)
		batch.Records = append(batch.Records, r)
	}
	return batch
}

func valuesOf(t *testing.T, batch *record.Batch) []string {
	t.Helper()
	out := []string{}
	for i := range batch.Records {
		data, err := batch.Records[i].Bytes()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return out
}

func chainOf(t *testing.T, steps ...config.Transform) *transform.Chain {
	t.Helper()
	chain, err := transform.Compile(steps, transform.Env{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestEmptyChain(t *testing.T) {
	if chain := chainOf(t); !chain.Empty() {
		t.Error("a chain without transforms is not empty")
	}
	var none *transform.Chain
	if result, err := none.Apply(context.Background(), batchOf("x")); !none.Empty() || err != nil || result.Filtered > 0 {
		t.Error(result, err)
	}
	if chainOf(t, step("compact", "", "")).Empty() {
		t.Error("a chain with a transform is empty")
	}
}

func TestWhenSelects(t *testing.T) {
	for _, kind := range []config.Transform{
		step("set", "this.n == 2", `{"values":{"hit":true}}`),
		step("explode", "this.n == 2", `{"field":"l"}`),
		step("sort", "this.n != 1", `{"by":[{"expression":"this.n","order":"Descending"}]}`),
		step("sample", "this.n == 2", `{"rate":0}`),
	} {
		batch := batchOf(`{"n":1}`, `{"n":2,"l":[7,8]}`, `{"n":3}`)
		result, err := chainOf(t, kind).Apply(context.Background(), batch)
		if err != nil {
			t.Fatal(kind.Type, err)
		}
		want := map[string][]string{
			"set":     {`{"n":1}`, `{"hit":true,"l":[7,8],"n":2}`, `{"n":3}`},
			"explode": {`{"n":1}`, `{"l":7,"n":2}`, `{"l":8,"n":2}`, `{"n":3}`},
			"sort":    {`{"n":1}`, `{"n":3}`, `{"n":2,"l":[7,8]}`},
			"sample":  {`{"n":1}`, `{"n":3}`},
		}[kind.Type]
		if got := valuesOf(t, batch); !sameList(got, want) {
			t.Errorf("%s: got %v, want %v", kind.Type, got, want)
		}
		if wantFiltered := map[string]int{"sample": 1}[kind.Type]; result.Filtered != wantFiltered {
			t.Errorf("%s: got %d filtered, want %d", kind.Type, result.Filtered, wantFiltered)
		}
	}
}

func sameList(a, b []string) bool {
	return len(a) == len(b) && slices.EqualFunc(a, b, sameJSON)
}

// TestPolicies runs a failing step of each behaviour in the middle of a batch.
func TestPolicies(t *testing.T) {
	failing := map[string]config.Transform{
		"mapper":   step("cast", "", `{"fields":[{"field":"n","to":"int"}]}`),
		"keeper":   step("filter", "int(this.n) > 0", ``),
		"reshaper": step("explode", "int(this.n) > 0 || true", `{"field":"l"}`),
		"whole":    step("sort", "", `{"by":[{"expression":"int(this.n)"}]}`),
		"when":     step("set", "int(this.n) > 0", `{"values":{"x":1}}`),
	}
	for name, failed := range failing {
		for _, policy := range []config.OnError{config.OnErrorDrop, config.OnErrorDeadLetter, config.OnErrorFail, ""} {
			failed.Name, failed.OnError = "breaks", policy
			chain := chainOf(t, step("set", "", `{"values":{"first":true}}`), failed)
			const bad = `{"n":"s3cr3t-value","l":"s3cr3t-value"}`
			batch := batchOf(`{"n":1,"l":[1]}`, bad, `{"n":2,"l":[1]}`)
			result, err := chain.Apply(context.Background(), batch)
			stops := policy == config.OnErrorFail || policy == ""
			if stops != (err != nil) {
				t.Errorf("%s %q: got error %v", name, policy, err)
			}
			if stops && (!strings.Contains(err.Error(), "transform breaks: record t/0@1: ") || strings.Contains(err.Error(), secret)) {
				t.Errorf("%s %q: got error %v", name, policy, err)
			}
			if len(result.Failed) != 1 {
				t.Errorf("%s %q: got %d failures, want 1", name, policy, len(result.Failed))
				continue
			}
			f := result.Failed[0]
			if data, _ := f.Record.Bytes(); string(data) != bad || f.Record.Origin != "t/0@1" {
				t.Errorf("%s %q: the failed record is %s from %s, want it unchanged", name, policy, data, f.Record.Origin)
			}
			if wantPolicy := map[bool]config.OnError{true: config.OnErrorFail, false: policy}[stops]; f.Policy != wantPolicy || f.Transform != "breaks" {
				t.Errorf("%s: got %s of %s, want %s", name, f.Policy, f.Transform, wantPolicy)
			}
			if !stops && batch.Len() != 2 {
				t.Errorf("%s %q: got %d records, want 2", name, policy, batch.Len())
			}
		}
	}
}

func TestUntouchedBatchStaysWhole(t *testing.T) {
	batch := batchOf(`{"n": 1}`, `{"n": 2}`)
	before := &batch.Records[0]
	raw, _ := batch.Records[0].Raw()
	chain := chainOf(t, step("filter", "this.n > 0", ""), step("set", "this.n > 5", `{"values":{"x":1}}`), step("route", "", `{"routes":[{"when":"this.n == 1","sinks":["a"]}],"default":["b"]}`))
	if _, err := chain.Apply(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	after, isRaw := batch.Records[0].Raw()
	if &batch.Records[0] != before || !isRaw || &after[0] != &raw[0] || batch.Records[0].Decoded() {
		t.Error("the batch was copied, or a record decoded")
	}
	if batch.Records[0].Sinks[0] != "a" || batch.Records[1].Sinks[0] != "b" || batch.Position != "p" {
		t.Error("wrong sinks or position")
	}
}

func TestFilterAllocatesNothing(t *testing.T) {
	chain := chainOf(t, step("filter", threeClauses, ""))
	records := make([]record.Record, 100)
	allocations := testing.AllocsPerRun(20, func() {
		for i := range records {
			records[i] = record.New(sale)
		}
		batch := record.Batch{Records: records}
		if _, err := chain.Apply(context.Background(), &batch); err != nil || batch.Len() != 100 {
			t.Error(err, batch.Len())
		}
	})
	if allocations > 2 { // per batch, not per record
		t.Errorf("got %v allocations for a batch of 100 records", allocations)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := chainOf(t, step("compact", "", "")).Apply(ctx, batchOf("{}")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	limit := chainOf(t, step("rateLimit", "", `{"perSecond":0.001}`))
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := limit.Apply(ctx, batchOf("{}", "{}")); err == nil {
		t.Error("the limit lets two records pass at once")
	}
}

func TestCompileNamesEveryError(t *testing.T) {
	_, err := transform.Compile([]config.Transform{
		step("filter", "this.", ""), step("nope", "", ""), step("cast", "", `{"fields":[{"field":"a.","to":"x"}]}`),
	}, transform.Env{})
	for _, want := range []string{"transforms[0].when: 1:6", `transforms[1].type: there is no transform type "nope"`, "transforms[2].config.fields[0].field: field path", "transforms[2].config.fields[0].to: want one of"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestDedupeWindow(t *testing.T) {
	now := noon()
	chain, err := transform.Compile([]config.Transform{step("dedupe", "", `{"key":"this.id","window":"1m","count":3}`)}, transform.Env{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	pass := func(want string, ids ...string) {
		t.Helper()
		batch := &record.Batch{}
		for _, id := range ids {
			batch.Records = append(batch.Records, record.New([]byte(`{"id":`+id+`}`)))
		}
		result, err := chain.Apply(context.Background(), batch)
		if err != nil || result.Filtered != len(ids)-batch.Len() {
			t.Fatal(result, err)
		}
		if got := strings.Join(valuesOf(t, batch), ""); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	pass(`{"id":1}{"id":"1"}{"id":null}`, "1", "1", `"1"`, "null", "1", "null") // 1 and "1" differ
	now = now.Add(30 * time.Second)
	pass(``, "1", `"1"`)
	pass(`{"id":4}`, "4") // the oldest of three, 1, is evicted by count
	pass(`{"id":1}`, "1", "null")
	now = now.Add(31 * time.Second) // null expires; 4 and 1 do not
	pass(`{"id":null}`, "null", "4", "1")
	for i := range 1000 {
		pass(fmt.Sprintf(`{"id":%d}`, i+100), fmt.Sprint(i+100))
	}
	pass(``, "1099", "1098", "1097")
}

func TestSampleByKey(t *testing.T) {
	chain := chainOf(t, step("sample", "", `{"rate":0.25,"key":"this.user"}`))
	byUser := map[int]int{}
	const users, each = 2000, 3
	batch := &record.Batch{}
	for i := range users * each {
		batch.Records = append(batch.Records, record.New(fmt.Appendf(nil, `{"user":%d}`, i%users)))
	}
	if _, err := chain.Apply(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	for i := range batch.Records {
		object, err := batch.Records[i].Object()
		if err != nil {
			t.Fatal(err)
		}
		byUser[int(object["user"].(int64))]++
	}
	for user, n := range byUser {
		if n != each {
			t.Errorf("user %d has %d of %d records", user, n, each)
		}
	}
	if share := float64(len(byUser)) / users; share < 0.2 || share > 0.3 {
		t.Errorf("got a share of %v, want about 0.25", share)
	}
}

func TestSortOrders(t *testing.T) {
	chain := chainOf(t, config.Transform{Type: "sort", OnError: config.OnErrorDrop,
		Config: json.RawMessage(`{"by":[{"expression":"this.a"},{"expression":"this.b","order":"Descending"}]}`)})
	batch := batchOf(`{"a":2,"b":1}`, `{"x":1}`, `{"a":"z","b":1}`, `{"a":1.5,"b":1}`, `{"a":2,"b":3}`, `{"a":null,"b":0}`, `{"a":true,"b":0}`, `{"a":false,"b":0}`)
	result, err := chain.Apply(context.Background(), batch)
	if err != nil || len(result.Failed) != 1 || result.Failed[0].Record.Origin != "t/0@1" {
		t.Fatal(result, err)
	}
	want := []string{`{"a":null,"b":0}`, `{"a":false,"b":0}`, `{"a":true,"b":0}`, `{"a":1.5,"b":1}`, `{"a":2,"b":3}`, `{"a":2,"b":1}`, `{"a":"z","b":1}`}
	if got := valuesOf(t, batch); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMetadataAndTime(t *testing.T) {
	chain := chainOf(t,
		step("metadata", "", `{"key":"this.id","headers":{"tenant":"this.t","old":"null"},"removeHeaders":["gone"]}`),
		step("timestamp", "", `{"field":"at"}`),
		step("set", "", `{"expressions":{"k":"key","h":"headers.tenant","ts":"timestamp","n":"now()"}}`))
	shared := []record.Header{{Key: "gone", Value: []byte("1")}, {Key: "old", Value: []byte("2")}, {Key: "kept", Value: []byte("3")}}
	batch := batchOf(`{"id":7,"t":"acme","at":"2026-01-02T03:04:05Z"}`)
	batch.Records[0].Headers = shared
	if _, err := chain.Apply(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	r := &batch.Records[0]
	if string(r.Key) != "7" || len(r.Headers) != 2 || r.Headers[0].Key != "kept" || !bytes.Equal(r.Headers[1].Value, []byte("acme")) {
		t.Errorf("got key %s, headers %v", r.Key, r.Headers)
	}
	if shared[0].Key != "gone" || shared[2].Key != "kept" {
		t.Error("headers that records share were changed")
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !r.Time.Equal(want) {
		t.Errorf("got time %v, want %v", r.Time, want)
	}
	want := `{"at":"2026-01-02T03:04:05Z","h":"acme","id":7,"k":"7","n":"2026-03-04T12:00:00Z","t":"acme","ts":"2026-01-02T03:04:05Z"}`
	if got := valuesOf(t, batch)[0]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCompressRoundTrip(t *testing.T) {
	for _, algorithm := range []string{"gzip", "zstd", "snappy"} {
		cfg := `{"algorithm":"` + algorithm + `","maxBytes":5000}`
		value := `{"a":"` + strings.Repeat("x", 4000) + `"}`
		batch := batchOf(value)
		if _, err := chainOf(t, step("compress", "", cfg), step("decompress", "", cfg)).Apply(context.Background(), batch); err != nil {
			t.Fatal(algorithm, err)
		}
		if got := valuesOf(t, batch)[0]; got != value {
			t.Errorf("%s: got %.40s", algorithm, got)
		}
		bomb := batchOf(`{"a":"` + strings.Repeat("x", 100_000) + `"}`)
		result, err := chainOf(t, step("compress", "", cfg), config.Transform{Type: "decompress", OnError: config.OnErrorDrop, Config: json.RawMessage(cfg)}).Apply(context.Background(), bomb)
		if err != nil || len(result.Failed) != 1 || !strings.Contains(result.Failed[0].Err.Error(), "larger than maxBytes") {
			t.Errorf("%s: got %v, %v", algorithm, result.Failed, err)
		}
	}
}

func TestAssignIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range []string{"uuidv4", "uuidv7"} {
		batch := batchOf(`{}`, `{}`, `{"id":null}`)
		if _, err := chainOf(t, step("assignId", "", `{"field":"id","key":true,"kind":"`+kind+`"}`)).Apply(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		for i := range batch.Records {
			object, err := batch.Records[i].Object()
			id, _ := object["id"].(string)
			if err != nil || len(id) != 36 || id[14] != kind[5] || seen[id] || string(batch.Records[i].Key) != id {
				t.Errorf("%s: got %q, %v", kind, id, err)
			}
			seen[id] = true
		}
	}
}

func TestRoutesAll(t *testing.T) {
	chain := chainOf(t, step("route", "", `{"match":"All","routes":[{"when":"this.n > 0","sinks":["a","b"]},{"when":"this.n > 1","sinks":["b","c"]}]}`))
	batch := batchOf(`{"n":0}`, `{"n":1}`, `{"n":2}`)
	result, err := chain.Apply(context.Background(), batch)
	if err != nil || result.Filtered != 1 || batch.Len() != 2 {
		t.Fatal(result, err)
	}
	if got := fmt.Sprint(batch.Records[0].Sinks, batch.Records[1].Sinks); got != "[a b] [a b c]" {
		t.Errorf("got %s", got)
	}
}
