// SPDX-License-Identifier: Apache-2.0

// Package benchmarks measures Vault's core without its REST service: the cryptography of a value of 256 bytes, and
// durable writes and reads at the store. Bare SQL of the same size is measured in the same run for comparison.
package benchmarks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	valueBytes = 256
	secrets    = 10_000
	// clients is the number of concurrent clients per processor: those above the pool's 20 connections have to wait.
	clients = 16
)

var (
	value    = wire.Value{wire.FieldText: bytes.Repeat([]byte("x"), valueBytes)}
	write    = wire.Write{Type: wire.TypeText, Value: value}
	schemas  atomic.Int64
	binding  = keyring.Binding{Namespace: "bench", Path: "db/password", Version: 1, Type: wire.TypeText}
	dataName = keyring.Label{ID: "2f1c1d0e-0000-4000-8000-000000000000", Namespace: "bench", Purpose: keyring.PurposeSecret, Subject: "db/password"}
)

// BenchmarkUnseal measures PBKDF2 at its real cost, once per start.
func BenchmarkUnseal(b *testing.B) {
	for b.Loop() {
		root, _, err := keyring.NewRoot([]byte("passphrase"), 1)
		if err != nil {
			b.Fatal(err)
		}
		root.Close()
	}
}

// BenchmarkSeal256 encodes and encrypts one value, its data key wrapped in the database.
func BenchmarkSeal256(b *testing.B) {
	root, wrapped, _ := sealed(b)
	b.SetBytes(valueBytes)
	b.ReportAllocs()
	for b.Loop() {
		key, err := root.Unwrap(dataName, wrapped)
		if err != nil {
			b.Fatal(err)
		}
		plaintext, err := material.Encode(value)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := key.Seal(binding, plaintext); err != nil {
			b.Fatal(err)
		}
		key.Close()
	}
}

// BenchmarkOpen256 unwraps the data key, decrypts and decodes one value: the cost of a read besides the database.
func BenchmarkOpen256(b *testing.B) {
	root, wrapped, ciphertext := sealed(b)
	b.SetBytes(valueBytes)
	b.ReportAllocs()
	for b.Loop() {
		key, err := root.Unwrap(dataName, wrapped)
		if err != nil {
			b.Fatal(err)
		}
		plaintext, err := key.Open(binding, ciphertext)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := material.Decode(plaintext); err != nil {
			b.Fatal(err)
		}
		key.Close()
	}
}

