// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

func TestMain(m *testing.M) { servers.Main(m) }

// database is the tests' own connection to the server.
type database struct {
	binding backend.Binding
	pool    *pgxpool.Pool
}

func connect(t testing.TB) *database {
	t.Helper()
	b := servers.Postgres(t)
	pool, err := pg.Open(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &database{b, pool}
}

func (d *database) exec(t testing.TB, statement string, values ...any) {
	t.Helper()
	if _, err := d.pool.Exec(context.Background(), statement, values...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

var tables atomic.Int64

func (d *database) table(t testing.TB, columns string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", tables.Add(1))
	d.exec(t, "CREATE TABLE "+name+" ("+columns+")")
	return name
}

func (d *database) rows(t testing.TB, query string) [][]byte {
	t.Helper()
	rows, err := d.pool.Query(context.Background(), "SELECT row_to_json(itechsmart_row)::text FROM ("+query+") itechsmart_row")
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unreachable(b backend.Binding) *backend.Binding {
	b.Port = "1"
	return &b
}

func TestSourceConformance(t *testing.T) {
	d := connect(t)
	for _, test := range []struct {
		name, cursor, tie, columns string
		watch                      bool
	}{
		{"bounded", "n", "", "n bigint PRIMARY KEY, text text, at timestamptz NOT NULL DEFAULT now()", false},
		{"watch", "n", "", "n int PRIMARY KEY, text text", true},
		// All rows of one statement have the same time.
		{"time with ties", "at", "n", "n bigint PRIMARY KEY, text text, at timestamptz NOT NULL DEFAULT now()", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
				table := d.table(t, test.columns)
				spec := Source()
				env := connectortest.NewEnv(t, spec, d.binding)
				env.Group = table
				cfg := map[string]any{"table": table, "cursorColumn": test.cursor, "watch": test.watch, "interval": "20ms"}
				if test.tie != "" {
					cfg["tieBreaker"] = test.tie
				}
				return connectortest.SourceHarness{
					Common: connectortest.Common{
						Spec: spec, Env: env, Config: cfg, Unreachable: unreachable(d.binding),
						BadConfigs: map[string]string{
							`{}`: "table", `{"table":"` + table + `"}`: "cursorColumn", `{"table":"` + table + `","cursorColumn":"zz"}`: "cursorColumn",
							`{"table":"` + table + `","cursorColumn":"text"}`:                            "tieBreaker",
							`{"table":"` + table + `","cursorColumn":"n","columns":["zz"]}`:              "columns",
							`{"table":"` + table + `","cursorColumn":"n","where":"n >"}`:                 "where",
							`{"table":"` + table + `","cursorColumn":"n","where":"1=1); DROP TABLE x"}`:  "where",
							`{"table":"` + table + `","cursorColumn":"n","start":"CONFIDENTIAL"}`:        "start",
							`{"table":"a;b","cursorColumn":"n"}`:                                         "table",
							`{"table":"` + table + `","cursorColumn":"n","schema":"x","interval":"now"}`: "interval",
						},
					},
					Bounded: !test.watch,
					Seed: func(t testing.TB, from, n int) {
						t.Helper()
						var values []string
						var texts []any
						for i := from; i < from+n; i++ {
							texts = append(texts, connectortest.Payload(i))
							values = append(values, fmt.Sprintf("(%d, $%d)", i, len(texts)))
						}
						d.exec(t, "INSERT INTO "+table+" (n, text) VALUES "+strings.Join(values, ","), texts...)
					},
				}
			})
		})
	}
}

func TestSinkConformance(t *testing.T) {
	d := connect(t)
	for _, test := range []struct {
		name, columns string
		config        map[string]any
		keyed         bool
	}{
		{"insert", "n bigint NOT NULL, text text", map[string]any{}, false},
		{"upsert", "n bigint PRIMARY KEY, text text", map[string]any{"conflictKeys": []string{"n"}}, true},
		{"ignore", "n bigint PRIMARY KEY, text text", map[string]any{"onConflict": "Ignore"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
				table := d.table(t, test.columns)
				spec := Sink()
				cfg := map[string]any{"table": table}
				for key, value := range test.config {
					cfg[key] = value
				}
				return connectortest.SinkHarness{
					Common: connectortest.Common{
						Spec: spec, Env: connectortest.NewEnv(t, spec, d.binding), Config: cfg, Unreachable: unreachable(d.binding),
						BadConfigs: map[string]string{
							`{}`: "table", `{"table":"a.b"}`: "table", `{"table":"` + table + `","onConflict":"Update"}`: "conflictKeys",
							`{"table":"` + table + `","conflictKeys":["zz"]}`: "conflictKeys", `{"table":"` + table + `","onConflict":"Maybe"}`: "onConflict",
						},
					},
					Stored: func(t testing.TB) [][]byte {
						t.Helper()
						return d.rows(t, "SELECT n, text FROM "+table+" ORDER BY ctid")
					},
					Refused:    []byte(`{"n":"CONFIDENTIAL","text":"CONFIDENTIAL"}`),
					Ordered:    !test.keyed,
					Idempotent: test.keyed, Keyed: test.keyed,
				}
			})
		})
	}
}

