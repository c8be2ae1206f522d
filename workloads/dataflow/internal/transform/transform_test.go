// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// example is one record through one transform.
type example struct {
	config string
	in     string
	// out lists the resulting JSON values, one per line; empty: none.
	out string
	// err is part of the record's error instead; invalid: of the configuration's.
	err, invalid string
}

const secret = "s3cr3t-value"

func noon() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) }

// compile builds a chain of one transform. A `when` may precede the config: "this.a > 1 | {}".
func compile(kind, cfg string, policy config.OnError) (*transform.Chain, error) {
	step := config.Transform{Name: "step", Type: kind, OnError: policy}
	if when, rest, found := strings.Cut(cfg, " | "); found {
		step.When, cfg = when, rest
	}
	step.Config = json.RawMessage(cfg)
	return transform.Compile([]config.Transform{step}, transform.Env{Now: noon})
}

// run runs the example on bytes and on a record that was decoded before.
func run(t *testing.T, kind string, e example) {
	t.Helper()
	runOn(t, kind, e, record.New([]byte(e.in)))
	decoded := record.New([]byte(e.in))
	if _, err := decoded.Tree(); err == nil {
		runOn(t, kind, e, decoded)
	}
}

func runOn(t *testing.T, kind string, e example, r record.Record) {
	t.Helper()
	chain, err := compile(kind, e.config, config.OnErrorDrop)
	if e.invalid != "" {
		if err == nil || !strings.Contains(err.Error(), e.invalid) {
			t.Errorf("%s %s: got error %v, want it to contain %q", kind, e.config, err, e.invalid)
		}
		return
	}
	if err != nil {
		t.Errorf("%s %s: %v", kind, e.config, err)
		return
	}
	batch := &record.Batch{Records: []record.Record{r}}
	result, err := chain.Apply(context.Background(), batch)
	if err != nil {
		t.Errorf("%s %s: %v", kind, e.config, err)
		return
	}
	if e.err != "" {
		checkFailure(t, kind, e, result)
		return
	}
	if len(result.Failed) > 0 {
		t.Errorf("%s %s on %s: %v", kind, e.config, e.in, result.Failed[0].Err)
		return
	}
	var want []string
	if e.out != "" {
		want = strings.Split(e.out, "\n")
	}
	if len(want) != batch.Len() {
		t.Errorf("%s %s on %s: got %d records, want %d", kind, e.config, e.in, batch.Len(), len(want))
		return
	}
	for i := range want {
		got, err := batch.Records[i].Bytes()
		if err != nil {
			t.Errorf("%s %s: %v", kind, e.config, err)
		} else if !sameJSON(string(got), want[i]) {
			t.Errorf("%s %s on %s:\n got %s\nwant %s", kind, e.config, e.in, got, want[i])
		}
	}
}

// checkFailure expects the error, the unchanged record, and no content in the error.
func checkFailure(t *testing.T, kind string, e example, result transform.Result) {
	t.Helper()
	if len(result.Failed) != 1 {
		t.Errorf("%s %s on %s: no failure", kind, e.config, e.in)
		return
	}
	failed := result.Failed[0]
	if !strings.Contains(failed.Err.Error(), e.err) {
		t.Errorf("%s %s on %s: got %q, want it to contain %q", kind, e.config, e.in, failed.Err, e.err)
	}
	if strings.Contains(failed.Err.Error(), secret) {
		t.Errorf("%s %s: the error quotes the record: %v", kind, e.config, failed.Err)
	}
	if got, err := failed.Record.Bytes(); err != nil || string(got) != e.in {
		t.Errorf("%s %s: the failed record is %s, %v, want it unchanged: %s", kind, e.config, got, err, e.in)
	}
}

func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := record.Decode([]byte(a))
	y, errY := record.Decode([]byte(b))
	if errX != nil || errY != nil {
		return false
	}
	one, _ := json.Marshal(x)
	other, _ := json.Marshal(y)
	return string(one) == string(other)
}

// TestExamples checks that every type has at least one good and one bad case.
func TestExamples(t *testing.T) {
	for _, spec := range transform.All() {
		cases := examples[spec.Type]
		if len(cases) == 0 && spec.Type != "rateLimit" {
			t.Errorf("%s has no example", spec.Type)
		}
		t.Run(spec.Type, func(t *testing.T) {
			for _, e := range cases {
				run(t, spec.Type, e)
			}
		})
	}
	if got := len(transform.All()); got < 20 {
		t.Errorf("got %d types, want 20 or more", got)
	}
}

// TestBadValues gives every type values that it cannot process: none may panic, and no error may quote them.
func TestBadValues(t *testing.T) {
	values := []string{
		"", " ", "null", "true", "7", `"` + secret + `"`, "[]", `["` + secret + `"]`, "{", `{"a":`, `{"a":"` + secret, secret,
		"{\"a\":\"\xff" + secret + "\"}", "\xff\xfe", `{}`, `{"a":null}`, `{"a":[]}`, `{"a":{}}`, `{"a":{"a":{"a":"` + secret + `"}}}`,
		`{"a":1e999}`, `{"a":99999999999999999999}`, `{"a":-0}`, `{"a":"` + secret + `","a":2}`, `{"":1}`, `{"a":[[[1]]]}`,
		`{"a":"` + strings.Repeat(secret, 50) + `"}`, strings.Repeat("[", 20000),
	}
	for kind, cases := range examples {
		for _, e := range cases {
			if e.invalid != "" {
				continue
			}
			for _, value := range values {
				chain, err := compile(kind, e.config, config.OnErrorDrop)
				if err != nil {
					t.Fatal(kind, e.config, err)
				}
				batch := &record.Batch{Records: []record.Record{record.New([]byte(value))}}
				result, err := chain.Apply(context.Background(), batch)
				if err != nil {
					t.Fatal(kind, e.config, err)
				}
				for _, failed := range result.Failed {
					if strings.Contains(failed.Err.Error(), secret) {
						t.Errorf("%s %s on %.60s: the error quotes the record: %v", kind, e.config, value, failed.Err)
					}
					if got, err := failed.Record.Bytes(); err != nil || string(got) != value {
						t.Errorf("%s %s on %.60s: the failed record was changed to %.80s", kind, e.config, value, got)
					}
				}
			}
		}
	}
}
