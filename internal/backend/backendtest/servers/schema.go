// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"net"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
)

// Schema creates a schema of the test's own in the shared PostgreSQL.
func Schema(t testing.TB) (b backend.Binding, name string) {
	t.Helper()
	b = Postgres(t)
	return b, SchemaOn(t, b)
}

// SchemaOn creates one on a server.
func SchemaOn(t testing.TB, b backend.Binding) (name string) {
	t.Helper()
	name = backendtest.Name("schema")
	u := url.URL{Scheme: "postgres", User: url.UserPassword(b.Username, b.Password), Host: net.JoinHostPort(b.Host, b.Port), Path: b.Database, RawQuery: "sslmode=disable"}
	admin, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test's own
	if _, err := admin.Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return name
}
