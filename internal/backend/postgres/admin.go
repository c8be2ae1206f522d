// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
)

const dialTimeout = 10 * time.Second

// Config returns pgx's configuration for the binding's database, for callers that tune the pool. PG* variables
// are ignored. ErrInvalid names the invalid key.
func Config(b backend.Binding) (*pgxpool.Config, error) {
	if err := b.Require("host", "port", "username", "database"); err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(b.Port, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("binding key %q: %q is not a port: %w", "port", b.Port, backend.ErrInvalid)
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	if config != nil && config.ServerName == "" {
		config.ServerName = b.Host
	}
	pool, err := pgxpool.ParseConfig("host=localhost user=none dbname=none password=none sslmode=disable passfile='' servicefile=''")
	if err != nil {
		return nil, fmt.Errorf("binding: %w", backend.ErrInvalid)
	}
	c := pool.ConnConfig
	c.Host, c.Port, c.User, c.Password, c.Database = b.Host, uint16(port), b.Username, b.Password, b.Database
	c.TLSConfig, c.Fallbacks, c.ConnectTimeout = config, nil, dialTimeout
	c.RuntimeParams = map[string]string{"application_name": "itechsmart"}
	return pool, nil
}

// Open returns a pool on the binding's database, without connecting yet. Wrap its errors by Error.
func Open(ctx context.Context, b backend.Binding) (*pgxpool.Pool, error) {
	config, err := Config(b)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	return pool, Error(b, "open", err)
}

type admin struct {
	binding backend.Binding
	pool    *pgxpool.Pool
}

// maxConns limits an administrator's connections.
const maxConns = 4

// New returns a client that connects on the first call. ErrInvalid names the key that the binding lacks.
func New(b backend.Binding) (Admin, error) {
	config, err := Config(b)
	if err != nil {
		return nil, err
	}
	config.MaxConns = maxConns
	config.MaxConnIdleTime = time.Minute
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, Error(b, "open", err)
	}
	return &admin{binding: b, pool: pool}, nil
}

func (a *admin) Close() error {
	a.pool.Close()
	return nil
}

// Error wraps a client's error in the matching sentinel; nil stays nil.
func Error(b backend.Binding, op string, err error) error {
	return b.Error("postgres: "+op, kindOf(err), err)
}

// states maps SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html).
var states = map[string]error{
	"42P01": backend.ErrNotFound, "3F000": backend.ErrNotFound, "42704": backend.ErrNotFound,
	"42703": backend.ErrNotFound, "3D000": backend.ErrNotFound, "42883": backend.ErrNotFound,
	"42P07": backend.ErrExists, "42P06": backend.ErrExists, "42710": backend.ErrExists,
	"42701": backend.ErrExists, "42P04": backend.ErrExists, "23505": backend.ErrExists,
	"42501": backend.ErrAuth, "55P03": backend.ErrUnavailable, "25006": backend.ErrUnavailable,
}

func kindOf(err error) error {
	var answer *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return backend.ErrNotFound
	case !errors.As(err, &answer):
		return nil
	}
	if kind, ok := states[answer.Code]; ok {
		return kind
	}
	switch answer.Code[:min(2, len(answer.Code))] {
	case "28":
		return backend.ErrAuth
	case "08", "40", "53", "57", "58", "XX":
		return backend.ErrUnavailable
	}
	return backend.ErrInvalid
}

func (a *admin) exec(ctx context.Context, op string, statements ...string) error {
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	return Error(a.binding, op, err)
}

func (a *admin) Ping(ctx context.Context) (string, error) {
	var version string
	err := a.pool.QueryRow(ctx, "SHOW server_version").Scan(&version)
	// Distributions append their own: "15.20 (Debian …)".
	version, _, _ = strings.Cut(version, " ")
	return version, Error(a.binding, "ping", err)
}

func (a *admin) Schema(ctx context.Context, name string) (Schema, error) {
	if err := validSchema(name); err != nil {
		return Schema{}, err
	}
	schema := Schema{Name: name}
	err := a.pool.QueryRow(ctx, `SELECT pg_get_userbyid(nspowner), coalesce(obj_description(oid, 'pg_namespace'), '')
		FROM pg_namespace WHERE nspname = $1`, name).Scan(&schema.Owner, &schema.Comment)
	if err != nil {
		return Schema{}, Error(a.binding, "schema "+name, err)
	}
	return schema, nil
}