func openedSink(t *testing.T, b backend.Binding, cfg SinkConfig) *sink {
	t.Helper()
	s, err := openSink(t.Context(), cfg, connector.Env{Binding: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s.(*sink)
}

func batchOf(values ...string) *record.Batch {
	b := &record.Batch{}
	for _, value := range values {
		b.Records = append(b.Records, record.New([]byte(value)))
	}
	return b
}

// The server parses every type from its JSON form; missing fields get the default.
func TestTypes(t *testing.T) {
	d := connect(t)
	table := d.table(t, `n bigint PRIMARY KEY, i2 smallint, num numeric(30,10), f double precision, b boolean, s text DEFAULT 'default', at timestamptz, d date,
		u uuid, j jsonb, js json, ia int[], ta text[], nested int[][], ja jsonb[], bytes bytea, ip inet, gen int GENERATED ALWAYS AS (1) STORED, "quo""ted" text`)
	s := openedSink(t, d.binding, SinkConfig{Table: table})
	full := `{"n":9007199254740993,"i2":7,"num":12345678901234567890.0123456789,"f":1.5e-7,"b":true,"s":"tab\tnew\nline\\.\\N","at":"2026-01-02T03:04:05.678Z","d":"2026-01-02",` +
		`"u":"61f0c404-5cb3-11e7-907b-a6006ad3dba0","j":{"a":[1,"x\"y"]},"js":"just text","ia":[1,null,3],"ta":["a,b","c\"d\\e",null,"NULL",""],"nested":[[1,2],[3,4]],"ja":[{"a":1},[2]],` +
		`"bytes":"\\x00ff","ip":"10.0.0.1","gen":5,"quo\"ted":"q","extra":{"ignored":true}}`
	if err := s.Write(t.Context(), batchOf(full, `{"n":2}`, `{"n":3,"s":null}`)); err != nil {
		t.Fatal(err)
	}
	rows := d.rows(t, `SELECT n, i2, num::text num, f, b, s, extract(epoch FROM at) at, d, u, j, js, ia, ta, nested, ja, encode(bytes,'hex') bytes, ip, gen, "quo""ted" q FROM `+table+` ORDER BY n`)
	want := []string{
		`{"n":2,"i2":null,"num":null,"f":null,"b":null,"s":"default","at":null,"d":null,"u":null,"j":null,"js":null,"ia":null,"ta":null,"nested":null,"ja":null,"bytes":null,"ip":null,"gen":1,"q":null}`,
		`{"n":3,"i2":null,"num":null,"f":null,"b":null,"s":null,"at":null,"d":null,"u":null,"j":null,"js":null,"ia":null,"ta":null,"nested":null,"ja":null,"bytes":null,"ip":null,"gen":1,"q":null}`,
		`{"n":9007199254740993,"i2":7,"num":"12345678901234567890.0123456789","f":1.5e-07,"b":true,"s":"tab\tnew\nline\\.\\N","at":1767323045.678000,"d":"2026-01-02",` +
			`"u":"61f0c404-5cb3-11e7-907b-a6006ad3dba0","j":{"a": [1, "x\"y"]},"js":"just text","ia":[1,null,3],"ta":["a,b","c\"d\\e",null,"NULL",""],"nested":[[1,2],[3,4]],"ja":[{"a": 1},[2]],"bytes":"00ff","ip":"10.0.0.1","gen":1,"q":"q"}`,
	}
	for i := range want {
		if string(rows[i]) != want[i] {
			t.Errorf("row %d\n got %s\nwant %s", i, rows[i], want[i])
		}
	}
}

// Of several records with one key in a batch the last one wins, column by column.
func TestUpsertOrder(t *testing.T) {
	d := connect(t)
	table := d.table(t, "id text PRIMARY KEY, a int, b int")
	s := openedSink(t, d.binding, SinkConfig{Table: table, ConflictKeys: []string{"id"}})
	err := s.Write(t.Context(), batchOf(`{"id":"x","a":1,"b":1}`, `{"id":"x","a":2,"b":2}`, `{"id":"x","b":3}`, `{"id":"y","a":1}`, `{"id":"x","a":4}`, `{"id":"z"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), batchOf(`{"id":"y","b":7}`)); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(d.rows(t, "SELECT * FROM "+table+" ORDER BY id"))
	var texts [][]byte
	_ = json.Unmarshal(got, &texts)
	for i, want := range []string{`{"id":"x","a":4,"b":3}`, `{"id":"y","a":1,"b":7}`, `{"id":"z","a":null,"b":null}`} {
		if string(texts[i]) != want {
			t.Errorf("row %d: %s, want %s", i, texts[i], want)
		}
	}
}

func TestErrorsAreClassified(t *testing.T) {
	d := connect(t)
	table := d.table(t, "n int PRIMARY KEY, c varchar(3) CHECK (c <> 'no'), at timestamptz, j jsonb")
	s := openedSink(t, d.binding, SinkConfig{Table: table, UnknownFields: "Fail"})
	for _, value := range []string{
		`{"n":"CONFIDENTIAL"}`, `{"n":99999999999}`, `{"n":null}`, `{"c":"x"}`, `{"n":1,"c":"CONFIDENTIAL"}`, `{"n":1,"c":"no"}`, `{"n":1,"at":"CONFIDENTIAL"}`, `{"n":1,"c":"\u0000"}`, `{"n":1,"j":"\u0000"}`,
	} {
		err := s.Write(t.Context(), batchOf(value))
		if !errors.Is(err, backend.ErrInvalid) || strings.Contains(err.Error(), "CONFIDENTIAL") {
			t.Errorf("%s: %v, want backend.ErrInvalid without the value", value, err)
		}
		t.Log(err)
	}
	err := s.Write(t.Context(), batchOf(`{"n":1,"CONFIDENTIAL":1}`, `[1]`, `{`, "{\"n\":\"\xff\"}", `{}`, `{"n":5}`))
	var refused *record.Errors
	if !errors.As(err, &refused) || len(refused.ByIndex) != 5 {
		t.Errorf("%v, want 5 refused records", err)
	}
	if err := s.Write(t.Context(), batchOf(`{"n":5}`)); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("duplicate key: %v", err)
	}
	d.exec(t, "DROP TABLE "+table)
	if err := s.Write(t.Context(), batchOf(`{"n":6}`)); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("dropped table: %v", err)
	}
	wrong := d.binding
	wrong.Password = "wr0ngpassw0rd"
	if _, err := openSink(t.Context(), SinkConfig{Table: table}, connector.Env{Binding: wrong}); !errors.Is(err, backend.ErrAuth) || strings.Contains(err.Error(), wrong.Password) {
		t.Errorf("wrong password: %v", err)
	}
}

func TestWhereColumnsAndLag(t *testing.T) {
	d := connect(t)
	table := d.table(t, "n bigint PRIMARY KEY, text text, secret text")
	d.exec(t, "INSERT INTO "+table+" SELECT i, 'x', 'y' FROM generate_series(1, 100) i")
	watch, start := false, "10"
	cfg := SourceConfig{Table: table, CursorColumn: "n", Columns: []string{"n"}, Where: "n % 2 = 0 -- even", Watch: &watch, Start: &start, BatchSize: 7}
	env := connectortest.NewEnv(t, Source(), d.binding)
	env.Group = table
	opened, err := openSource(t.Context(), cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close(t.Context()) //nolint:errcheck // a test
	lag := func() int64 {
		n, err := opened.(connector.Lagger).Lag(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := lag(); got != 45 {
		t.Errorf("lag %d before reading, want 45", got)
	}
	n := 0
	for {
		batch, err := opened.Read(t.Context())
		if errors.Is(err, connector.ErrFinished) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if data, _ := batch.Records[0].Bytes(); string(data) != `{"n":12}` {
				t.Errorf("first record %s, want n 12 alone", data)
			}
		}
		n += batch.Len()
		if err := opened.Ack(t.Context(), []*record.Batch{batch}); err != nil {
			t.Fatal(err)
		}
	}
	if got := lag(); n != 45 || got != 0 {
		t.Errorf("%d records and lag %d, want 45 and 0", n, got)
	}
}

// A where clause runs read-only.
func TestWhereCannotWrite(t *testing.T) {
	d := connect(t)
	table := d.table(t, "n bigint PRIMARY KEY")
	d.exec(t, "INSERT INTO "+table+" VALUES (1)")
	d.exec(t, "CREATE OR REPLACE FUNCTION forge() RETURNS boolean LANGUAGE sql AS 'INSERT INTO "+table+" VALUES (2) RETURNING true'")
	watch := false
	opened, err := openSource(t.Context(), SourceConfig{Table: table, CursorColumn: "n", Where: "forge()", Watch: &watch}, connectortest.NewEnv(t, Source(), d.binding))
	if err == nil {
		_, err = opened.Read(t.Context())
		_ = opened.Close(t.Context())
	}
	if err == nil {
		t.Error("a writing condition was accepted")
	}
	if rows := d.rows(t, "SELECT * FROM "+table); len(rows) != 1 {
		t.Errorf("%d rows, want 1", len(rows))
	}
}

func BenchmarkSink(b *testing.B) {
	d := connect(b)
	for name, cfg := range map[string]SinkConfig{"copy": {}, "upsert": {ConflictKeys: []string{"n"}}} {
		columns := "n bigint, text text, at timestamptz"
		if name == "upsert" {
			columns = "n bigint PRIMARY KEY, text text, at timestamptz"
		}
		cfg.Table = d.table(b, columns)
		opened, err := openSink(context.Background(), cfg, connector.Env{Binding: d.binding})
		if err != nil {
			b.Fatal(err)
		}
		batch := &record.Batch{}
		for i := range 5000 {
			batch.Records = append(batch.Records, record.New(fmt.Appendf(nil, `{"n":%d,"text":"%s","at":"2026-01-02T03:04:05Z"}`, i, strings.Repeat("x", 200))))
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(batch.Bytes())
			for b.Loop() {
				if err := opened.Write(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
		_ = opened.Close(context.Background())
	}
}
