// SPDX-License-Identifier: Apache-2.0

// Package db opens a service's pool on its schema in PostgreSQL, migrates the schema and retries transactions that
// conflict with others.
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/binding"
)

const (
	minConns = 10
	maxConns = 20

	dialTimeout = 10 * time.Second
	// Limits of a request; migrations have their own.
	statementTimeout = 10 * time.Second
	lockTimeout      = 5 * time.Second
	idleTransaction  = 30 * time.Second
)

// attempts is how often InTx runs a conflicting transaction.
const attempts = 5

// ErrConfig means that the database's settings are invalid; a retry does not help.
var ErrConfig = errors.New("invalid database settings")

var schemaForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Open returns a pool of 10 to 20 connections (or as c specifies) whose search path is only the schema. It does not
// connect yet: the server may start later. Errors wrap ErrConfig and contain no credential.
func Open(ctx context.Context, c config.Database, applicationName string) (*pgxpool.Pool, error) {
	settings, err := poolConfig(c, applicationName)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("open the pool on schema %s: %w: %w", c.Schema, ErrConfig, err)
	}
	return pool, nil
}

// poolConfig ignores PG* variables.
func poolConfig(c config.Database, applicationName string) (*pgxpool.Config, error) {
	if !schemaForm.MatchString(c.Schema) {
		return nil, fmt.Errorf("schema %q: %w", c.Schema, ErrConfig)
	}
	if err := binding.Require(c.Binding, "host", "port", "username", "database"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	port, err := binding.Port(c.Binding)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	encryption, err := binding.TLS(c.Binding)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	pool, err := pgxpool.ParseConfig("host=localhost user=none dbname=none password=none sslmode=disable passfile='' servicefile=''")
	if err != nil {
		return nil, fmt.Errorf("binding: %w: %w", ErrConfig, err)
	}
	conn := pool.ConnConfig
	conn.Host, conn.Port, conn.Database = c.Binding["host"], port, c.Binding["database"]
	conn.User, conn.Password = c.Binding["username"], c.Binding["password"]
	conn.TLSConfig, conn.Fallbacks, conn.ConnectTimeout = encryption, nil, dialTimeout
	conn.RuntimeParams = map[string]string{
		"application_name":                    applicationName,
		"search_path":                         pgx.Identifier{c.Schema}.Sanitize(),
		"statement_timeout":                   milliseconds(statementTimeout),
		"lock_timeout":                        milliseconds(lockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(idleTransaction),
		"timezone":                            "UTC",
	}
	pool.MinConns, pool.MaxConns = minConns, maxConns
	if c.MaxConnections > 0 {
		pool.MaxConns = c.MaxConnections
	}
	if c.MinConnections > 0 {
		pool.MinConns = c.MinConnections
	}
	pool.MinConns = min(pool.MinConns, pool.MaxConns)
	pool.MaxConnLifetime, pool.MaxConnLifetimeJitter = time.Hour, 10*time.Minute
	pool.MaxConnIdleTime, pool.HealthCheckPeriod = 10*time.Minute, 15*time.Second
	return pool, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// InTx runs do in a transaction, and again, up to five times, if the server aborted it for a serialization failure or a
// deadlock: do must not do anything outside the transaction that cannot be repeated.
func InTx(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, pool, do)
		if err == nil || attempt == attempts || !lostRace(err) {
			return err
		}
		wait := time.Duration(attempt*10)*time.Millisecond + rand.N(20*time.Millisecond)
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// lostRace reports a serialization failure (40001) or a deadlock (40P01).
func lostRace(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && (server.Code == "40001" || server.Code == "40P01")
}

// IsUnique reports whether err is a violation of the named constraint; of any if it is empty.
func IsUnique(err error, constraint string) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == "23505" && (constraint == "" || server.ConstraintName == constraint)
}

// Unavailable reports whether the database cannot be reached, or cannot write now: retry later.
func Unavailable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "57P"):
			return true
		case e.Code == "57014", e.Code == "55P03", e.Code == "40001", e.Code == "40P01", e.Code == "25006": // time-outs, lost races, a standby
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return !errors.Is(err, context.Canceled)
	}
	return pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
