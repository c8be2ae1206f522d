// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) postgres.Admin {
	t.Helper()
	admin, err := postgres.New(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	return admin
}

// pool connects as the given role.
func pool(t testing.TB, b backend.Binding, role, password string) *pgxpool.Pool {
	t.Helper()
	b.Username, b.Password = role, password
	pool, err := postgres.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestFake(t *testing.T) {
	backendtest.Postgres(t, "itechsmart", func(testing.TB) postgres.Admin { return postgres.NewFake() })
}

func TestReal(t *testing.T) {
	b := servers.Postgres(t)
	backendtest.Postgres(t, b.Username, func(t testing.TB) postgres.Admin { return open(t, b) })
}

// TestRoleLogsIn checks the verifier with a login at the server, and what the grants allow.
func TestRoleLogsIn(t *testing.T) {
	b := servers.Postgres(t)
	ctx := backendtest.Context(t)
	admin := open(t, b)
	role, schema := backendtest.Name("role"), backendtest.Name("schema")
	table := postgres.Table{Schema: schema, Name: "notes", Columns: []postgres.Column{{Name: "id", Type: "bigserial"}, {Name: "text", Type: "text"}}}
	for _, err := range []error{
		admin.EnsureRole(ctx, role, "pass'word € 1"), admin.EnsureSchema(ctx, schema, ""), admin.CreateTable(ctx, table),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tenant := pool(t, b, role, "pass'word € 1")
	insert, read := "INSERT INTO "+schema+".notes (text) VALUES ('a')", "SELECT count(*) FROM "+schema+".notes"
	try := func(step, sql string, want error) {
		t.Helper()
		_, err := tenant.Exec(ctx, sql)
		if err := postgres.Error(b, step, err); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", step, err, want)
		}
	}
	try("no grant", read, backend.ErrAuth)
	if err := admin.GrantSchema(ctx, schema, role, postgres.ReadWrite); err != nil {
		t.Fatal(err)
	}
	try("insert", insert, nil)
	table.Name = "later"
	if err := admin.CreateTable(ctx, table); err != nil {
		t.Fatal(err)
	}
	try("later table", strings.ReplaceAll(insert, "notes", "later"), nil)
	try("create", "CREATE TABLE "+schema+".mine (id int)", backend.ErrAuth)
	if err := admin.GrantSchema(ctx, schema, role, postgres.ReadOnly); err != nil {
		t.Fatal(err)
	}
	try("read", read, nil)
	try("insert while read-only", insert, backend.ErrAuth)
	if err := admin.RevokeSchema(ctx, schema, role); err != nil {
		t.Fatal(err)
	}
	try("revoked", read, backend.ErrAuth)
	tenant.Close()

	var before, after string
	stored := func(into *string) {
		t.Helper()
		if err := pool(t, b, b.Username, b.Password).QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", role).Scan(into); err != nil {
			t.Fatal(err)
		}
	}
	stored(&before)
	if err := admin.EnsureRole(ctx, role, "pass'word € 1"); err != nil {
		t.Fatal(err)
	}
	if stored(&after); before != after {
		t.Error("the same password was written again")
	}
	if err := admin.EnsureRole(ctx, role, "second"); err != nil {
		t.Fatal(err)
	}
	if err := pool(t, b, role, "second").Ping(ctx); err != nil {
		t.Errorf("the new password: %v", err)
	}
	err := postgres.Error(b, "ping", pool(t, b, role, "pass'word € 1").Ping(ctx))
	if !errors.Is(err, backend.ErrAuth) {
		t.Errorf("the old password: got %v, want ErrAuth", err)
	}
	if err := admin.DropRole(ctx, role); err != nil {
		t.Error(err)
	}
}

// TestLimitedLogin administers as a role that may only create roles and schemas, like that of a hosted
// database.
func TestLimitedLogin(t *testing.T) {
	b := servers.Postgres(t)
	ctx := backendtest.Context(t)
	limited := backendtest.Name("limited")
	super := pool(t, b, b.Username, b.Password)
	for _, sql := range []string{
		"CREATE ROLE " + limited + " LOGIN CREATEROLE PASSWORD 'limited'",
		"GRANT CREATE ON DATABASE " + b.Database + " TO " + limited,
	} {
		if _, err := super.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	own := b
	own.Username, own.Password = limited, "limited"
	admin := open(t, own)
	role, schema := backendtest.Name("role"), backendtest.Name("schema")
	for range 2 {
		if err := admin.EnsureRole(ctx, role, "tenant"); err != nil {
			t.Fatal(err)
		}
		if err := admin.EnsureSchema(ctx, schema, role); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool(t, b, role, "tenant").Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := admin.EnsureRole(ctx, b.Username, "taken over"); !errors.Is(err, backend.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
}

func TestRefused(t *testing.T) {
	good := servers.Postgres(t)
	for _, test := range []struct {
		name   string
		change func(*backend.Binding)
		want   error
	}{
		{"wrong password", func(b *backend.Binding) { b.Password = "wrong-" + b.Password }, backend.ErrAuth},
		{"no password", func(b *backend.Binding) { b.Password = "" }, backend.ErrAuth},
		{"unknown user", func(b *backend.Binding) { b.Username = "nobody" }, backend.ErrAuth},
		{"no such database", func(b *backend.Binding) { b.Database = "none" }, backend.ErrNotFound},
		{"connection refused", func(b *backend.Binding) { b.Port = "1" }, backend.ErrUnavailable},
		{"tls on a plain port", func(b *backend.Binding) { b.TLS = "true" }, backend.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The environment must not have an effect.
			t.Setenv("PGPASSWORD", good.Password)
			t.Setenv("PGSSLMODE", "disable")
			b := good
			test.change(&b)
			_, err := open(t, b).Ping(backendtest.Context(t))
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), good.Password) {
				t.Error("the error contains the password")
			}
		})
	}
}

func TestSilent(t *testing.T) {
	backendtest.Silent(t, backend.Binding{Username: "user", Password: "password", Database: "database"}, postgres.New)
}

func TestEncrypted(t *testing.T) {
	b := servers.Postgres(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, postgres.New)
}

func TestOutage(t *testing.T) {
	server := servers.StartPostgres(t)
	admin := open(t, server.Binding)
	ctx := backendtest.Context(t)
	if err := admin.EnsureSchema(ctx, "kept", ""); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := admin.Ping(ctx); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	ctx = backendtest.Context(t)
	if _, err := admin.Schema(ctx, "kept"); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, change := range map[string]func(*backend.Binding){
		"host":     func(b *backend.Binding) { b.Host = "" },
		"port":     func(b *backend.Binding) { b.Port = "x" },
		"username": func(b *backend.Binding) { b.Username = "" },
		"database": func(b *backend.Binding) { b.Database = "" },
		"tls":      func(b *backend.Binding) { b.TLS = "1" },
	} {
		b := backend.Binding{Host: "h", Port: "1", Username: "u", Database: "d"}
		change(&b)
		if _, err := postgres.New(b); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalid naming %s", err, name)
		}
	}
}
