// SPDX-License-Identifier: Apache-2.0

package clickhouse_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) clickhouse.Admin {
	t.Helper()
	admin, err := clickhouse.New(b)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestFake(t *testing.T) {
	backendtest.ClickHouse(t, func(testing.TB) clickhouse.Admin { return clickhouse.NewFake() })
}

func TestReal(t *testing.T) {
	b := servers.ClickHouse(t)
	backendtest.ClickHouse(t, func(t testing.TB) clickhouse.Admin { return open(t, b) })
}

// TestOpen writes and reads a batch over the connectors' connection.
func TestOpen(t *testing.T) {
	b := servers.ClickHouse(t)
	ctx := backendtest.Context(t)
	conn, err := clickhouse.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if err := conn.Exec(ctx, "CREATE TABLE batch (id UInt64, name String) ENGINE = MergeTree ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO batch")
	if err != nil {
		t.Fatal(err)
	}
	const rows = 10_000
	for i := range uint64(rows) {
		if err := batch.Append(i, "name"); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	var count, sum uint64
	if err := conn.QueryRow(ctx, "SELECT count(), sum(id) FROM batch WHERE name = ?", "name").Scan(&count, &sum); err != nil {
		t.Fatal(err)
	}
	if count != rows || sum != rows*(rows-1)/2 {
		t.Errorf("read %d rows with sum %d", count, sum)
	}
}

func TestRefused(t *testing.T) {
	good := servers.ClickHouse(t)
	for _, test := range []struct {
		name   string
		change func(*backend.Binding)
		want   error
	}{
		{"wrong password", func(b *backend.Binding) { b.Password = "wrong-" + b.Password }, backend.ErrAuth},
		{"unknown user", func(b *backend.Binding) { b.Username = "nobody" }, backend.ErrAuth},
		{"connection refused", func(b *backend.Binding) { b.Port = "1" }, backend.ErrUnavailable},
		{"tls on a plain port", func(b *backend.Binding) { b.TLS = "true" }, backend.ErrUnavailable},
		{"no such host", func(b *backend.Binding) { b.Host = "no-such-host.invalid" }, backend.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := good
			test.change(&b)
			_, err := open(t, b).Ping(backendtest.Context(t))
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), good.Password) {
				t.Errorf("the error contains the password: %v", err)
			}
		})
	}
}

func TestSilent(t *testing.T) {
	for _, protocol := range []string{"http", "native"} {
		t.Run(protocol, func(t *testing.T) {
			backendtest.Silent(t, backend.Binding{Extra: map[string]string{"protocol": protocol}}, clickhouse.New)
		})
	}
}

func TestEncrypted(t *testing.T) {
	b := servers.ClickHouse(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, clickhouse.New)
}

func TestOutage(t *testing.T) {
	server := servers.StartClickHouse(t)
	admin := open(t, server.Binding)
	ctx := backendtest.Context(t)
	table := clickhouse.Table{
		Database: server.Binding.Database, Name: "kept", OrderBy: "id",
		Columns: []clickhouse.Column{{Name: "id", Type: "UInt64"}},
	}
	if err := admin.CreateTable(ctx, table); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := admin.Ping(ctx); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	ctx = backendtest.Context(t)
	if _, err := admin.Table(ctx, table.Database, table.Name); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, b := range map[string]backend.Binding{
		"host":     {Port: "1"},
		"port":     {Host: "h"},
		"protocol": {Host: "h", Port: "1", Extra: map[string]string{"protocol": "grpc"}},
	} {
		if _, err := clickhouse.New(b); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalid naming %s", err, name)
		}
	}
}

func TestSame(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"Map(String,UInt8)", " Map( String , UInt8 ) ", true},
		{"varchar", "String", true},
		{"Nullable(int)", "Nullable(Int32)", true},
		{"Enum8('int' = 1)", "Enum8('Int32' = 1)", false},
		{"Int32", "Int64", false},
	} {
		if got := clickhouse.SameType(test.a, test.b); got != test.same {
			t.Errorf("types %q and %q: %t", test.a, test.b, got)
		}
	}
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"(id, url)", "id,url", true},
		{"(a) + (b)", "a) + (b", false},
		{"ts + INTERVAL 30 days", "ts+toIntervalDay(30)", true},
		{"tuple()", "", true},
		{"'a b'", "'ab'", false},
		{"materialized (x)", "MATERIALIZED x", true},
		{"materialized x", "x", false},
	} {
		if got := clickhouse.SameExpression(test.a, test.b); got != test.same {
			t.Errorf("expressions %q and %q: %t", test.a, test.b, got)
		}
	}
}
