// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"context"
	"testing"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// fuzzParser checks that a parser returns valid JSON or an error for any input.
func fuzzParser(f *testing.F, cfg string) {
	for _, e := range parseExamples {
		f.Add(e.in)
	}
	chain, err := transform.Compile([]config.Transform{{Type: "parse", Config: []byte(cfg), OnError: config.OnErrorDrop}}, transform.Env{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		batch := &record.Batch{Records: []record.Record{record.New([]byte(text))}}
		result, err := chain.Apply(context.Background(), batch)
		if err != nil || batch.Len()+len(result.Failed) != 1 {
			t.Fatal(batch.Len(), result, err)
		}
		if batch.Len() == 0 {
			return
		}
		data, err := batch.Records[0].Bytes()
		if err != nil || !utf8.Valid(data) {
			t.Fatalf("%q: %v", data, err)
		}
		if _, err := record.Decode(data); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	})
}

func FuzzParseJSON(f *testing.F)     { fuzzParser(f, `{"format":"json"}`) }
func FuzzParseCSV(f *testing.F)      { fuzzParser(f, `{"format":"csv"}`) }
func FuzzParseLogfmt(f *testing.F)   { fuzzParser(f, `{"format":"logfmt"}`) }
func FuzzParseKeyValue(f *testing.F) { fuzzParser(f, `{"format":"keyvalue"}`) }
func FuzzParseXML(f *testing.F)      { fuzzParser(f, `{"format":"xml"}`) }
func FuzzParseSyslog(f *testing.F)   { fuzzParser(f, `{"format":"syslog"}`) }
func FuzzParseURL(f *testing.F)      { fuzzParser(f, `{"format":"url"}`) }
func FuzzParseGrok(f *testing.F)     { fuzzParser(f, `{"format":"grok","pattern":"%{COMBINEDAPACHELOG}"}`) }