func sealed(b *testing.B) (root *keyring.Root, wrapped, ciphertext []byte) {
	b.Helper()
	root, _, err := keyring.NewRoot([]byte("passphrase"), 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(root.Close)
	key := keyring.NewDataKey()
	if wrapped, err = root.Wrap(dataName, key); err != nil {
		b.Fatal(err)
	}
	plaintext, err := material.Encode(value)
	if err != nil {
		b.Fatal(err)
	}
	if ciphertext, err = key.Seal(binding, plaintext); err != nil {
		b.Fatal(err)
	}
	return root, wrapped, ciphertext
}

// open returns an unsealed vault on a schema of its own, with the service's pool of 20 connections.
func open(b *testing.B) (store.Vault, *pgxpool.Pool) {
	b.Helper()
	server := servers.Postgres(b)
	schema := fmt.Sprintf("bench_%d", schemas.Add(1))
	admin, err := pgx.Connect(b.Context(), fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable",
		server.Host, server.Port, server.Username, server.Password, server.Database))
	if err != nil {
		b.Fatal(err)
	}
	defer admin.Close(context.Background()) //nolint:errcheck // the benchmark's own
	var fsync, commit string
	if err := admin.QueryRow(b.Context(), `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit); err != nil {
		b.Fatal(err)
	}
	if fsync != "on" || commit != "on" {
		b.Fatalf("writes are not durable: fsync %s, synchronous_commit %s", fsync, commit)
	}
	if _, err := admin.Exec(b.Context(), "CREATE SCHEMA "+schema); err != nil {
		b.Fatal(err)
	}
	pool, err := db.Open(context.Background(), config.Database{Binding: server.Data(), Schema: schema}, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_, _ = pool.Exec(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
		pool.Close()
	})
	if err := db.Migrate(b.Context(), pool, store.Migrations, slog.New(slog.NewTextHandler(io.Discard, nil))); err != nil {
		b.Fatal(err)
	}
	v := store.New(pool, store.Options{Namespace: "bench"})
	if err := v.Open(b.Context(), []byte("passphrase")); err != nil {
		b.Fatal(err)
	}
	return v, pool
}

func path(n int64) string { return fmt.Sprintf("s/%05d", n) }

// fill creates n secrets.
func fill(b *testing.B, v store.Vault, n int64) {
	b.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for range 2 * clients {
		group.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				if _, err := v.Create(b.Context(), path(i), write, "bench"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// concurrently runs an operation by many clients at once, and reports operations per second.
func concurrently(b *testing.B, operation func(n int64) error) {
	b.Helper()
	var next atomic.Int64
	b.SetParallelism(clients)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := operation(next.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// BenchmarkDurableWrites adds versions of 1,000 secrets; "SQL" inserts rows of the same size, one per transaction.
func BenchmarkDurableWrites(b *testing.B) {
	v, pool := open(b)
	const spread = 1000
	fill(b, v, spread)
	if _, err := pool.Exec(b.Context(), `CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), valueBytes+50)
	b.Run("Put", func(b *testing.B) {
		concurrently(b, func(n int64) error {
			_, err := v.Put(b.Context(), path(n%spread), write, "bench")
			return err
		})
	})
	b.Run("Create", func(b *testing.B) {
		run := schemas.Add(1)
		concurrently(b, func(n int64) error {
			_, err := v.Create(b.Context(), fmt.Sprintf("c%d/%d", run, n), write, "bench")
			return err
		})
	})
	b.Run("SQL", func(b *testing.B) {
		concurrently(b, func(int64) error {
			_, err := pool.Exec(b.Context(), `INSERT INTO bare (data) VALUES ($1)`, data)
			return err
		})
	})
}

// BenchmarkReads reads from 10,000 secrets; "SQL" selects the row of a version by its key.
func BenchmarkReads(b *testing.B) {
	v, pool := open(b)
	fill(b, v, secrets)
	if _, err := pool.Exec(b.Context(), `ANALYZE`); err != nil {
		b.Fatal(err)
	}
	b.Run("Read", func(b *testing.B) {
		concurrently(b, func(n int64) error {
			_, err := v.Read(b.Context(), path(n*7919%secrets), 0)
			return err
		})
	})
	b.Run("SQL", func(b *testing.B) {
		concurrently(b, func(n int64) error {
			var data []byte
			return pool.QueryRow(b.Context(), `SELECT ciphertext FROM versions WHERE secret_id = $1 AND version = 1`, n*7919%secrets+1).Scan(&data)
		})
	})
	b.Run("List100", func(b *testing.B) {
		concurrently(b, func(n int64) error {
			_, _, err := v.List(b.Context(), store.ListOptions{After: path(n * 7919 % secrets), Limit: 100})
			return err
		})
	})
}

// BenchmarkVersions reads and lists a secret with ten versions, and one with 1,000.
func BenchmarkVersions(b *testing.B) {
	v, pool := open(b)
	for _, versions := range []int{10, 1000} {
		secret := fmt.Sprintf("v/%d", versions)
		if _, err := v.Create(b.Context(), secret, write, "bench"); err != nil {
			b.Fatal(err)
		}
		for range versions - 1 {
			if _, err := v.Put(b.Context(), secret, write, "bench"); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := pool.Exec(b.Context(), `ANALYZE`); err != nil {
		b.Fatal(err)
	}
	for _, versions := range []int{10, 1000} {
		secret := fmt.Sprintf("v/%d", versions)
		b.Run(fmt.Sprintf("Read/%d", versions), func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Read(b.Context(), secret, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("List10/%d", versions), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := v.Versions(b.Context(), secret, store.VersionsOptions{Limit: 10}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