func (a *admin) EnsureSchema(ctx context.Context, schema, owner string) error {
	if owner != "" {
		if err := validRole(owner); err != nil {
			return err
		}
	}
	op := "ensure schema " + schema
	got, err := a.Schema(ctx, schema)
	switch {
	case err == nil && (owner == "" || got.Owner == owner):
		return nil
	case err == nil:
		return Error(a.binding, op, fmt.Errorf("%w: it belongs to %s, not to %s", backend.ErrExists, got.Owner, owner))
	case !errors.Is(err, backend.ErrNotFound):
		return err
	}
	if owner == "" {
		return a.exec(ctx, op, "CREATE SCHEMA "+Quote(schema))
	}
	statements := []string{"CREATE SCHEMA " + Quote(schema) + " AUTHORIZATION " + Quote(owner)}
	super, err := a.superuser(ctx)
	if err != nil {
		return Error(a.binding, op, err)
	}
	if !super {
		// Only a member can transfer ownership to a role.
		statements = append([]string{"GRANT " + Quote(owner) + " TO CURRENT_USER"}, statements...)
	}
	return a.exec(ctx, op, statements...)
}

func (a *admin) superuser(ctx context.Context) (super bool, err error) {
	err = a.pool.QueryRow(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&super)
	return super, err
}

// describe reads a table's oid and comment.
const describe = `SELECT c.oid, coalesce(obj_description(c.oid, 'pg_class'), '')
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`

const describeColumns = `SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), '')
	FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

const describeKey = `SELECT a.attname FROM pg_index i
	CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
	JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
	WHERE i.indrelid = $1 AND i.indisprimary ORDER BY k.position`

func (a *admin) Table(ctx context.Context, schema, name string) (Table, error) {
	if err := validTable(schema, name); err != nil {
		return Table{}, err
	}
	table := Table{Schema: schema, Name: name}
	err := pgx.BeginTxFunc(ctx, a.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var oid uint32
		if err := tx.QueryRow(ctx, describe, schema, name).Scan(&oid, &table.Comment); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, describeColumns, oid) // CollectRows returns the error
		var err error
		if table.Columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Column]); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, describeKey, oid)
		table.PrimaryKey, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return Table{}, Error(a.binding, "table "+schema+"."+name, err)
	}
	return table, nil
}

func (a *admin) CreateTable(ctx context.Context, table Table) error {
	if err := table.validate(); err != nil {
		return err
	}
	statements := []string{table.create()}
	if table.Comment != "" {
		statements = append(statements, "COMMENT ON TABLE "+Quote(table.Schema, table.Name)+" IS "+literal(table.Comment))
	}
	return unknownType(a.exec(ctx, "create table "+table.Schema+"."+table.Name, statements...))
}

// unknownType turns a missing type into ErrInvalid: it will not appear.
func unknownType(err error) error {
	if errors.Is(err, backend.ErrNotFound) && strings.Contains(err.Error(), "type ") {
		return fmt.Errorf("%w: %s", backend.ErrInvalid, err.Error())
	}
	return err
}

func (a *admin) AddColumns(ctx context.Context, schema, table string, columns []Column) error {
	if err := validTable(schema, table); err != nil || len(columns) == 0 {
		return err
	}
	actions := make([]string, len(columns))
	for i, column := range columns {
		if err := column.validate(); err != nil {
			return err
		}
		actions[i] = "ADD COLUMN IF NOT EXISTS " + column.sql()
	}
	return unknownType(a.exec(ctx, "add columns to "+schema+"."+table,
		"ALTER TABLE "+Quote(schema, table)+" "+strings.Join(actions, ", ")))
}

func (a *admin) SetComment(ctx context.Context, schema, table, comment string) error {
	if err := validSchema(schema); err != nil {
		return err
	}
	if table == "" {
		return a.exec(ctx, "set comment of schema "+schema, "COMMENT ON SCHEMA "+Quote(schema)+" IS "+literal(comment))
	}
	if err := validTable(schema, table); err != nil {
		return err
	}
	return a.exec(ctx, "set comment of "+schema+"."+table, "COMMENT ON TABLE "+Quote(schema, table)+" IS "+literal(comment))
}

func (a *admin) DropTable(ctx context.Context, schema, name string) error {
	if err := validTable(schema, name); err != nil {
		return err
	}
	return a.exec(ctx, "drop table "+schema+"."+name, "DROP TABLE "+Quote(schema, name))
}

func (a *admin) DropSchema(ctx context.Context, name string) error {
	if err := validSchema(name); err != nil {
		return err
	}
	return a.exec(ctx, "drop schema "+name, "DROP SCHEMA "+Quote(name)+" CASCADE")
}
