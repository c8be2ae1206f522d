// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

type event struct {
	ID      int64     `json:"id"`
	User    string    `json:"user"`
	Country string    `json:"country"`
	Amount  float64   `json:"amount"`
	At      time.Time `json:"at"`
	Note    string    `json:"note"`
}

const benchTable = "(id Int64, user String, country LowCardinality(String), amount Float64, at DateTime64(3), note String) ENGINE = MergeTree ORDER BY id"

func benchBatch(rows, note int) *record.Batch {
	batch := &record.Batch{}
	text := strings.Repeat("lorem ipsum dolor sit amet ", note/27+1)[:note]
	for i := range rows {
		batch.Records = append(batch.Records, record.New(fmt.Appendf(nil,
			`{"id":%d,"user":"user-%d","country":"C%d","amount":%d.25,"at":"2026-01-02T03:04:05.678Z","note":"%s"}`, i, i%1000, i%50, i%977, text)))
	}
	return batch
}

// BenchmarkInsert compares this sink with a careful hand-written program: decode the JSON into a struct and
// append it to a columnar batch of the official client.
func BenchmarkInsert(b *testing.B) {
	ctx := context.Background()
	binding := servers.ClickHouse(b)
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{binding.Address()}, Protocol: clickhouse.HTTP,
		Auth: clickhouse.Auth{Username: binding.Username, Password: binding.Password},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	format, err := codec.New("json", nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, rows := range []int{5_000, 50_000} {
		for _, note := range []int{20, 800} {
			batch := benchBatch(rows, note)
			table := fmt.Sprintf("bench_%d_%d", rows, note)
			exec := func(query string) {
				b.Helper()
				if err := conn.Exec(ctx, query); err != nil {
					b.Fatal(err)
				}
			}
			exec("CREATE OR REPLACE TABLE default." + table + " " + benchTable)
			name := fmt.Sprintf("rows=%d/bytes=%d/", rows, batch.Bytes()/int64(rows))
			for _, compression := range []string{"none", "lz4"} {
				b.Run(name+"sink-"+compression, func(b *testing.B) {
					s, err := open(ctx, Config{Database: "default", Table: table, Compression: compression}, connector.Env{Binding: binding, Codec: format})
					if err != nil {
						b.Fatal(err)
					}
					defer s.Close(ctx)
					b.SetBytes(batch.Bytes())
					for b.Loop() {
						if err := s.Write(ctx, batch); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			for kind, decode := range map[string]func([]byte, any) error{"encoding-json": json.Unmarshal} {
				b.Run(name+"columnar-"+kind, func(b *testing.B) {
					b.SetBytes(batch.Bytes())
					for b.Loop() {
						columnar(b, conn, table, batch, decode)
					}
				})
			}
			exec("DROP TABLE default." + table)
		}
	}
}

func columnar(b *testing.B, conn clickhouse.Conn, table string, batch *record.Batch, decode func([]byte, any) error) {
	b.Helper()
	out, err := conn.PrepareBatch(context.Background(), "INSERT INTO default."+table)
	if err != nil {
		b.Fatal(err)
	}
	for i := range batch.Records {
		data, err := batch.Records[i].Bytes()
		if err != nil {
			b.Fatal(err)
		}
		var e event
		if err := decode(bytes.TrimSpace(data), &e); err != nil {
			b.Fatal(err)
		}
		if err := out.Append(e.ID, e.User, e.Country, e.Amount, e.At, e.Note); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Send(); err != nil {
		b.Fatal(err)
	}
}
