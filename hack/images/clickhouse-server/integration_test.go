// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

const rowsDDL = `CREATE TABLE %s (
	id UInt64, kind LowCardinality(String), at DateTime64(3, 'UTC'), day Date, note Nullable(String), value Nullable(Float64),
	tags Array(String), labels Map(String, UInt32), trace UUID, ok Bool
) ENGINE = MergeTree ORDER BY id`

type row struct {
	ID     uint64            `ch:"id"`
	Kind   string            `ch:"kind"`
	At     time.Time         `ch:"at"`
	Day    time.Time         `ch:"day"`
	Note   *string           `ch:"note"`
	Value  *float64          `ch:"value"`
	Tags   []string          `ch:"tags"`
	Labels map[string]uint32 `ch:"labels"`
	Trace  uuid.UUID         `ch:"trace"`
	OK     bool              `ch:"ok"`
}

func makeRow(i int) row {
	r := row{
		ID: uint64(i), Kind: fmt.Sprintf("kind-%d", i%17), At: time.UnixMilli(1_750_000_000_000 + int64(i)*7).UTC(),
		Day: time.Date(2026, 1, 1+i%28, 0, 0, 0, 0, time.UTC), Tags: []string{}, Labels: map[string]uint32{"shard": uint32(i % 5)},
		Trace: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), OK: i%2 == 0,
	}
	if i%3 == 0 {
		note, value := fmt.Sprintf("note — %d", i), float64(i)/4
		r.Note, r.Value, r.Tags = &note, &value, []string{"a", fmt.Sprint(i)}
	}
	return r
}

// TestBatches inserts 100,000 rows with every type in every compression that clickhouse-go supports, and reads them back.
func TestBatches(t *testing.T) {
	s := start(t, t.TempDir())
	const rows = 100_000
	for name, compression := range map[string]*clickhouse.Compression{
		"none": nil, "lz4": {Method: clickhouse.CompressionLZ4}, "zstd": {Method: clickhouse.CompressionZSTD, Level: 1},
		"gzip": {Method: clickhouse.CompressionGZIP, Level: 1}, "deflate": {Method: clickhouse.CompressionDeflate, Level: 1}, "br": {Method: clickhouse.CompressionBrotli, Level: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			conn := s.open(compression)
			must(t, conn.Exec(ctx, fmt.Sprintf(rowsDDL, "rows_"+name)))
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO rows_"+name)
			must(t, err)
			for i := range rows {
				r := makeRow(i)
				must(t, batch.AppendStruct(&r))
			}
			must(t, batch.Send())
			if n := count(t, conn, "SELECT count() FROM rows_"+name); n != rows {
				t.Fatalf("%d rows, want %d", n, rows)
			}
			found, err := conn.Query(ctx, "SELECT * FROM rows_"+name+" ORDER BY id")
			must(t, err)
			defer found.Close()
			i := 0
			for ; found.Next(); i++ {
				var got row
				must(t, found.ScanStruct(&got))
				if want := makeRow(i); !reflect.DeepEqual(got, want) {
					t.Fatalf("row %d: %+v, want %+v", i, got, want)
				}
			}
			must(t, found.Err())
			if i != rows {
				t.Fatalf("read %d rows, want %d", i, rows)
			}
		})
	}
}

