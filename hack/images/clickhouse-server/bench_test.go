// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// BenchmarkInsert inserts batches of 100,000 rows of seven columns (about 6 MB in memory).
func BenchmarkInsert(b *testing.B) {
	for _, compression := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
		for _, clients := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/%d", compression, clients), func(b *testing.B) { benchmarkInsert(b, compression, clients) })
		}
	}
}

func benchmarkInsert(b *testing.B, method clickhouse.CompressionMethod, clients int) {
	s := start(b, b.TempDir())
	ctx := context.Background()
	conn := s.open(&clickhouse.Compression{Method: method})
	must(b, conn.Exec(ctx, `CREATE TABLE b (id UInt64, at DateTime64(3), kind LowCardinality(String), user UInt64, value Float64, note Nullable(String), tags Array(String)) ENGINE = MergeTree ORDER BY id`))
	const rows = 100_000
	jobs := make(chan int)
	var group sync.WaitGroup
	var spent atomic.Int64
	for range clients {
		group.Go(func() {
			for range jobs {
				batch, err := conn.PrepareBatch(ctx, "INSERT INTO b")
				if err != nil {
					b.Error(err)
					return
				}
				for i := range rows {
					note := "a note of some length"
					if err := batch.Append(uint64(i), time.UnixMilli(int64(i)), "kind", uint64(i*7), float64(i), &note, []string{"x", "y"}); err != nil {
						b.Error(err)
						return
					}
				}
				begun := time.Now()
				if err := batch.Send(); err != nil {
					b.Error(err)
				}
				spent.Add(int64(time.Since(begun)))
			}
		})
	}
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		jobs <- i
	}
	close(jobs)
	group.Wait()
	b.StopTimer()
	if n := count(b, conn, "SELECT count() FROM b"); n != uint64(b.N)*rows {
		b.Fatalf("%d rows, want %d", n, b.N*rows)
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(spent.Load())/float64(b.N)/1e6, "send-ms")
}
