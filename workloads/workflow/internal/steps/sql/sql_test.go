// SPDX-License-Identifier: Apache-2.0

package sql_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

func TestMain(m *testing.M) { servers.Main(m) }

func database(t testing.TB) (backend.Binding, *pgxpool.Pool) {
	t.Helper()
	b := servers.Postgres(t)
	pool, err := pg.Open(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return b, pool
}

func newSet(t testing.TB, b backend.Binding) *steps.Set {
	t.Helper()
	set := steps.New(step.Env{Connections: steptest.Connections{"db": b}})
	t.Cleanup(func() { _ = set.Close() })
	return set
}

func execute(t testing.TB, set *steps.Set, query, mode string, args ...any) (map[string]any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := set.Execute(ctx, steptest.Call("sql", map[string]any{"connection": "db", "query": query, "mode": mode, "args": args}))
	output, _ := got.Output.(map[string]any)
	return output, err
}

func TestConformance(t *testing.T) {
	b, pool := database(t)
	wrong, gone := b, b
	wrong.Password = "wrong-" + b.Password
	gone.Port = "1"
	config := func(connection, query string) map[string]any {
		return map[string]any{"connection": connection, "query": query}
	}
	with := func(field string, value any) map[string]any {
		c := config("db", "SELECT 1")
		c[field] = value
		return c
	}
	started := make(chan struct{})
	go func() {
		defer close(started)
		for n := 0; n == 0; { // until the statement is running
			if pool.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'").Scan(&n) != nil {
				return
			}
		}
	}()
	steptest.Run(t, steptest.Harness{
		Type: "sql", Env: step.Env{Connections: steptest.Connections{"db": b, "wrong": wrong, "gone": gone, "kafka": {Type: "kafka"}}},
		Config: map[string]any{"connection": "db", "query": "SELECT $1::int AS n, 'ü' AS text, $2 AS key", "args": []any{int64(5), map[string]any{"$key": true}}, "mode": "query", "maxRows": int64(10)},
		Bad: map[string]map[string]any{
			"with.connection": config("", "SELECT 1"), "with.connection that is none": config("none", "SELECT 1"), "with.connection of another type": config("kafka", "SELECT 1"),
			"with.query": config("db", ""), "with.query of a wrong syntax": config("db", "SELEC 1"), "with.query of no table": config("db", "SELECT * FROM nowhere"),
			"with.query of two columns": config("db", "SELECT 1 AS a, 2 AS a"), "with.mode": with("mode", "read"), "with.args": with("args", "1"),
			"with.maxRows": with("maxRows", int64(0)), "with.args[0]": with("args", []any{"\x00"}),
		},
		Slow: config("db", "SELECT pg_sleep(3600)"), Started: started,
		Failing: []map[string]any{config("wrong", "SELECT 1"), config("gone", "SELECT 1"), config("db", "SELECT 1/0"), with("maxRows", int64(-1))},
		Secrets: []string{b.Password},
	})
	// The statements of canceled steps are canceled as well.
	deadline := time.Now().Add(time.Minute)
	for n := 1; n > 0; {
		if err := pool.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'").Scan(&n); err != nil || time.Now().After(deadline) {
			t.Fatalf("%d statements of canceled steps are running, %v", n, err)
		}
	}
}

