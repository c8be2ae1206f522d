// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	passphrase = "correct horse battery staple"
	namespace  = "team-a"
	// cheap is a cost of PBKDF2 that allows tests to unseal often. Package keyring tests the real one.
	cheap = 1000
)

// openPool returns a migrated schema of the test's own.
func openPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	binding, schema := servers.Schema(t)
	c := config.Database{Binding: binding.Data(), Schema: schema, MinConnections: 1, MaxConnections: 10}
	pool, err := db.Open(context.Background(), c, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := db.Migrate(t.Context(), pool, Migrations, slog.New(slog.NewTextHandler(io.Discard, nil))); err != nil {
		t.Fatal(err)
	}
	return pool
}

func options(ns string) Options {
	return Options{Namespace: ns, RewrapBatch: 3, RetireAfter: -1, iterations: cheap}
}

// replica returns another process on the same schema.
func replica(t testing.TB, pool *pgxpool.Pool, ns string) Vault {
	t.Helper()
	v := New(pool, options(ns))
	if err := v.Open(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	return v
}

func newVault(t testing.TB) (Vault, *pgxpool.Pool) {
	t.Helper()
	pool := openPool(t)
	return replica(t, pool, namespace), pool
}

func text(value string) wire.Value { return wire.Value{wire.FieldText: []byte(value)} }

func textWrite(value string) wire.Write { return wire.Write{Type: wire.TypeText, Value: text(value)} }

func mustCreate(t testing.TB, v Vault, path, value string) wire.Secret {
	t.Helper()
	s, err := v.Create(t.Context(), path, textWrite(value), "ada")
	if err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
	return s
}

func mustPut(t testing.TB, v Vault, path, value string) wire.Secret {
	t.Helper()
	s, err := v.Put(t.Context(), path, textWrite(value), "ada")
	if err != nil {
		t.Fatalf("put %s: %v", path, err)
	}
	return s
}

func wantText(t testing.TB, v Vault, path string, version int64, want string) {
	t.Helper()
	r, err := v.Read(t.Context(), path, version)
	if err != nil {
		t.Fatalf("read %s@%d: %v", path, version, err)
	}
	if got := string(r.Value[wire.FieldText]); got != want {
		t.Fatalf("%s@%d differs from the value that was written (%d bytes, want %d)", path, version, len(got), len(want))
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func wantField(t testing.TB, what string, err error, field string) {
	t.Helper()
	var f *material.FieldError
	if !errors.Is(err, ErrInvalid) || !errors.As(err, &f) {
		t.Errorf("%s: %v, want a field error", what, err)
	} else if f.Field != field {
		t.Errorf("%s: field %q, want %q", what, f.Field, field)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int64 {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

func ptr[T any](v T) *T { return &v }

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
