// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"errors"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

func openTenants(t testing.TB, b backend.Binding) postgres.Tenants {
	t.Helper()
	admin, err := postgres.NewTenants(b)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestFakeTenants(t *testing.T) {
	backendtest.Tenants(t, "itechsmart", func(testing.TB) postgres.Tenants { return postgres.NewFake() })
}

func TestRealTenants(t *testing.T) {
	b := servers.Postgres(t)
	backendtest.Tenants(t, b.Username, func(t testing.TB) postgres.Tenants { return openTenants(t, b) })
}

// TestTenantIsConfined checks that a tenant works in its schema without naming it, and cannot access another's.
func TestTenantIsConfined(t *testing.T) {
	b := servers.Postgres(t)
	confined(t, b, b)
}

// TestTenantByLesserLogin checks that a login that may create roles, and schemas in its database, is enough.
func TestTenantByLesserLogin(t *testing.T) {
	b := servers.Postgres(t)
	ctx := backendtest.Context(t)
	lesser := b
	lesser.Username, lesser.Password, lesser.URI = backendtest.Name("lesser"), "lesser password", ""
	super := pool(t, b, b.Username, b.Password)
	for _, statement := range []string{
		"CREATE ROLE " + lesser.Username + " LOGIN CREATEROLE PASSWORD 'lesser password'",
		"GRANT CREATE ON DATABASE " + postgres.Quote(b.Database) + " TO " + lesser.Username,
	} {
		if _, err := super.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	confined(t, b, lesser)
	// Without the privilege to create roles the server refuses, and the error says so.
	if _, err := super.Exec(ctx, "ALTER ROLE "+lesser.Username+" NOCREATEROLE"); err != nil {
		t.Fatal(err)
	}
	admin := openTenants(t, lesser)
	defer admin.Close() //nolint:errcheck // the test is over
	err := admin.EnsureTenant(ctx, postgres.Tenant{Name: backendtest.Name("tenant"), Mark: "m"}, "secret", "")
	if !errors.Is(err, backend.ErrAuth) {
		t.Errorf("got %v, want ErrAuth", err)
	}
}

// confined creates two tenants as admin and checks their privileges.
func confined(t *testing.T, b, admin backend.Binding) {
	ctx := backendtest.Context(t)
	tenants := openTenants(t, admin)
	defer tenants.Close() //nolint:errcheck // the test is over
	one, two := backendtest.Name("tenant"), backendtest.Name("tenant")
	for _, name := range []string{one, two} {
		for range 2 {
			if err := tenants.EnsureTenant(ctx, postgres.Tenant{Name: name, Mark: "m"}, "password of "+name, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, second := pool(t, b, one, "password of "+one), pool(t, b, two, "password of "+two)
	var path string
	if err := first.QueryRow(ctx, "SHOW search_path").Scan(&path); err != nil || path != one {
		t.Errorf("search path %q, %v", path, err)
	}
	for _, statement := range []string{"CREATE TABLE notes (text text)", "INSERT INTO notes VALUES ('a')"} {
		if _, err := first.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"SELECT * FROM " + one + ".notes", "CREATE TABLE " + one + ".mine (a int)", "CREATE TABLE public.mine (a int)", "CREATE ROLE mine",
	} {
		if _, err := second.Exec(ctx, statement); !errors.Is(postgres.Error(b, statement, err), backend.ErrAuth) {
			t.Errorf("%s: got %v, want a refusal", statement, err)
		}
	}
	// Dropped with its contents; the other one stays.
	if err := errors.Join(tenants.DropSchema(ctx, one), tenants.DropRole(ctx, one)); err != nil {
		t.Fatal(err)
	}
	if _, err := tenants.Tenant(ctx, one); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := second.Exec(ctx, "CREATE TABLE notes (text text)"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(tenants.DropSchema(ctx, two), tenants.DropRole(ctx, two)); err != nil {
		t.Error(err)
	}
}
