// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// migrationLock is how long a migration waits for locks that requests hold: later requests queue behind it.
const migrationLock = 20 * time.Second

var fileForm = regexp.MustCompile(`^[0-9]{5}_([a-z][a-z0-9_]{0,40})\.sql$`)

// Migrate applies the missing goose migrations of a set: files NNNNN_name.sql at the top of files or in its folder
// "migrations". Replicas that start together take turns. A schema may have several sets: the first file's name, which
// must never change, names the set and its table of versions.
func Migrate(ctx context.Context, pool *pgxpool.Pool, files fs.FS, log *slog.Logger) error {
	set, err := readSet(files)
	if err != nil {
		return err
	}
	settings := pool.Config().ConnConfig
	params := map[string]string{}
	for key, value := range settings.RuntimeParams {
		params[key] = value
	}
	params["statement_timeout"], params["lock_timeout"] = "0", milliseconds(migrationLock)
	settings.RuntimeParams = params
	connections := stdlib.OpenDB(*settings)
	defer connections.Close() //nolint:errcheck // nothing is written by closing
	connections.SetMaxOpenConns(2)

	if err := set.apply(ctx, connections, log); err != nil {
		return fmt.Errorf("migrate %s: %w", set.name, err)
	}
	return nil
}

// migrationSet is one series of migrations.
type migrationSet struct {
	name        string
	files       fs.FS
	fingerprint string // of the first file
}

func (s migrationSet) table() string { return "goose_" + s.name }

func readSet(files fs.FS) (migrationSet, error) {
	if info, err := fs.Stat(files, "migrations"); err == nil && info.IsDir() {
		if files, err = fs.Sub(files, "migrations"); err != nil {
			return migrationSet{}, fmt.Errorf("open migrations: %w", err)
		}
	}
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil || len(names) == 0 {
		return migrationSet{}, errors.Join(errors.New("there is no migration"), err)
	}
	for _, name := range names {
		if !fileForm.MatchString(name) {
			return migrationSet{}, fmt.Errorf("migration %s is not named as %s", name, "00001_name.sql")
		}
	}
	first, err := fs.ReadFile(files, names[0])
	if err != nil {
		return migrationSet{}, fmt.Errorf("read migration: %w", err)
	}
	sum := sha256.Sum256(first)
	return migrationSet{name: fileForm.FindStringSubmatch(names[0])[1], files: files, fingerprint: hex.EncodeToString(sum[:])}, nil
}

// apply holds a transaction-level lock while goose works on another connection: it ends with the connection, and works
// with poolers without sessions.
func (s migrationSet) apply(ctx context.Context, connections *sql.DB, log *slog.Logger) error {
	turn, err := connections.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer turn.Rollback() //nolint:errcheck // it only held the lock
	_, err = turn.ExecContext(ctx, "SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
	if err == nil {
		_, err = turn.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/' || $1, 0))", s.table())
	}
	if err != nil {
		return fmt.Errorf("wait for the turn: %w", err)
	}
	if err := s.check(ctx, connections); err != nil {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, s.table())
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectCustom, connections, s.files, goose.WithStore(store))
	if err != nil {
		return err
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		log.InfoContext(ctx, "migrated the schema", "migration", r.Source.Path, "duration", r.Duration.String())
	}
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return fmt.Errorf("%s: %w", partial.Failed.Source.Path, partial.Err)
	}
	if err != nil {
		return err
	}
	_, err = connections.ExecContext(ctx, "COMMENT ON TABLE "+pgx.Identifier{s.table()}.Sanitize()+" IS '"+s.fingerprint+"'")
	if err != nil {
		return fmt.Errorf("mark the set: %w", err)
	}
	return nil
}

// check refuses a version table of another set with the same name: goose would treat this set's migrations as applied.
func (s migrationSet) check(ctx context.Context, connections *sql.DB) error {
	var comment sql.NullString
	err := connections.QueryRowContext(ctx, "SELECT obj_description(to_regclass($1), 'pg_class')", s.table()).Scan(&comment)
	if err != nil {
		return fmt.Errorf("look up the versions: %w", err)
	}
	if comment.Valid && !strings.EqualFold(comment.String, s.fingerprint) {
		return fmt.Errorf("the first migration differs from the one that was applied: it was changed, or two sets are named %q", s.name)
	}
	return nil
}
