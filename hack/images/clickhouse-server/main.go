// SPDX-License-Identifier: Apache-2.0

// Command clickhouse-server serves ClickHouse's HTTP interface with the real engine, through libchdb. It reads the
// environment of the official image: CLICKHOUSE_USER, CLICKHOUSE_PASSWORD, CLICKHOUSE_DB.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/httpapi"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse-server:", err)
		os.Exit(1)
	}
	// The engine is not shut down: everything acknowledged is on disk, and libchdb may abort on exit.
	os.Exit(0)
}

type options struct {
	engine  engine.Options
	listen  string
	drain   time.Duration
	user    string
	secret  string
	initial string
}

func parse() (options, error) {
	var o options
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	flag.StringVar(&o.engine.Library, "library", env("CHDB_LIBRARY", filepath.Join(filepath.Dir(self), "libchdb.so")), "path of libchdb.so")
	flag.StringVar(&o.engine.Path, "path", env("CLICKHOUSE_PATH", "/var/lib/clickhouse"), "data directory")
	flag.IntVar(&o.engine.Connections, "connections", 16, "statements that run at once; more wait")
	flag.StringVar(&o.listen, "listen", env("CLICKHOUSE_LISTEN", ":8123"), "address of the HTTP interface")
	flag.DurationVar(&o.drain, "drain", 60*time.Second, "how long running queries may take to end on SIGTERM")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	o.user = env("CLICKHOUSE_USER", "default")
	o.initial = os.Getenv("CLICKHOUSE_DB")
	o.secret = os.Getenv("CLICKHOUSE_PASSWORD")
	if file := os.Getenv("CLICKHOUSE_PASSWORD_FILE"); file != "" {
		if o.secret != "" {
			return o, errors.New("CLICKHOUSE_PASSWORD and CLICKHOUSE_PASSWORD_FILE are mutually exclusive")
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return o, fmt.Errorf("CLICKHOUSE_PASSWORD_FILE: %w", err)
		}
		o.secret = strings.TrimRight(string(content), "\r\n")
	}
	return o, nil
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	started := time.Now()
	db, err := engine.Open(o.engine)
	if err != nil {
		return err
	}
	if err := createDatabase(db, o.initial); err != nil {
		return fmt.Errorf("CLICKHOUSE_DB: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "clickhouse"
	}
	api := &httpapi.Server{Engine: db, Credentials: httpapi.Credentials{User: o.user, Password: o.secret}, DisplayName: name, Log: log}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: api.Handler(), ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("ready", "address", listener.Addr().String(), "clickhouse", db.Version, "chdb", engine.LibraryVersion(), "path", o.engine.Path, "took", time.Since(started).String())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	log.Info("draining")
	ctx, cancel := context.WithTimeout(context.Background(), o.drain)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("queries were still running after %s: %w", o.drain, err)
	}
	log.Info("stopped")
	return nil
}

// createDatabase creates the database of CLICKHOUSE_DB.
func createDatabase(db *engine.Engine, name string) error {
	if name == "" {
		return nil
	}
	conn, err := db.Acquire(context.Background(), engine.Session{Database: "default", Settings: map[string]string{}})
	if err != nil {
		return err
	}
	defer db.Release(conn)
	result, err := conn.Query("CREATE DATABASE IF NOT EXISTS "+engine.QuoteIdentifier(name), "Null", nil)
	if err != nil {
		return err
	}
	result.Free()
	return nil
}
