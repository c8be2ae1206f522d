// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

func TestMain(m *testing.M) {
	if dir := crashDir(); dir != "" {
		recordUntilKilled(dir)
	}
	servers.Main(m)
}

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// newSchema creates an empty schema and returns a pool that uses only it.
func newSchema(t testing.TB, b backend.Binding) *pgxpool.Pool {
	t.Helper()
	schema := fmt.Sprintf("audit_%d", time.Now().UnixNano())
	admin := connect(t, b, "public")
	if _, err := admin.Exec(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	return connect(t, b, schema)
}

func connect(t testing.TB, b backend.Binding, schema string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn(b, schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func dsn(b backend.Binding, schema string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(b.Username, b.Password), Host: b.Address(), Path: b.Database}
	u.RawQuery = url.Values{"search_path": {schema}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// open opens a log that is closed at the end of the test, without waiting for the database.
func open(t testing.TB, pool *pgxpool.Pool, change ...func(*Options)) *Log {
	t.Helper()
	options := Options{Product: "vault", Key: testKey, SpillDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&options)
	}
	l, err := Open(t.Context(), pool, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abandon(l) })
	return l
}

// abandon stops the log as a crash would: nothing more is handed over.
func abandon(l *Log) {
	l.stop()
	l.stopped.Wait()
	l.spool.close()
}

func event(n int) Event {
	return Event{
		Namespace: "shop", User: "ada@example.com", UserID: "u-1", Action: "secret.read", Object: fmt.Sprintf("secret/db/password@%d", n),
		Outcome: Allowed, IP: "192.0.2.1", UserAgent: "curl/8", RequestID: fmt.Sprint(n), Details: map[string]string{"n": fmt.Sprint(n)},
	}
}

func record(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := l.Record(t.Context(), event(n)); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
	}
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func export(t testing.TB, l *Log) []string {
	t.Helper()
	var out bytes.Buffer
	if err := l.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(out.String(), "\n")+"\n", "\n")[:strings.Count(out.String(), "\n")]
}

// verify exports the chain and checks that it holds with n events.
func verify(t testing.TB, l *Log, n int64) Report {
	t.Helper()
	report, err := Verify(strings.NewReader(strings.Join(export(t, l), "")), l.Public())
	if err != nil {
		t.Fatalf("the chain does not hold: %v", err)
	}
	if report.Events != n {
		t.Fatalf("%d events in the chain, want %d", report.Events, n)
	}
	return report
}
