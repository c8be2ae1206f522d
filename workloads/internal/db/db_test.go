// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
)

func TestMain(m *testing.M) { servers.Main(m) }

// schema creates a schema of the test's own.
func schema(t testing.TB) config.Database {
	t.Helper()
	b, name := servers.Schema(t)
	return config.Database{Binding: b.Data(), Schema: name}
}

func open(t testing.TB, c config.Database) *pgxpool.Pool {
	t.Helper()
	if c.MaxConnections == 0 {
		c.MinConnections, c.MaxConnections = 1, 4
	}
	pool, err := Open(t.Context(), c, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// set returns migrations with a slow first one, as a set of several files.
func set(name string) fs.FS {
	return fstest.MapFS{
		"migrations/00001_" + name + ".sql": {Data: []byte("-- +goose Up\nCREATE TABLE " + name + " (id int PRIMARY KEY);\nSELECT pg_sleep(0.2);\n")},
		"migrations/00002_more.sql":         {Data: []byte("-- +goose Up\nINSERT INTO " + name + " VALUES (1);\n")},
	}
}

func TestOpenSetsTheSession(t *testing.T) {
	c := schema(t)
	pool := open(t, c)
	for setting, want := range map[string]string{
		"search_path": c.Schema, "statement_timeout": "10s", "lock_timeout": "5s",
		"idle_in_transaction_session_timeout": "30s", "application_name": "test", "timezone": "UTC",
	} {
		var got string
		if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got); err != nil || strings.Trim(got, `"`) != want {
			t.Errorf("%s is %s, want %s (%v)", setting, got, want, err)
		}
	}
	c.MaxConnections = 0
	settings, err := poolConfig(c, "test")
	if err != nil || settings.MinConns != 10 || settings.MaxConns != 20 {
		t.Errorf("a pool of %d to %d, want 10 to 20 (%v)", settings.MinConns, settings.MaxConns, err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(pool, "test"))
	if families, err := registry.Gather(); err != nil || len(families) != 5 {
		t.Errorf("%d metrics, want 5 (%v)", len(families), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := map[string]string{"host": "h", "port": "1", "username": "u", "database": "d", "password": "canary-value"}
	with := func(pairs ...string) config.Database {
		binding := map[string]string{}
		for k, v := range good {
			binding[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			binding[pairs[i]] = pairs[i+1]
		}
		return config.Database{Binding: binding, Schema: "s"}
	}
	for name, c := range map[string]config.Database{
		"no host":     with("host", ""),
		"port":        with("port", "99999"),
		"tls":         with("tls", "perhaps"),
		"ca":          with("tls", "true", "ca.crt", "canary-value"),
		"certificate": with("tls", "true", "tls.crt", "canary-value", "tls.key", "canary-value"),
		"schema":      {Binding: good, Schema: `s"; DROP TABLE users`},
		"no schema":   {Binding: good},
	} {
		_, err := Open(t.Context(), c, "test")
		if !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "canary-value") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), with("tls", "true"), "test"); err != nil {
		t.Errorf("no round trip is needed: %v", err)
	}
}

// TestReplicasMigrateAtOnce starts four together, each with several sets, and again on the migrated schema.
func TestReplicasMigrateAtOnce(t *testing.T) {
	c := schema(t)
	for round := range 2 {
		var group sync.WaitGroup
		failures := make(chan error, 8)
		for range 4 {
			pool := open(t, c)
			group.Go(func() {
				for _, name := range []string{"first", "second"} {
					if err := Migrate(t.Context(), pool, set(name), discard()); err != nil {
						failures <- fmt.Errorf("round %d, %s: %w", round, name, err)
					}
				}
			})
		}
		group.Wait()
		close(failures)
		for err := range failures {
			t.Error(err)
		}
	}
	pool := open(t, c)
	for _, name := range []string{"first", "second"} {
		var rows, versions int
		err := pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM "+name+"), (SELECT count(*) FROM goose_"+name+" WHERE version_id > 0)").Scan(&rows, &versions)
		if err != nil || rows != 1 || versions != 2 {
			t.Errorf("%s: %d rows, %d versions (%v)", name, rows, versions, err)
		}
	}
}

func TestMigrateOutlivesTheStatementTimeout(t *testing.T) {
	pool := open(t, schema(t))
	if _, err := pool.Exec(t.Context(), "ALTER ROLE CURRENT_USER SET statement_timeout = '100ms'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := open(t, config.Database{Binding: servers.Postgres(t).Data(), Schema: "public"}).Exec(context.Background(), "ALTER ROLE CURRENT_USER RESET statement_timeout"); err != nil {
			t.Error(err)
		}
	})
	if err := Migrate(t.Context(), pool, set("slow"), discard()); err != nil {
		t.Error(err)
	}
}

