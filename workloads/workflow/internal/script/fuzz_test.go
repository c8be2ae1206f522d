// SPDX-License-Identifier: Apache-2.0

package script_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/workflow/internal/script"
)

// whole converts integers to int64, like the engine's decoder.
func whole(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	}
	return v
}

// FuzzValues: any JSON value is unchanged after a round trip, or is rejected.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{`null`, `9223372036854775807`, `-9223372036854775808`, `9223372036854775808`, `1e400`, `0.1`, `-0.0`, `"\ud800"`, `"\u0000"`,
		`[[[[]]]]`, `{"":{"a":[1,2.5,true,null]}}`, `[1,"ü",{"ü":[]}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		decoder := json.NewDecoder(bytes.NewReader(document))
		decoder.UseNumber()
		var raw any
		if decoder.Decode(&raw) != nil {
			return
		}
		direct, directErr := script.RoundTrip(raw, 1<<20)
		value := whole(raw)
		got, err := script.RoundTrip(value, 1<<20)
		if err != nil {
			return
		}
		if !reflect.DeepEqual(got, value) {
			t.Fatalf("round trip of %#v = %#v", value, got)
		}
		if directErr == nil && !reflect.DeepEqual(direct, got) {
			t.Fatalf("round trip as json.Number of %#v = %#v", got, direct)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Fatalf("%#v is not JSON: %v", got, err)
		}
	})
}

// FuzzScript: any script stays within the limits, and returns an *Error or plain JSON.
func FuzzScript(f *testing.F) {
	for _, test := range hostile {
		f.Add(test.source)
	}
	for _, expression := range asIs {
		f.Add("result = " + expression)
	}
	for _, source := range asIsPrograms {
		f.Add(source)
	}
	limits := script.Limits{Steps: 100_000, Memory: 4 << 20, Log: 1000, Output: 10_000}
	f.Fuzz(func(t *testing.T, source string) {
		program, err := script.Compile(source)
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			var got script.Result
			got, err = program.Run(ctx, data, limits)
			if text, encodeErr := json.Marshal(got); encodeErr != nil || !utf8.ValidString(got.Log) || len(got.Log) > 1100 {
				t.Fatalf("%s: %v", text, encodeErr)
			}
		}
		var fault *script.Error
		if err != nil && (!errors.As(err, &fault) || fault.Line < 0 || len(fault.Message) > 4000 || !utf8.ValidString(fault.Message)) {
			t.Fatalf("got %v, want a short *Error", err)
		}
	})
}

func BenchmarkRun(b *testing.B) {
	program, err := script.Compile("def main(inputs, steps):\n  return {'n': inputs['n'] + 1, 'ok': steps['fetch']['output']['status'] == 200, 'names': [x for x in inputs]}")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := program.Run(context.Background(), data, script.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
