// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// TestFailure is one difference between a test's result and what it expects. Its text quotes the test's own
// samples, which are part of the configuration.
type TestFailure struct {
	Test string `json:"test"`
	// Index is the record's index in the results; -1: the failure is about the test as a whole.
	Index   int    `json:"index"`
	Message string `json:"message"`
}

// Error returns the failure in one line.
func (f TestFailure) Error() string {
	if f.Index < 0 {
		return fmt.Sprintf("test %q: %s", f.Test, f.Message)
	}
	return fmt.Sprintf("test %q: record %d: %s", f.Test, f.Index, f.Message)
}

// testTimeout limits one test, so that a rate limit does not block a rollout.
const testTimeout = 30 * time.Second

// maxQuoted is the most of a value that a message shows, in bytes.
const maxQuoted = 400

// RunTests runs every test of the pipeline through a chain of its own, without any source or sink. The result
// is empty if all pass.
func RunTests(cfg *config.Pipeline) []TestFailure {
	var failures []TestFailure
	for i := range cfg.Tests {
		failures = append(failures, runTest(cfg.Transforms, &cfg.Tests[i])...)
	}
	return failures
}

func runTest(transforms []config.Transform, test *config.Test) []TestFailure {
	whole := func(format string, args ...any) []TestFailure {
		return []TestFailure{{Test: test.Name, Index: -1, Message: fmt.Sprintf(format, args...)}}
	}
	steps := append([]config.Transform(nil), transforms...)
	for i := range steps {
		if steps[i].OnError == "" || steps[i].OnError == config.OnErrorFail {
			steps[i].OnError = config.OnErrorDrop // so that the records after the failed one are tested, too
		}
	}
	chain, err := Compile(steps, Env{})
	if err != nil {
		return whole("%v", err)
	}
	batch := &record.Batch{Records: make([]record.Record, len(test.Input))}
	for i, input := range test.Input {
		batch.Records[i] = record.New(append([]byte(nil), input...))
		batch.Records[i].Origin = fmt.Sprintf("input[%d]", i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	result, err := chain.Apply(ctx, batch)
	if errors.Is(err, context.DeadlineExceeded) {
		return whole("takes longer than %s", testTimeout)
	}
	if err != nil {
		return whole("%v", err)
	}
	failures := compareErrors(test, result.Failed)
	return append(failures, compareRecords(test, batch)...)
}

func compareErrors(test *config.Test, failed []Failure) []TestFailure {
	if len(failed) == test.ExpectErrors {
		return nil
	}
	message := fmt.Sprintf("want %d failed records, got %d", test.ExpectErrors, len(failed))
	for i, failure := range failed {
		if i == 3 {
			message += "; …"
			break
		}
		message += fmt.Sprintf("; %s in transform %s: %v", failure.Record.Origin, failure.Transform, failure.Err)
	}
	return []TestFailure{{Test: test.Name, Index: -1, Message: message}}
}

func compareRecords(test *config.Test, batch *record.Batch) []TestFailure {
	var out []TestFailure
	add := func(index int, message string) {
		out = append(out, TestFailure{Test: test.Name, Index: index, Message: message})
	}
	for i := range max(len(test.Expect), batch.Len()) {
		switch {
		case i >= batch.Len():
			add(i, "expected "+quote(test.Expect[i])+", got no record")
			continue
		case i >= len(test.Expect):
			data, err := batch.Records[i].Bytes()
			if err != nil {
				add(i, err.Error())
				continue
			}
			add(i, "expected no record, got "+quote(data))
			continue
		}
		expected, err := record.Decode(test.Expect[i])
		if err != nil {
			add(i, "expect is not valid JSON")
			continue
		}
		got, err := batch.Records[i].Tree()
		if err != nil {
			add(i, "expected "+quote(test.Expect[i])+", got a value that is not JSON")
			continue
		}
		if where, difference := diff("", expected, got); difference != "" {
			if where != "" {
				difference = where + ": " + difference
			}
			data, _ := batch.Records[i].Bytes()
			add(i, difference+"; the whole record: "+quote(data))
		}
	}
	return out
}

// diff returns the first difference of two decoded values, in the order of names.
func diff(path string, want, got any) (where, difference string) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		return diffObjects(path, w, g)
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		if len(w) != len(g) {
			return path, fmt.Sprintf("expected %d items, got %d", len(w), len(g))
		}
		for i := range w {
			if where, difference := diff(config.JoinPath(path, strconv.Itoa(i)), w[i], g[i]); difference != "" {
				return where, difference
			}
		}
		return "", ""
	}
	if equalScalars(want, got) {
		return "", ""
	}
	return path, "expected " + show(want) + ", got " + show(got)
}

func diffObjects(path string, want, got map[string]any) (where, difference string) {
	for _, name := range sortedKeys(want) {
		at := config.JoinPath(path, name)
		value, ok := got[name]
		if !ok {
			return at, "expected " + show(want[name]) + ", got no such field"
		}
		if where, difference := diff(at, want[name], value); difference != "" {
			return where, difference
		}
	}
	for _, name := range sortedKeys(got) {
		if _, ok := want[name]; !ok {
			return config.JoinPath(path, name), "expected no such field, got " + show(got[name])
		}
	}
	return "", ""
}

// equalScalars compares numbers by value: 1 equals 1.0.
func equalScalars(a, b any) bool {
	switch x := a.(type) {
	case nil:
		return b == nil
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case string:
		y, ok := b.(string)
		return ok && x == y
	case int64:
		if y, ok := b.(int64); ok {
			return x == y
		}
	}
	return rank(a) == 2 && rank(b) == 2 && math.Abs(asFloat(a)-asFloat(b)) == 0
}

func show(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return kindOf(value)
	}
	return quote(data)
}

func quote(data []byte) string {
	if len(data) > maxQuoted {
		return string(data[:maxQuoted]) + "…"
	}
	return string(data)
}
