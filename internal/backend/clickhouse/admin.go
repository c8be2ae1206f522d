// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/internal/sqltext"
)

const dialTimeout = 10 * time.Second

// Options returns clickhouse-go's options for the binding's server, with LZ4. Key protocol is http (if empty)
// or native. ErrInvalid names the invalid key.
func Options(b backend.Binding) (*ch.Options, error) {
	if err := b.Require("host", "port"); err != nil {
		return nil, err
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	protocol := ch.HTTP
	switch b.Extra["protocol"] {
	case "", "http":
	case "native":
		protocol = ch.Native
	default:
		return nil, fmt.Errorf("binding key %q: %q is neither http nor native: %w", "protocol", b.Extra["protocol"], backend.ErrInvalid)
	}
	return &ch.Options{
		Protocol: protocol, Addr: []string{b.Address()}, TLS: config, DialTimeout: dialTimeout,
		Auth:        ch.Auth{Database: b.Database, Username: b.Username, Password: b.Password},
		Compression: &ch.Compression{Method: ch.CompressionLZ4},
		ClientInfo:  ch.ClientInfo{Products: []struct{ Name, Version string }{{Name: "itechsmart"}}},
	}, nil
}

// Open returns a connection pool for connectors, in the binding's database, without connecting yet. Wrap its
// errors by Error.
func Open(b backend.Binding) (driver.Conn, error) {
	options, err := Options(b)
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(options)
	if err != nil {
		return nil, Error(b, "open", err)
	}
	return conn, nil
}

type admin struct {
	binding   backend.Binding
	conn      driver.Conn
	onCluster string
}

// New returns a client that connects on the first call. Key cluster makes every definition run on that cluster.
// ErrInvalid names the key that the binding lacks.
func New(b backend.Binding) (Admin, error) {
	a := &admin{binding: b}
	if cluster := b.Extra["cluster"]; cluster != "" {
		a.onCluster = " ON CLUSTER " + literal(cluster)
	}
	// The binding's database may not exist yet.
	b.Database = ""
	conn, err := Open(b)
	a.conn = conn
	return a, err
}

func (a *admin) Close() error { return a.conn.Close() }

// Error wraps a client's error in the matching sentinel; nil stays nil.
func Error(b backend.Binding, op string, err error) error {
	return b.Error("clickhouse: "+op, kindOf(err), err)
}

// kinds maps the server's error codes
// (https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp).
var kinds = map[int32]error{
	60: backend.ErrNotFound, 81: backend.ErrNotFound, 16: backend.ErrNotFound, 10: backend.ErrNotFound,
	57: backend.ErrExists, 82: backend.ErrExists, 15: backend.ErrExists,
	516: backend.ErrAuth, 192: backend.ErrAuth, 193: backend.ErrAuth, 194: backend.ErrAuth,
	195: backend.ErrAuth, 497: backend.ErrAuth, 164: backend.ErrAuth,
	3: backend.ErrUnavailable, 159: backend.ErrUnavailable, 201: backend.ErrUnavailable, 202: backend.ErrUnavailable,
	203: backend.ErrUnavailable, 209: backend.ErrUnavailable, 210: backend.ErrUnavailable, 225: backend.ErrUnavailable,
	236: backend.ErrUnavailable, 241: backend.ErrUnavailable, 242: backend.ErrUnavailable, 243: backend.ErrUnavailable,
	252: backend.ErrUnavailable, 279: backend.ErrUnavailable, 285: backend.ErrUnavailable, 319: backend.ErrUnavailable,
	394: backend.ErrUnavailable, 473: backend.ErrUnavailable, 999: backend.ErrUnavailable, 1000: backend.ErrUnavailable,
}

func kindOf(err error) error {
	var exception *ch.Exception
	if !errors.As(err, &exception) || exception.Code == 0 {
		return nil
	}
	if kind, ok := kinds[exception.Code]; ok {
		return kind
	}
	return backend.ErrInvalid
}

// within runs a call and abandons it when the context ends: the library's native handshake ignores the context.
func within[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	results := make(chan result, 1)
	go func() {
		value, err := call()
		results <- result{value, err}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (a *admin) exec(ctx context.Context, op, sql string) error {
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, a.conn.Exec(ctx, sql) })
	return Error(a.binding, op, err)
}

func (a *admin) Ping(ctx context.Context) (string, error) {
	version, err := within(ctx, func() (version string, err error) {
		err = a.conn.QueryRow(ctx, "SELECT version()").Scan(&version)
		return version, err
	})
	return version, Error(a.binding, "ping", err)
}

func (a *admin) EnsureDatabase(ctx context.Context, database string) error {
	if err := sqltext.Identifier("database", database, 0); err != nil {
		return err
	}
	op := "ensure database " + database
	n, err := within(ctx, func() (n uint64, err error) {
		err = a.conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = "+literal(database)).Scan(&n)
		return n, err
	})
	if err != nil {
		return Error(a.binding, op, err)
	}
	if n > 0 {
		return nil
	}
	return a.exec(ctx, op, "CREATE DATABASE IF NOT EXISTS "+Quote(database)+a.onCluster)
}

func (a *admin) Table(ctx context.Context, database, name string) (Table, error) {
	if err := validName(database, name); err != nil {
		return Table{}, err
	}
	table, err := within(ctx, func() (Table, error) { return a.read(ctx, database, name) })
	return table, Error(a.binding, "table "+database+"."+name, err)
}

func (a *admin) read(ctx context.Context, database, name string) (Table, error) {
	where := " WHERE database = " + literal(database) + " AND "
	table := Table{Database: database, Name: name}
	var full string
	rows, err := a.conn.Query(ctx, "SELECT engine_full, sorting_key, partition_key, comment FROM system.tables"+where+"name = "+literal(name))
	err = each(rows, err, func() error {
		return rows.Scan(&full, &table.OrderBy, &table.PartitionBy, &table.Comment)
	})
	if err == nil && full == "" {
		err = backend.ErrNotFound
	}
	if err != nil {
		return Table{}, err
	}
	parts := clauses(full)
	// The server quotes an engine whose name is a keyword.
	table.Engine, table.TTL = strings.ReplaceAll(parts[""], "`", ""), parts["TTL"]

	rows, err = a.conn.Query(ctx, "SELECT name, type, default_kind, default_expression FROM system.columns"+where+"table = "+literal(name)+" ORDER BY position")
	err = each(rows, err, func() error {
		var column Column
		var kind string
		if err := rows.Scan(&column.Name, &column.Type, &kind, &column.Default); err != nil {
			return err
		}
		if kind != "" && kind != "DEFAULT" {
			column.Default = strings.TrimSpace(kind + " " + column.Default)
		}
		table.Columns = append(table.Columns, column)
		return nil
	})
	return table, err
}

// each scans every row and closes the rows.
func each(rows driver.Rows, err error, scan func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (a *admin) CreateTable(ctx context.Context, table Table) error {
	if err := table.validate(); err != nil {
		return err
	}
	return a.exec(ctx, "create table "+table.Database+"."+table.Name, table.create(a.onCluster))
}

// alter runs ALTER TABLE with the given actions.
func (a *admin) alter(ctx context.Context, what, database, table string, actions ...string) error {
	if err := validName(database, table); err != nil {
		return err
	}
	return a.exec(ctx, what+" of table "+database+"."+table,
		"ALTER TABLE "+Quote(database)+"."+Quote(table)+a.onCluster+" "+strings.Join(actions, ", "))
}

func (a *admin) AddColumns(ctx context.Context, database, table string, columns []Column) error {
	actions := make([]string, len(columns))
	for i, column := range columns {
		if err := column.validate(); err != nil {
			return err
		}
		actions[i] = "ADD COLUMN IF NOT EXISTS " + column.sql()
	}
	if len(actions) == 0 {
		return nil
	}
	return a.alter(ctx, "add columns", database, table, actions...)
}

func (a *admin) ModifyColumn(ctx context.Context, database, table string, column Column) error {
	if err := column.validate(); err != nil {
		return err
	}
	if column.Default != "" {
		return a.alter(ctx, "modify column "+column.Name, database, table, "MODIFY COLUMN "+column.sql())
	}
	// If the default is not mentioned, the server keeps the existing one.
	got, err := a.Table(ctx, database, table)
	if err != nil {
		return err
	}
	for _, is := range got.Columns {
		if is.Name != column.Name || is.Default == "" {
			continue
		}
		kind, _ := is.split()
		if err := a.alter(ctx, "modify column "+column.Name, database, table,
			"MODIFY COLUMN "+Quote(column.Name)+" REMOVE "+kind); err != nil {
			return err
		}
	}
	return a.alter(ctx, "modify column "+column.Name, database, table, "MODIFY COLUMN "+column.sql())
}

func (a *admin) ModifyTTL(ctx context.Context, database, table, ttl string) error {
	if ttl != "" {
		if err := sqltext.Expression("ttl", ttl, true, clause...); err != nil {
			return err
		}
		return a.alter(ctx, "modify ttl", database, table, "MODIFY TTL "+ttl)
	}
	got, err := a.Table(ctx, database, table)
	if err != nil || got.TTL == "" {
		return err
	}
	return a.alter(ctx, "remove ttl", database, table, "REMOVE TTL")
}

func (a *admin) SetComment(ctx context.Context, database, table, comment string) error {
	return a.alter(ctx, "set comment", database, table, "MODIFY COMMENT "+literal(comment))
}

func (a *admin) DropTable(ctx context.Context, database, name string) error {
	if err := validName(database, name); err != nil {
		return err
	}
	return a.exec(ctx, "drop table "+database+"."+name,
		"DROP TABLE "+Quote(database)+"."+Quote(name)+a.onCluster+" SYNC")
}