// TestClient covers what clients request besides batches.
func TestClient(t *testing.T) {
	s := start(t, t.TempDir())
	ctx := context.Background()
	conn := s.open(&clickhouse.Compression{Method: clickhouse.CompressionLZ4})
	var version string
	must(t, conn.QueryRow(ctx, "SELECT version()").Scan(&version))
	server, err := conn.ServerVersion()
	must(t, err)
	if !strings.HasPrefix(version, "26.") || !strings.HasPrefix(version, server.Version.String()) {
		t.Errorf("version %q, of the handshake %q", version, server.Version)
	}
	if n := count(t, conn, "SELECT count() FROM numbers(10) WHERE number >= {n:UInt64}", clickhouse.Named("n", "4")); n != 6 {
		t.Errorf("with a parameter: %d rows, want 6", n)
	}
	limited := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_result_rows": 5}))
	if _, err := conn.Query(limited, "SELECT number FROM numbers(10)"); err == nil {
		t.Error("max_result_rows has no effect")
	}
	if n := count(t, conn, "SELECT count() FROM (SELECT number FROM numbers(10))"); n != 10 {
		t.Error("a setting outlived its query")
	}
	must(t, conn.Exec(ctx, "USE default"))
	must(t, conn.Exec(ctx, "SET max_result_rows = 5"))
	var database, limit string
	must(t, conn.QueryRow(ctx, "SELECT currentDatabase(), toString(getSetting('max_result_rows'))").Scan(&database, &limit))
	if database != testDatabase || limit != "0" {
		t.Errorf("a session leaks into the next query: database %s, max_result_rows %s", database, limit)
	}
	empty, err := conn.Query(ctx, "SELECT 1 AS a WHERE 0")
	must(t, err)
	if empty.Next() {
		t.Error("an unexpected row")
	}
	must(t, empty.Close())
	var exception *clickhouse.Exception
	if err := conn.Exec(ctx, "SELECT * FROM nowhere"); !errors.As(err, &exception) || exception.Code != 60 || exception.CodeName != "UNKNOWN_TABLE" {
		t.Errorf("an unknown table returned %v", err)
	}
	rows, err := conn.Query(ctx, "SELECT throwIf(number = 900000) FROM numbers(1000000)")
	for err == nil && rows.Next() {
	}
	if err == nil {
		err = rows.Err()
	}
	if !errors.As(err, &exception) || exception.Code != 395 {
		t.Errorf("an error in the middle of a result returned %v", err)
	}
	wrong, err := clickhouse.Open(&clickhouse.Options{Addr: []string{s.addr}, Protocol: clickhouse.HTTP, Auth: clickhouse.Auth{Username: testUser, Password: "wrong"}})
	must(t, err)
	defer wrong.Close()
	if err := wrong.Ping(ctx); !errors.As(err, &exception) || exception.Code != 516 {
		t.Errorf("a wrong password returned %v", err)
	}
}

// TestCurl covers manual use of the interface.
func TestCurl(t *testing.T) {
	s := start(t, t.TempDir())
	q := func(sql string) string { return "database=" + testDatabase + "&query=" + url.QueryEscape(sql) }
	for _, step := range []struct {
		query, body string
		status      int
		want        string
	}{
		{"", "CREATE TABLE t (a Int32, s String) ENGINE = MergeTree ORDER BY a", 200, ""},
		{"", "INSERT INTO t VALUES (1 + 1, upper('x')), (3, 'it''s; \\' FORMAT CSV')", 200, ""},
		{q("SELECT 1 FORMAT CSV"), "", 200, "1\n"},
		{"database=default", "INSERT INTO t (a, s) FORMAT JSONEachRow\n{\"a\":10,\"s\":\"j\"} {\"a\":11,\"s\":\"k\"}", 200, ""},
		{q("INSERT INTO default.t FORMAT CSV"), "20,twenty\n21,more\n", 200, ""},
		{"", "INSERT INTO t SELECT number + 30, 'n' FROM numbers(2)", 200, ""},
		{"", "SELECT a, s FROM t ORDER BY a FORMAT CSV", 200, "2,\"X\"\n3,\"it's; ' FORMAT CSV\"\n10,\"j\"\n11,\"k\"\n20,\"twenty\"\n21,\"more\"\n30,\"n\"\n31,\"n\"\n"},
		{"param_from=20", "SELECT count() FROM t WHERE a >= {from:Int32}", 200, "4\n"},
		{"default_format=JSONCompactEachRow", "SELECT 1, 'a'", 200, "[1, \"a\"]\n"},
		{"", "SELECT number FROM numbers(200000) ORDER BY number DESC LIMIT 1 FORMAT TSVWithNames", 200, "number\n199999\n"},
		{"", "INSERT INTO t SELECT a, s FROM input('a Int32, s String') FORMAT CSV\n1,x", 501, "NOT_IMPLEMENTED"},
		{q("INSERT INTO default.t FORMAT CSV"), "not a number,x\n", 400, "CANNOT_PARSE"},
		{"", "SELECT 1; SELECT 2", 400, "Multi-statements"},
		{"", "", 400, "Empty query"},
		{"", "SELEC", 400, "SYNTAX_ERROR"},
		{"no_such_setting=1", "SELECT 1", 400, "UNKNOWN_SETTING"},
		{"database=nowhere", "SELECT 1", 404, "UNKNOWN_DATABASE"},
		{"", "SELECT count() FROM t", 200, "8\n"},
		{"", "BACKUP TABLE t TO File('first.tar') FORMAT Null", 200, ""},
		{"", "TRUNCATE TABLE t", 200, ""},
		{"", "RESTORE TABLE t FROM File('first.tar') FORMAT Null", 200, ""},
		{"", "SELECT count() FROM t", 200, "8\n"},
		{"", "BACKUP TABLE t TO File('/tmp/elsewhere.tar')", 400, "is not allowed"},
	} {
		status, _, body := s.post(step.query, strings.NewReader(step.body))
		exact := step.status == 200 && body == step.want || step.status != 200 && strings.Contains(body, step.want)
		if status != step.status || !exact {
			t.Errorf("%s %q: %d %q, want %d %q", step.query, step.body, status, body, step.status, step.want)
		}
	}
	status, header, _ := s.post("query_id=my-id&"+q("INSERT INTO default.t FORMAT CSV"), lines("50,a", "51,b"))
	if status != 200 || header.Get("X-ClickHouse-Query-Id") != "my-id" || !strings.Contains(header.Get("X-ClickHouse-Summary"), `"written_rows":"2"`) {
		t.Errorf("insert: %d %v", status, header)
	}
}