func TestMigrateFails(t *testing.T) {
	pool := open(t, schema(t))
	if err := Migrate(t.Context(), pool, set("one"), discard()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files fs.FS
		want  string
	}{
		"none":        {fstest.MapFS{}, "no migration"},
		"form":        {fstest.MapFS{"1_x.sql": {Data: []byte("-- +goose Up\n")}}, "1_x.sql"},
		"wrong SQL":   {fstest.MapFS{"00001_wrong.sql": {Data: []byte("-- +goose Up\nCREATE TABLE half (id int);\nCREATE NONSENSE;\n")}}, "00001_wrong.sql"},
		"other first": {fstest.MapFS{"00001_one.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}}, "first migration differs"},
	} {
		if err := Migrate(t.Context(), pool, c.files, discard()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var half *string
	if err := pool.QueryRow(t.Context(), "SELECT to_regclass('half')::text").Scan(&half); err != nil || half != nil {
		t.Errorf("half a migration remained: %v %v", half, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Migrate(ctx, pool, set("two"), discard()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestInTx checks that increments that all read before they write are all applied in the end, and that an error undoes
// everything.
func TestInTx(t *testing.T) {
	pool := open(t, schema(t))
	ctx := t.Context()
	if _, err := pool.Exec(ctx, "CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)"); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	done, runs := 0, 0
	for range 4 {
		group.Go(func() {
			for range 5 {
				err := InTx(ctx, pool, func(tx pgx.Tx) error {
					mu.Lock()
					runs++
					mu.Unlock()
					var n int
					if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"); err != nil {
						return err
					}
					if err := tx.QueryRow(ctx, "SELECT n FROM counter").Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, "UPDATE counter SET n = $1", n+1)
					return err
				})
				mu.Lock()
				if err == nil {
					done++
				} else if !lostRace(err) {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	var n int
	if err := pool.QueryRow(ctx, "SELECT n FROM counter").Scan(&n); err != nil || n != done || done == 0 {
		t.Errorf("the counter is %d after %d transactions in %d runs (%v)", n, done, runs, err)
	}
	if runs <= done {
		t.Logf("no transaction lost a race: %d runs", runs)
	}
	mine := errors.New("mine")
	err := InTx(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE counter SET n = -1"); err != nil {
			return err
		}
		return mine
	})
	if !errors.Is(err, mine) {
		t.Error(err)
	}
	if err := pool.QueryRow(ctx, "SELECT n FROM counter").Scan(&n); err != nil || n != done {
		t.Errorf("the counter is %d after a failed transaction (%v)", n, err)
	}
}

func TestIsUnique(t *testing.T) {
	pool := open(t, schema(t))
	_, err := pool.Exec(t.Context(), "CREATE TABLE u (id int CONSTRAINT u_key UNIQUE); INSERT INTO u VALUES (1), (1)")
	if !IsUnique(err, "u_key") || !IsUnique(err, "") || IsUnique(err, "other") || IsUnique(errors.New("x"), "") {
		t.Error(err)
	}
}

// TestOpenWithoutServer checks that the pool recovers by itself once the server is up.
func TestOpenWithoutServer(t *testing.T) {
	server := servers.StartPostgres(t)
	server.Kill()
	pool := open(t, config.Database{Binding: server.Binding.Data(), Schema: "public"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := pool.Ping(ctx); err == nil {
		t.Error("there is no server")
	}
	server.Restart(t)
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTLS checks that queries and migrations are encrypted, and that a server with another CA's certificate is refused.
func TestTLS(t *testing.T) {
	plain := schema(t)
	secure := plain
	secure.Binding = servers.TLS(t, servers.Postgres(t)).Data()
	pool := open(t, secure)
	if err := Migrate(t.Context(), pool, set("sealed"), discard()); err != nil {
		t.Error(err)
	}
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	stranger := secure
	stranger.Binding = servers.TLS(t, servers.Postgres(t)).Data()
	stranger.Binding["ca.crt"] = secure.Binding["ca.crt"]
	err := open(t, stranger).Ping(t.Context())
	if err == nil || strings.Contains(err.Error(), stranger.Binding["password"]) {
		t.Errorf("another CA: %v", err)
	}
}