func TestValues(t *testing.T) {
	b, _ := database(t)
	set := newSet(t, b)
	for _, test := range []struct {
		query string
		args  []any
		want  any
	}{
		{"SELECT true", nil, true}, {"SELECT 9223372036854775807", nil, int64(9223372036854775807)}, {"SELECT 1.5::float8", nil, 1.5}, {"SELECT 3::float4", nil, int64(3)},
		{"SELECT 12.30::numeric(10,2)", nil, 12.3}, {"SELECT 0.1::numeric", nil, 0.1}, {"SELECT 12345678901234567890.12::numeric", nil, "12345678901234567890.12"}, {"SELECT 'NaN'::float8", nil, "NaN"},
		{"SELECT NULL::int", nil, nil}, {`SELECT '{"a":[1,9007199254740993]}'::jsonb`, nil, map[string]any{"a": []any{int64(1), int64(9007199254740993)}}}, {"SELECT 'null'::json", nil, nil},
		{"SELECT timestamptz '2026-01-02 03:04:05.5+02'", nil, "2026-01-02T01:04:05.5Z"}, {"SELECT date '2026-01-02'", nil, "2026-01-02"}, {"SELECT timestamptz 'infinity'", nil, "infinity"},
		{"SELECT '\\xff00'::bytea", nil, "\\xff00"}, {"SELECT '10.0.0.1'::inet", nil, "10.0.0.1"}, {"SELECT interval '1 day'", nil, "1 day"}, {"SELECT ARRAY[1,NULL,3]", nil, []any{int64(1), nil, int64(3)}},
		{`SELECT ARRAY['a"b','c,d','']`, nil, []any{`a"b`, "c,d", ""}}, {"SELECT ARRAY[[1],[2]]", nil, "{{1},{2}}"}, {"SELECT '{}'::int[]", nil, []any{}}, {"SELECT 'a-b'::text", nil, "a-b"},
		{"SELECT $1::int + 1", []any{int64(5)}, int64(6)}, {"SELECT $1::int", []any{2.0}, int64(2)}, {"SELECT $1::float8", []any{0.1}, 0.1}, {"SELECT $1::bool", []any{true}, true}, {"SELECT $1::text", []any{int64(5)}, "5"},
		{"SELECT $1::timestamptz", []any{"2026-01-02T03:04:05Z"}, "2026-01-02T03:04:05Z"}, {"SELECT $1::int", []any{nil}, nil}, {"SELECT $1::jsonb", []any{map[string]any{"a": "'"}}, map[string]any{"a": "'"}},
		{"SELECT $1::jsonb", []any{[]any{int64(1), "x"}}, []any{int64(1), "x"}}, {"SELECT $1::int[]", []any{[]any{int64(1), nil}}, []any{int64(1), nil}}, {"SELECT $1::text[]", []any{[]any{`a"\`, "NULL", ""}}, []any{`a"\`, "NULL", ""}},
		{"SELECT 5 = ANY($1)", []any{[]any{int64(4), int64(5)}}, true}, {"SELECT $1", []any{"'; DROP TABLE x; --"}, "'; DROP TABLE x; --"}, {"SELECT $1::text", []any{map[string]any{"$key": true}}, "run-1/step-1/-1/1"},
		{"SELECT $1::jsonb", []any{map[string]any{"$key": false}}, map[string]any{"$key": false}}, {"SELECT 'x'::name", nil, "x"}, {"SELECT 'ü😀'", nil, "ü😀"},
	} {
		got, err := execute(t, set, test.query+" AS v", "query", test.args...)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		if value := got["rows"].([]any)[0].(map[string]any)["v"]; !reflect.DeepEqual(value, test.want) {
			t.Errorf("%s %v: got %#v, want %#v", test.query, test.args, value, test.want)
		}
	}
}

func TestModes(t *testing.T) {
	b, _ := database(t)
	set := newSet(t, b)
	do := func(query, mode string, args ...any) map[string]any {
		t.Helper()
		got, err := execute(t, set, query, mode, args...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	do("CREATE TABLE done (key text PRIMARY KEY, n int)", "exec")
	insert := "INSERT INTO done VALUES ($1, $2) ON CONFLICT DO NOTHING"
	for i, want := range []int64{1, 0} { // repeating the attempt changes nothing
		if got := do(insert, "exec", map[string]any{"$key": true}, int64(1)); got["rowsAffected"] != want {
			t.Errorf("attempt %d: got %v, want %d rows", i+1, got, want)
		}
	}
	if got := do("UPDATE done SET n = n + 1 RETURNING n", "query"); !reflect.DeepEqual(got, map[string]any{"rows": []any{map[string]any{"n": int64(2)}}, "rowCount": int64(1)}) {
		t.Errorf("got %v", got)
	}
	if got := do("SELECT n FROM done WHERE false", "query"); !reflect.DeepEqual(got, map[string]any{"rows": []any{}, "rowCount": int64(0)}) {
		t.Errorf("got %v", got)
	}
	_, err := execute(t, set, "INSERT INTO done VALUES ('run-1/step-1/-1/1', 1)", "exec")
	steptest.Permanent(t, err, "SQLSTATE 23505")
	// Too many rows roll back the statement.
	_, err = execute(t, set, "INSERT INTO done SELECT g::text, g FROM generate_series(1, 1001) g RETURNING n", "query")
	steptest.Permanent(t, err, "with.maxRows: there are more than 1000 rows")
	if got := do("SELECT count(*) AS n FROM done", "query"); got["rows"].([]any)[0].(map[string]any)["n"] != int64(1) {
		t.Errorf("got %v, want the insert to be rolled back", got)
	}
	_, err = execute(t, set, "SELECT repeat('x', 1000) FROM generate_series(1, 900)", "query")
	steptest.Permanent(t, err, "the rows have more than 262144 bytes")
	_, err = execute(t, set, "SELECT repeat('x', 100000000)", "query")
	steptest.Permanent(t, err, "a row is larger")
	if got := do("SELECT 1 AS a", "query"); got["rowCount"] != int64(1) {
		t.Errorf("after a refused row: got %v", got)
	}
}

// TestConflict: conflicts between transactions are temporary errors.
func TestConflict(t *testing.T) {
	b, pool := database(t)
	set := newSet(t, b)
	ctx := context.Background()
	if _, err := pool.Exec(ctx, "CREATE TABLE counter (n int); INSERT INTO counter VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, query string }{
		{"lock", "SELECT n FROM counter FOR UPDATE NOWAIT"},
		{"serialization", "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'serialization_failure'; END $$"},
		{"deadlock", "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END $$"},
	} {
		tx, err := pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "SELECT n FROM counter FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		_, err = execute(t, set, test.query, "exec")
		var permanent *engine.Permanent
		if err == nil || errors.As(err, &permanent) {
			t.Errorf("%s: got %v, want a temporary error", test.name, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOutage: errors are temporary while the database is down, and statements work when it is back, also after a password rotation.
func TestOutage(t *testing.T) {
	server := servers.StartPostgres(t)
	bindings := steptest.Connections{"db": server.Binding}
	set := steps.New(step.Env{Connections: bindings})
	defer set.Close() //nolint:errcheck // it never fails
	if _, err := execute(t, set, "SELECT 1 AS a", "query"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	for range 2 {
		_, err := execute(t, set, "SELECT 1 AS a", "query")
		var permanent *engine.Permanent
		if err == nil || errors.As(err, &permanent) {
			t.Fatalf("got %v, want a temporary error", err)
		}
	}
	server.Restart(t)
	if _, err := execute(t, set, "SELECT 1 AS a", "query"); err != nil {
		t.Fatalf("after the restart: %v", err)
	}
	if _, err := execute(t, set, "ALTER ROLE "+server.Binding.Username+" PASSWORD 'rotated'", "exec"); err != nil {
		t.Fatal(err)
	}
	rotated := server.Binding
	rotated.Password = "rotated"
	bindings["db"] = rotated
	if _, err := execute(t, set, "SELECT 1 AS a", "query"); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	bindings["db"] = server.Binding
	if _, err := execute(t, set, "SELECT 1 AS a", "query"); err == nil || strings.Contains(err.Error(), server.Binding.Password) {
		t.Errorf("with the old password: got %v", err)
	}
}