// TestCutOff sends a body that ends too early: nothing of it may be stored.
func TestCutOff(t *testing.T) {
	s := start(t, t.TempDir())
	conn := s.open(nil)
	ctx := context.Background()
	must(t, conn.Exec(ctx, "CREATE TABLE cut (a Int32) ENGINE = MergeTree ORDER BY a"))
	wire, err := net.Dial("tcp", s.addr)
	must(t, err)
	auth := base64.StdEncoding.EncodeToString([]byte(testUser + ":" + testPassword))
	_, err = fmt.Fprintf(wire, "POST /?database=%s&query=INSERT+INTO+cut+FORMAT+CSV HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Length: 1000\r\n\r\n1\n2\n3\n", testDatabase, auth)
	must(t, err)
	must(t, wire.(*net.TCPConn).CloseWrite())
	answer, err := bufio.NewReader(wire).ReadString('\n')
	must(t, err)
	if strings.Contains(answer, " 200 ") {
		t.Errorf("a truncated body was acknowledged: %s", answer)
	}
	must(t, wire.Close())
	if n := count(t, conn, "SELECT count() FROM cut"); n != 0 {
		t.Errorf("%d rows of a truncated body were stored", n)
	}
}

// TestDeduplication inserts a batch twice under one token, like a sink that missed the response.
func TestDeduplication(t *testing.T) {
	data := t.TempDir()
	s := start(t, data)
	insert := func(conn driver.Conn, token string) {
		t.Helper()
		ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO once")
		must(t, err)
		must(t, batch.Append(int32(1)))
		must(t, batch.Send())
	}
	conn := s.open(nil)
	must(t, conn.Exec(context.Background(), "CREATE TABLE once (a Int32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000"))
	insert(conn, "batch-1")
	insert(conn, "batch-1")
	insert(conn, "batch-2")
	s.kill()
	s = start(t, data)
	conn = s.open(nil)
	insert(conn, "batch-2")
	insert(conn, "batch-3")
	if n := count(t, conn, "SELECT count() FROM once"); n != 3 {
		t.Errorf("%d rows of three batches", n)
	}
}

