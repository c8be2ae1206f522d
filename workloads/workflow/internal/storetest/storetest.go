// SPDX-License-Identifier: Apache-2.0

// Package storetest gives each test its own database with Workflow's tables.
package storetest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// Database returns an empty schema.
func Database(t testing.TB) config.Database {
	t.Helper()
	b, schema := servers.Schema(t)
	return config.Database{Binding: b.Data(), Schema: schema, MinConnections: 1, MaxConnections: 10}
}

// Pool returns a connection pool to a new schema with all tables.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(context.WithoutCancel(t.Context()), Database(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := db.Migrate(t.Context(), pool, store.Migrations, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return pool
}
