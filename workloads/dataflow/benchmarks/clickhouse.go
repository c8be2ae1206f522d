// SPDX-License-Identifier: Apache-2.0

package benchmarks

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	gojson "github.com/goccy/go-json"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// KafkaToClickHouse loads 1 KiB JSON records into a table, against a program that reads with
// kafka-go, decodes into a struct and inserts by clickhouse-go's columnar batch.
func KafkaToClickHouse(b *testing.B) {
	k := newBroker(b, 100_000)
	binding := servers.ClickHouse(b)
	conn, err := clickhouse.Open(binding)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	table := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	ctx := context.Background()
	exec := func(query string) {
		b.Helper()
		if err := conn.Exec(ctx, query); err != nil {
			b.Fatal(err)
		}
	}
	exec("CREATE TABLE " + table + " (id Int64, user String, country LowCardinality(String), amount Float64, at DateTime64(3), note String) ENGINE = MergeTree ORDER BY id")
	defer exec("DROP TABLE " + table)
	// Every run must have stored each record once.
	verify := func() {
		b.Helper()
		var count, distinct uint64
		if err := conn.QueryRow(ctx, "SELECT count(), uniqExact(id) FROM "+table).Scan(&count, &distinct); err != nil {
			b.Fatal(err)
		}
		if count != uint64(k.records) || distinct != count {
			b.Fatalf("table has %d rows, %d distinct, want %d", count, distinct, k.records)
		}
		exec("TRUNCATE TABLE " + table)
	}
	b.ResetTimer()
	for range b.N {
		k.compare(b, 0.8, func() {
			k.pipeline(b, config.Sink{
				Name: "out", Type: "clickhouse", Connection: "clickhouse",
				Config: raw(`{"database":%q,"table":%q}`, binding.Database, table),
			}, map[string]map[string]string{"clickhouse": binding.Data()})
			verify()
		}, func() {
			k.consume(b, func(messages []kafkago.Message) error { return insert(ctx, conn, table, messages) })
			verify()
		})
	}
}

// insert does the same as a careful hand-written program.
func insert(ctx context.Context, conn driver.Conn, table string, messages []kafkago.Message) error {
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
	if err != nil {
		return err
	}
	for i := range messages {
		var e event
		if err := gojson.Unmarshal(messages[i].Value, &e); err != nil {
			return err
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", e.At)
		if err != nil {
			return err
		}
		if err := batch.Append(e.ID, e.User, e.Country, e.Amount, at, e.Note); err != nil {
			return err
		}
	}
	return batch.Send()
}
