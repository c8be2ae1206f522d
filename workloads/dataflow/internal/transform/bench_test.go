// SPDX-License-Identifier: Apache-2.0

package transform_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// sale is a record of about 950 bytes, the size on which the design's figures are measured.
var sale = func() []byte {
	items := make([]string, 5)
	for i := range items {
		items[i] = fmt.Sprintf(`{"sku":"SKU-%06d","title":"Item number %d","quantity":%d,"price":%d.99}`, i*7919, i, i+1, 10+i)
	}
	out := `{"id":"01J9ZK7M8Q2X4V6T8B0N2D4F6H","timestamp":"2026-03-04T12:00:00.123Z","channel":"web","amount":129.95,"currency":"EUR",` +
		`"customer":{"id":48213,"name":"Jane Doe","email":"jane.doe@example.org","country":"DE","tier":"gold"},` +
		`"items":[` + strings.Join(items, ",") + `],"shipping":{"method":"express","street":"Example Street 12","city":"Hamburg","zip":"20095"},` +
		`"tags":["summer","newsletter","returning"],"note":""}`
	note := strings.Repeat("x", max(0, 950-len(out)))
	return []byte(strings.Replace(out, `"note":""`, `"note":"`+note+`"`, 1))
}()

const threeClauses = `this.amount > 100.0 && this.customer.country == 'DE' && this.customer.tier in ['gold', 'platinum']`

const batchSize = 500

func benchmark(b *testing.B, steps ...config.Transform) {
	b.Helper()
	chain, err := transform.Compile(steps, transform.Env{})
	if err != nil {
		b.Fatal(err)
	}
	records := make([]record.Record, batchSize)
	b.SetBytes(int64(len(sale)))
	b.ReportAllocs()
	b.ResetTimer()
	started := cpuTime()
	defer func() {
		// On a shared machine, CPU time is more telling than the clock.
		spent := cpuTime() - started
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(len(sale))*float64(b.N)/1e6/spent.Seconds(), "MB/cpu-s")
	}()
	for done := 0; done < b.N; done += batchSize {
		for i := range records {
			records[i] = record.New(sale)
		}
		batch := &record.Batch{Records: records[:min(batchSize, b.N-done)]}
		result, err := chain.Apply(context.Background(), batch)
		if err != nil || len(result.Failed) > 0 || len(batch.Records) == 0 {
			b.Fatal(err, result)
		}
		for i := range batch.Records {
			if _, err := batch.Records[i].Bytes(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func step(kind, when, cfg string) config.Transform {
	return config.Transform{Type: kind, When: when, Config: json.RawMessage(cfg)}
}

// BenchmarkFilterRaw filters on the byte path; no record is decoded.
func BenchmarkFilterRaw(b *testing.B) { benchmark(b, step("filter", threeClauses, "")) }

// BenchmarkFilterRawEnd reads the last field, so that the whole record is scanned.
func BenchmarkFilterRawEnd(b *testing.B) { benchmark(b, step("filter", `this.note != 'y'`, "")) }

// BenchmarkFilterCEL evaluates a predicate on bytes that needs the CEL interpreter.
func BenchmarkFilterCEL(b *testing.B) {
	benchmark(b, step("filter", `this.amount * 2 > 100.0 && this.customer.country.lowerAscii() == 'de' && this.customer.tier == 'gold'`, ""))
}

// BenchmarkDecodeMapEncode decodes every record, builds a new object and encodes it.
func BenchmarkDecodeMapEncode(b *testing.B) {
	benchmark(b, step("map", "", `{"expression":"{'id': this.id, 'amount': this.amount, 'customer': this.customer, 'items': this.items, 'net': this.amount / 1.19}"}`))
}

func BenchmarkSet(b *testing.B)    { benchmark(b, step("set", "", `{"values":{"region":"eu"}}`)) }
func BenchmarkRemove(b *testing.B) { benchmark(b, step("remove", "", `{"fields":["customer.email"]}`)) }
func BenchmarkRename(b *testing.B) {
	benchmark(b, step("rename", "", `{"fields":{"channel":"source"}}`))
}
func BenchmarkRoute(b *testing.B) {
	benchmark(b, step("route", "", `{"routes":[{"when":"this.channel == 'shop'","sinks":["a"]},{"when":"this.channel == 'web'","sinks":["b"]}]}`))
}
func BenchmarkTimestamp(b *testing.B) { benchmark(b, step("timestamp", "", `{"field":"timestamp"}`)) }

// cpuTime returns what this process has spent in user and system mode.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
