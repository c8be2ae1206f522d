// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

// BenchmarkRecord measures how long a request waits, and how many events a second reach the database.
func BenchmarkRecord(b *testing.B) {
	l := open(b, newSchema(b, servers.Postgres(b)), func(o *Options) { o.SpillBytes = 4 << 30 })
	e := event(1)
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	for b.Loop() {
		if err := l.Record(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	flush(b, l)
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "stored/s")
}