// TestConcurrent runs inserts and selects concurrently.
func TestConcurrent(t *testing.T) {
	s := start(t, t.TempDir())
	ctx := context.Background()
	conn := s.open(&clickhouse.Compression{Method: clickhouse.CompressionLZ4})
	must(t, conn.Exec(ctx, "CREATE TABLE c (w UInt32, i UInt32) ENGINE = MergeTree ORDER BY (w, i)"))
	const workers, batches, size = 8, 10, 1000
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for b := range batches {
				batch, err := conn.PrepareBatch(ctx, "INSERT INTO c")
				if err != nil {
					t.Error(err)
					return
				}
				for i := range size {
					if err := batch.Append(uint32(w), uint32(b*size+i)); err != nil {
						t.Error(err)
						return
					}
				}
				if err := batch.Send(); err != nil {
					t.Error(err)
					return
				}
				var n uint64
				if err := conn.QueryRow(ctx, "SELECT count() FROM c WHERE w = ?", uint32(w)).Scan(&n); err != nil || n != uint64((b+1)*size) {
					t.Errorf("worker %d sees %d rows of its own after %d batches (%v)", w, n, b+1, err)
				}
			}
		})
	}
	group.Wait()
	if n := count(t, conn, "SELECT count() FROM c"); n != workers*batches*size {
		t.Errorf("%d rows, want %d", n, workers*batches*size)
	}
}

// TestKill kills the server during inserts, repeatedly. Each acknowledged batch must be complete afterwards.
func TestKill(t *testing.T) {
	data := t.TempDir()
	const rounds, workers, size = 4, 4, 500
	ctx := context.Background()
	var next atomic.Uint64
	var acknowledged sync.Map
	for round := range rounds {
		s := start(t, data)
		conn := s.open(&clickhouse.Compression{Method: clickhouse.CompressionLZ4})
		must(t, conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS k (batch UInt64, i UInt32) ENGINE = MergeTree ORDER BY (batch, i)"))
		var group sync.WaitGroup
		var done atomic.Int32
		enough := make(chan struct{})
		for range workers {
			group.Go(func() {
				for {
					id := next.Add(1)
					batch, err := conn.PrepareBatch(ctx, "INSERT INTO k")
					if err != nil {
						return
					}
					for i := range size {
						if err := batch.Append(id, uint32(i)); err != nil {
							return
						}
					}
					if err := batch.Send(); err != nil {
						return
					}
					acknowledged.Store(id, true)
					if done.Add(1) == int32(20+30*round) {
						close(enough)
					}
				}
			})
		}
		<-enough
		s.kill()
		group.Wait()
	}
	s := start(t, data)
	conn := s.open(nil)
	found := map[uint64]uint64{}
	rows, err := conn.Query(ctx, "SELECT batch, count() FROM k GROUP BY batch")
	must(t, err)
	for rows.Next() {
		var id, n uint64
		must(t, rows.Scan(&id, &n))
		found[id] = n
	}
	must(t, rows.Err())
	total := 0
	acknowledged.Range(func(id, _ any) bool {
		total++
		if found[id.(uint64)] != size {
			t.Errorf("batch %d was acknowledged but has %d rows of %d", id, found[id.(uint64)], size)
		}
		return true
	})
	if total < 20 {
		t.Fatalf("only %d batches were acknowledged", total)
	}
	t.Logf("%d batches acknowledged over %d kills, %d found", total, rounds, len(found))
}

// TestDrain ends the server while a query runs: the query completes, and new ones are refused.
func TestDrain(t *testing.T) {
	s := start(t, t.TempDir())
	conn := s.open(nil)
	answer := make(chan error, 1)
	go func() {
		var n uint64
		err := conn.QueryRow(context.Background(), "SELECT toUInt64(sum(sleepEachRow(0.5)) + 4) FROM numbers(4) SETTINGS max_block_size = 1").Scan(&n)
		if err == nil && n != 4 {
			err = fmt.Errorf("%d rows instead of 4", n)
		}
		answer <- err
	}()
	probe := s.open(nil)
	for count(t, probe, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%system.processes%'") == 0 {
		select {
		case err := <-answer:
			t.Fatalf("the query ended before the drain: %v", err)
		default:
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the running query got %v", err)
	}
}

// TestLog checks that neither password nor query text gets into the log.
func TestLog(t *testing.T) {
	s := start(t, t.TempDir())
	_, _, _ = s.post("", strings.NewReader("SELECT 'hidden-token' FROM nowhere"))
	must(t, s.stop())
	for _, secret := range []string{"hidden-token", testPassword} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
}
